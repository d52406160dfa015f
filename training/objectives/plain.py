"""The plain objective: the loss of the model's logits for each photo, nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from training.losses.cross_entropy import CrossEntropy
from training.objectives.objective import Batch, ObjectiveOutput


class PlainObjective:
    """One forward pass, one loss."""

    def __init__(self, *, loss: CrossEntropy) -> None:
        self.loss = loss

    def __call__(self, model: nn.Module, batch: Batch) -> ObjectiveOutput:
        """Return the loss and the float32 logits [B, K] of the batch."""
        logits: Tensor = model(batch.photos).float()
        return {"loss": self.loss(logits, batch.labels), "logits": logits}
