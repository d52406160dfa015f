"""What resuming needs, in files that execute nothing: state.safetensors, state.json, best.safetensors.

A checkpoint is a folder `step-<n>` that appears whole by a rename, so SIGKILL at any moment leaves the last
good one, and the best weights in it are those of its own history. It holds no random state (see
training.seeding) and no times: the same step gives the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from imaging.atomic_write import explain_full_disk, flush_to_disk
from recognition.backbones import Model
from training.learner import Learner

logger = logging.getLogger(__name__)

_PREFIX = "step-"
_HALF_WRITTEN = "half-written"
_BEST = "best.safetensors"


class Checkpoints:
    """The checkpoints of one phase in one folder; only the newest is kept.

    `identity` says what must be equal for a resumed run to give the same bits: fingerprint, inputs, torch
    version, device, precision, threads, processes. Of several processes one saves and removes, all restore.
    """

    def __init__(self, folder: Path, *, identity: Mapping[str, str]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self._newest: Path | None = None

    def save(
        self, learner: Learner, *, step: int, progress: Mapping[str, Any], best: Model | None = None
    ) -> None:
        """Write the state after `step` steps, remove every other checkpoint.

        progress: plain JSON values. best: a model whose weights are from now on the best; None keeps those of
        the checkpoint before, where it has some.
        """
        half_written = self.folder / _HALF_WRITTEN
        shutil.rmtree(half_written, ignore_errors=True)
        try:
            with explain_full_disk(self.folder / f"{_PREFIX}{step:09d}"):
                self._write(half_written, learner, step=step, progress=progress, best=best)
        except BaseException:
            shutil.rmtree(half_written, ignore_errors=True)  # give the disk its room back
            raise
        self._replace_all_by(half_written, step=step)

    def _write(
        self,
        half_written: Path,
        learner: Learner,
        *,
        step: int,
        progress: Mapping[str, Any],
        best: Model | None,
    ) -> None:
        half_written.mkdir(parents=True)
        tensors, optimizer_values = _tensors_of(learner)
        text = json.dumps(
            {"identity": self.identity, "step": step, "progress": progress, "optimizer": optimizer_values},
            indent=1,
        )
        save_file(tensors, half_written / "state.safetensors")
        (half_written / "state.json").write_text(text + "\n", encoding="utf-8")
        if best is not None:
            save_file(_to_files(best.state_dict()), half_written / _BEST)
        elif self._newest is not None and (self._newest / _BEST).exists():
            _link_or_copy(self._newest / _BEST, half_written / _BEST)
        for path in (*half_written.iterdir(), half_written):
            flush_to_disk(path)

    def restore(self, learner: Learner) -> tuple[int, dict[str, Any]] | None:
        """Load the newest checkpoint into the learner; returns (step, progress), or None for a fresh start.

        One that is unreadable, or whose identity differs, is passed over after one line that says why, and
        goes with the next `save`.
        """
        for path in reversed(self._complete()):
            try:
                values = json.loads((path / "state.json").read_text(encoding="utf-8"))
                problem = self._difference(values["identity"])
                if problem is None:
                    _load_tensors(learner, load_file(path / "state.safetensors"), values["optimizer"])
                    self._newest = path
                    return values["step"], values["progress"]
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                problem = f"it cannot be read ({error})"
            logger.warning("Checkpoint %s is not resumed, %s: starting afresh.", path, problem)
        return None

    def load_best(self, model: Model) -> None:
        """Load the best weights of the newest checkpoint into a model."""
        (newest,) = self._complete()
        model.load_state_dict(load_file(newest / _BEST))

    def remove(self) -> None:
        """Remove every checkpoint, and the folder unless it is a link that someone else made."""
        for path in (*self._complete(), self.folder / _HALF_WRITTEN):
            shutil.rmtree(path, ignore_errors=True)
        if self.folder.is_dir() and not self.folder.is_symlink() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _replace_all_by(self, half_written: Path, *, step: int) -> None:
        target = self.folder / f"{_PREFIX}{step:09d}"
        shutil.rmtree(target, ignore_errors=True)
        half_written.rename(target)
        flush_to_disk(self.folder)
        self._newest = target
        for other in self._complete():
            if other != target:
                shutil.rmtree(other)

    def _complete(self) -> list[Path]:
        return sorted(self.folder.glob(f"{_PREFIX}*"))

    def _difference(self, identity: Mapping[str, str]) -> str | None:
        for key, value in self.identity.items():
            if identity.get(key) != value:
                return f"its {key} is {identity.get(key)!r} and this run's is {value!r}"
        return None


def _modules_of(learner: Learner) -> dict[str, nn.Module]:
    """Return what a checkpoint holds the state_dict of, by the beginning of its tensors' names."""
    modules: dict[str, nn.Module] = {"model": learner.model, "objective": learner.objective}
    return modules if learner.ema is None else {**modules, "ema": learner.ema.module}


def _to_files(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in state.items()}


def _tensors_of(learner: Learner) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return every tensor by name, and the optimiser's groups and plain values as JSON."""
    tensors = {f"loss_log.{name}": t for name, t in learner.loss_log.state().items()}
    values: dict[str, Any] = {}
    groups: list[Any] = []
    for prefix, module in _modules_of(learner).items():
        tensors |= {f"{prefix}.{name}": t for name, t in module.state_dict().items()}
    if learner.optimizer is not None:
        state = learner.optimizer.state_dict()
        groups = state["param_groups"]
        for index, entries in state["state"].items():
            for key, value in entries.items():
                kind = tensors if isinstance(value, Tensor) else values
                kind[f"optimizer.{index}.{key}"] = value
    return _to_files(tensors), {"param_groups": groups, "values": values}


def _load_tensors(learner: Learner, tensors: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> None:
    for prefix, module in _modules_of(learner).items():
        module.load_state_dict(_below(prefix, tensors))
    learner.loss_log.load_state(_below("loss_log", tensors))
    if learner.optimizer is not None:
        state = _below("optimizer", tensors) | _below("optimizer", optimizer["values"])
        _load_optimizer(learner.optimizer, state, groups=optimizer["param_groups"])


def _load_optimizer(optimizer: Optimizer, values: Mapping[str, Any], *, groups: list[Any]) -> None:
    """Load states by "<parameter's index>.<key>"."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in values.items():
        index, _, key = name.partition(".")
        if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
            value = _laid_out_like(value, parameters[int(index)])
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _below(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def _laid_out_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Copy a state into its parameter's memory order: another order may round the same sum otherwise."""
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # not every file system has links
        shutil.copyfile(source, target)
