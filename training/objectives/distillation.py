"""Distillation: a small model learns from the probabilities of a large one, or of an ensemble.

Hinton et al., Distilling the Knowledge in a Neural Network (2015); report C names it among what worked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recognition.backbones import Model
from training.classification import Classification
from training.config.objectives import DistillationConfig
from training.objectives.objective import Batch, Objective, ObjectiveOutput
from training.row_slices import row_slices
from training.teacher import Teacher


class DistillationObjective(Objective):
    """loss = weight T^2 KL(teacher || student) + (1 - weight) L(z, y), both softmaxes of logits / T."""

    def __init__(self, config: DistillationConfig, classification: Classification, teacher: Teacher) -> None:
        super().__init__()
        self.config = config
        self.classification = classification
        self.teacher = teacher  # no nn.Module: it is in no checkpoint and has no gradient

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Run student and teacher on the same photos; the logits are the student's, [N, K]."""
        taught = self.teacher(batch.photos)
        loss, logits = self.classification(model, model.features(batch.photos), batch.labels, step=batch.step)
        assert logits is not None, "a teacher answers with all classes, and so must the student"
        temperature, weight = self.config.temperature, self.config.weight
        divergence = distilled_divergence(logits, taught, temperature=temperature)
        return {"loss": weight * temperature**2 * divergence + (1 - weight) * loss, "logits": logits}


def distilled_divergence(logits: Tensor, taught: Tensor, *, temperature: float) -> Tensor:
    """Return the mean over photos of KL(softmax(taught / T) || softmax(logits / T)); both [N, K], a scalar.

    Only the logits get a gradient, (softmax(logits / T) - softmax(taught / T)) / (T N).
    """
    divergence: Tensor = _Divergence.apply(logits, taught, temperature)
    return divergence


class _Divergence(torch.autograd.Function):
    """Makes value and gradient in one pass, slice by slice; the gradient is its only [N, K] buffer."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
        gradient, per_photo = torch.empty_like(logits), []
        for rows in row_slices(logits):
            student = torch.log_softmax(logits[rows] / temperature, dim=1)
            teacher = torch.log_softmax(taught[rows] / temperature, dim=1)
            probabilities = teacher.exp()
            per_photo.append((teacher.sub_(student).mul_(probabilities)).sum(dim=1))
            torch.sub(student.exp_(), probabilities, out=gradient[rows])
        ctx.save_for_backward(gradient)
        ctx.factor = 1 / (temperature * len(logits))
        return torch.cat(per_photo).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (
            gradient.mul_(outer * ctx.factor),
            None,
            None,
        )  # a second pass raises: what was saved has changed
