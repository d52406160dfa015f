"""What the training loop knows of an objective, so that the loop is the same whatever is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypedDict

from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """One step's photos on the training device."""

    photos: Tensor
    """Normalised, float32 [B, 3, S, S], channels-last."""

    labels: Tensor
    """Class indices, int64 [B]."""

    positions: Tensor
    """Rows of the phase's list, int64 [B], on the CPU."""


class ObjectiveOutput(TypedDict):
    """What an objective makes of a batch."""

    loss: Tensor
    """A scalar to lower."""

    logits: Tensor
    """Float32 [B, K], of the batch's own photos in their order: the loss log reads them."""


class Objective(Protocol):
    """Turns a model and a batch into a loss and the logits that made it."""

    def __call__(self, model: nn.Module, batch: Batch) -> ObjectiveOutput:
        """Run the model forward on the batch."""
        ...
