"""One step: the parts of a batch go forward and backward, and what they measured waits to be read.

On a GPU nothing here waits for the device. Reading a loss would, so measurements queue up there and are read
together every few steps, with those of the other processes.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from recognition.backbones import Model
from training.environment import Environment
from training.loss_log import measure
from training.objectives.objective import Batch, Objective, ObjectiveOutput


class Step(nn.Module):
    """The model and its objective as one module, so that several devices share one forward pass of both."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> ObjectiveOutput:
        """Return the objective's loss and logits."""
        output: ObjectiveOutput = self.objective(self.model, batch)
        return output


class Measured(NamedTuple):
    """What one part of a step measured before it changed the weights, still on the device."""

    loss: Tensor
    """Its share of the whole batch's mean loss, a scalar: all parts of all processes add up to that."""
    positions: Tensor
    """Rows of the list, int64 [N], on the CPU."""
    wrong: Tensor | None
    """Whether another class had a larger logit, bool [M]."""
    statistics: Tensor | None
    """The loss log's, float32 [5, M]."""


def learn(
    step: nn.Module,
    batch: Batch,
    *,
    num_anchors: int,
    is_last: bool,
    wants_statistics: bool,
    environment: Environment,
) -> Measured:
    """Run one part forward and backward; gradients add up, and meet the other processes' in the last part.

    num_anchors: size of the whole batch. Losses are means over a part's anchors, so each is weighed by its
    share of them; DDP averages over processes, which the backward pass makes good.
    """
    share = batch.num_anchors / num_anchors
    with nullcontext() if is_last else environment.no_sync(step):
        with environment.autocast():
            output: ObjectiveOutput = step(batch)
        environment.accelerator.backward(output["loss"] * (share * environment.num_processes))
    logits, wrong, statistics = output["logits"], None, None
    if logits is not None:
        labels = batch.labels[: len(logits)]
        if wants_statistics:
            statistics = measure(logits, labels)
        wrong = statistics[1] <= 0 if statistics is not None else logits.argmax(dim=1) != labels
    return Measured(output["loss"].detach() * share, batch.positions, wrong, statistics)


@dataclass(frozen=True)
class StepRecord:
    """What one step measured, read from the device: first of one process, then of all."""

    step: int
    loss: float
    positions: npt.NDArray[np.int64]
    """[N]"""
    wrong: npt.NDArray[np.bool_]
    """[M], M <= N"""
    judged: npt.NDArray[np.int64]
    """Positions of those, [M]."""
    statistics: npt.NDArray[np.float32] | None
    """[5, M]"""


class Pending:
    """The measurements of the last steps, in order, until they are read."""

    def __init__(self) -> None:
        self._steps: dict[int, list[Measured]] = {}

    def __len__(self) -> int:
        """Return how many steps wait."""
        return len(self._steps)

    def add(self, measured: Measured, *, step: int) -> None:
        """Add one part of a step."""
        self._steps.setdefault(step, []).append(measured)

    def read(self, environment: Environment) -> list[StepRecord]:
        """Return one record a step over all processes, and wait for nothing any more; all must call it."""
        own = [_to_record(step, parts) for step, parts in self._steps.items()]
        self._steps = {}
        return [_join(records) for records in zip(*environment.gather(own), strict=True)]


def _to_record(step: int, parts: list[Measured]) -> StepRecord:
    """Read one step's parts: the first waits for the device, the others then find their numbers there."""
    loss = torch.stack([part.loss for part in parts]).double().sum().item()
    wrong = [part.wrong for part in parts if part.wrong is not None]
    statistics = [part.statistics for part in parts if part.statistics is not None]
    judged = [part.positions[: len(part.wrong)] for part in parts if part.wrong is not None]
    nothing = torch.empty(0)
    return StepRecord(
        step=step,
        loss=loss,
        positions=torch.cat([part.positions for part in parts]).numpy(),
        wrong=torch.cat([nothing.bool(), *(flags.cpu() for flags in wrong)]).numpy(),
        judged=torch.cat([nothing.long(), *judged]).numpy(),
        statistics=torch.cat(statistics, dim=1).cpu().numpy() if statistics else None,
    )


def _join(records: tuple[StepRecord, ...]) -> StepRecord:
    """Put the processes' shares of one step together, in their order."""
    statistics = [record.statistics for record in records if record.statistics is not None]
    return StepRecord(
        step=records[0].step,
        loss=sum(record.loss for record in records),
        positions=np.concatenate([record.positions for record in records]),
        wrong=np.concatenate([record.wrong for record in records]),
        judged=np.concatenate([record.judged for record in records]),
        statistics=np.concatenate(statistics, axis=1) if statistics else None,
    )
