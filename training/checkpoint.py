"""What resuming needs, in two files that execute nothing: state.safetensors and state.json.

A checkpoint is a folder `step-<n>` that appears whole by a rename, so SIGKILL at any moment leaves the last
good one. It holds no random state (see training.seeding) and no times: the same step gives the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from recognition.backbones import Model
from training.loss_log import LossLog

logger = logging.getLogger(__name__)

_PREFIX = "step-"
_HALF_WRITTEN = "half-written"


@dataclass(frozen=True)
class Learner:
    """The three things that change while training; a checkpoint holds all of each."""

    model: Model
    optimizer: Optimizer
    loss_log: LossLog


class Checkpoints:
    """The checkpoints of one phase in one folder; only the newest is kept.

    `identity` says what must be equal for a resumed run to give the same bits: fingerprint, inputs, torch
    version, device, precision, threads.
    """

    def __init__(self, folder: Path, *, identity: Mapping[str, str]) -> None:
        self.folder = folder
        self.identity = dict(identity)

    def save(self, learner: Learner, *, step: int, progress: Mapping[str, Any]) -> None:
        """Write the state after `step` steps, remove older checkpoints. progress: plain JSON values."""
        half_written = self.folder / _HALF_WRITTEN
        shutil.rmtree(half_written, ignore_errors=True)
        half_written.mkdir(parents=True)
        tensors, optimizer_values = _tensors_of(learner)
        text = json.dumps(
            {"identity": self.identity, "step": step, "progress": progress, "optimizer": optimizer_values},
            indent=1,
        )
        save_file(tensors, half_written / "state.safetensors")
        (half_written / "state.json").write_text(text + "\n", encoding="utf-8")
        for path in (*half_written.iterdir(), half_written):
            _flush_to_disk(path)
        target = self.folder / f"{_PREFIX}{step:09d}"
        shutil.rmtree(target, ignore_errors=True)
        half_written.rename(target)
        _flush_to_disk(self.folder)
        for older in self._complete():
            if older != target:
                shutil.rmtree(older)

    def restore(self, learner: Learner) -> tuple[int, dict[str, Any]] | None:
        """Load the newest checkpoint into the learner; returns (step, progress), or None for a fresh start.

        A checkpoint that is unreadable, or whose identity differs, is removed after one line that says why.
        """
        for path in reversed(self._complete()):
            try:
                values = json.loads((path / "state.json").read_text(encoding="utf-8"))
                problem = self._difference(values["identity"])
                if problem is None:
                    _load_tensors(learner, load_file(path / "state.safetensors"), values["optimizer"])
                    return values["step"], values["progress"]
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                problem = f"it cannot be read ({error})"
            logger.warning("Checkpoint %s is not resumed, %s: starting afresh.", path, problem)
            shutil.rmtree(path)
        return None

    def remove(self) -> None:
        """Remove every checkpoint, and the folder unless it is a link that someone else made."""
        for path in (*self._complete(), self.folder / _HALF_WRITTEN):
            shutil.rmtree(path, ignore_errors=True)
        if self.folder.is_dir() and not self.folder.is_symlink() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _complete(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))

    def _difference(self, identity: Mapping[str, str]) -> str | None:
        for key, value in self.identity.items():
            if identity.get(key) != value:
                return f"its {key} is {identity.get(key)!r} and this run's is {value!r}"
        return None


def _tensors_of(learner: Learner) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return every tensor by name, and the optimiser's groups and plain values as JSON."""
    tensors = {f"model.{name}": t for name, t in learner.model.state_dict().items()}
    tensors |= {f"loss_log.{name}": t for name, t in learner.loss_log.state().items()}
    optimizer, values = learner.optimizer.state_dict(), {}
    for index, state in optimizer["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                values[f"{index}.{key}"] = value
    contiguous = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    return contiguous, {"param_groups": optimizer["param_groups"], "values": values}


def _load_tensors(learner: Learner, tensors: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
    model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    learner.model.load_state_dict(model)
    learner.loss_log.load_state(
        {n.removeprefix("loss_log."): t for n, t in tensors.items() if n.startswith("loss_log.")}
    )
    parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]
    named = {n.removeprefix("optimizer."): t for n, t in tensors.items() if n.startswith("optimizer.")}
    state: dict[int, dict[str, Any]] = {}
    for name, value in (named | optimizer["values"]).items():
        index, _, key = name.partition(".")
        if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
            value = _laid_out_like(value, parameters[int(index)])
        state.setdefault(int(index), {})[key] = value
    learner.optimizer.load_state_dict({"state": state, "param_groups": optimizer["param_groups"]})


def _laid_out_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Copy a state into its parameter's memory order: another order may round the same sum otherwise."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
