"""What the training loop knows of an objective, so that the loop is the same whatever is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from torch import Tensor, nn

from recognition.backbones import Model


@dataclass(frozen=True)
class Batch:
    """One step's photos on the training device, or one device's and part's share of them.

    The first A = num_anchors are the epoch's own; each may have C companions (sampler.positives, or what the
    objective asks for), and row A (1 + c) + i is companion c of anchor i.
    """

    photos: Tensor
    """Normalised, float32 [N, 3, S, S], channels-last, with N = A (1 + C)."""

    labels: Tensor
    """Class indices, int64 [N]."""

    positions: Tensor
    """Rows of the phase's list, int64 [N], on the CPU."""

    num_anchors: int
    """A."""

    step: int
    """Steps of the phase before this one."""

    progress: float
    """Share of the phase's steps done before this one, 0 <= progress < 1."""


class ObjectiveOutput(TypedDict):
    """What an objective makes of a batch."""

    loss: Tensor
    """A scalar to lower: a mean over the anchors."""

    logits: Tensor | None
    """Float32 [M, K] of the batch's first M photos, A <= M <= N, detached from nothing: the loss log reads
    them. None where no photo was seen as it is, or not all classes were computed."""


class Objective(nn.Module):
    """Turns a model and a batch into a loss and logits; may have parameters of its own, which only train."""

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Run the model forward on the batch."""
        raise NotImplementedError
