"""The plain objective: the loss of the logits of each photo as it is, nothing else."""

from __future__ import annotations

from recognition.backbones import Model
from training.classification import Classification
from training.objectives.objective import Batch, Objective, ObjectiveOutput


class PlainObjective(Objective):
    """One forward pass, one loss; companions count like anchors."""

    def __init__(self, classification: Classification) -> None:
        super().__init__()
        self.classification = classification

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Return the loss of all N photos and their logits float32 [N, K]."""
        features = model.features(batch.photos)
        loss, logits = self.classification(model, features, batch.labels, step=batch.step)
        return {"loss": loss, "logits": logits}
