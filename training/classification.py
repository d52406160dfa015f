"""From pooled features and labels to a loss: the head, its margin, sampled classes and the coarse classes.

Every objective classifies through here, and none knows which head or which loss it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognition.backbones import Model
from training.config import PhaseConfig
from training.config.heads import LwsConfig
from training.config.losses import BalancedSoftmaxConfig, LogitAdjustedConfig
from training.config.objectives import DistillationConfig
from training.heads import CosineHead, head_input, logits_of_classes
from training.losses.factory import make_loss
from training.margins import Margin, loss_with_margin, make_margin

Target = tuple[Tensor, float]
"""Labels int64 [N] and their share of the loss: one of share 1, or two where photos show two things."""

NO_COARSE_CLASS = -1


class CoarseHead(nn.Module):
    """A second linear head, over the coarse classes, which only trains (report C's hierarchy loss)."""

    coarse_of: Tensor

    def __init__(
        self, coarse_names: Sequence[str | None], *, num_features: int, weight: float, seed: int
    ) -> None:
        super().__init__()
        names = sorted({name for name in coarse_names if name is not None})
        index = {name: number for number, name in enumerate(names)}
        coarse_of = [NO_COARSE_CLASS if name is None else index[name] for name in coarse_names]
        self.register_buffer("coarse_of", torch.tensor(coarse_of), persistent=False)
        self.weight = weight
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.linear = nn.Linear(num_features, len(names))

    def forward(self, features: Tensor, targets: Sequence[Target]) -> Tensor:
        """Return weight times the mean over photos of their cross entropy, 0 where one has no coarse class.

        features: float32 [N, D]; targets: labels of the classes, not of the coarse ones. The mean is over all
        photos, not over those with a coarse class: a sum over photos is the same however a batch is divided.
        """
        logits: Tensor = self.linear(features)
        total = logits.new_zeros(())
        for labels, share in targets:
            coarse = self.coarse_of[labels]
            summed = F.cross_entropy(logits, coarse, ignore_index=NO_COARSE_CLASS, reduction="sum")
            total = total + share * summed / len(coarse)
        return self.weight * total


class Classification(nn.Module):
    """Owns the loss, the margin, the draw of sampled classes and the coarse head; the model owns the head."""

    def __init__(
        self,
        loss: nn.Module,
        *,
        margin: Margin | None = None,
        sampled_classes: float = 1.0,
        coarse: CoarseHead | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.margin = margin
        self.sampled_classes = sampled_classes
        self.coarse = coarse

    def forward(
        self, model: Model, features: Tensor, labels: Tensor, *, step: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss, a mean over the photos, and their logits [N, K] without margin.

        features: [N, D] of `model.features`; labels: int64 [N]. None for logits where classes are sampled.
        """
        return self.mixed(model, features, ((labels, 1.0),), step=step)

    def mixed(
        self, model: Model, features: Tensor, targets: Sequence[Target], *, step: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `forward` does, for photos of several labels that share the loss."""
        with torch.autocast(features.device.type, enabled=False):
            inputs = head_input(model, features)
            leaf = targets
            if self.sampled_classes == 1:
                logits = model.head(inputs)
            else:
                classes = self._draw_classes(model, targets)
                logits = logits_of_classes(model.head, inputs, classes=classes)
                leaf = [(torch.searchsorted(classes, labels), share) for labels, share in targets]
            lengths = model.head.lengths(inputs) if isinstance(model.head, CosineHead) else None
            loss = self.leaf_loss(logits, leaf, lengths=lengths, step=step)
            if self.coarse is not None:
                loss = loss + self.coarse(features.float(), targets)
        return loss, logits if self.sampled_classes == 1 else None

    def leaf_loss(
        self, logits: Tensor, targets: Sequence[Target], *, lengths: Tensor | None = None, step: int
    ) -> Tensor:
        """Return the loss of logits [N, K], a scalar; lengths [N] are `CosineHead.lengths`, for a margin."""
        total = logits.new_zeros(())
        for labels, share in targets:
            if share > 0:
                total = total + share * self._loss_of(logits, labels, lengths=lengths, step=step)
        return total

    def _loss_of(self, logits: Tensor, labels: Tensor, *, lengths: Tensor | None, step: int) -> Tensor:
        if self.margin is None:
            loss: Tensor = self.loss(logits, labels)
            return loss
        assert lengths is not None, "a margin needs a head of cosines"
        return loss_with_margin(self.loss, logits, labels, lengths=lengths, margin=self.margin, step=step)

    def _draw_classes(self, model: Model, targets: Sequence[Target]) -> Tensor:
        labels = torch.cat([labels for labels, _ in targets])
        num_classes: int = model.head.out_features
        return draw_classes(labels, num_classes=num_classes, share=self.sampled_classes)


def draw_classes(labels: Tensor, *, num_classes: int, share: float) -> Tensor:
    """Draw the classes that a step computes (An et al. 2021, PartialFC): the labels' own and random others.

    Returns them in rising order, int64 [S] with S = ceil(share K), or as many as there are labels (at most K)
    where that is more: a size that is known without asking the device. Draws from the global generator.
    """
    size = max(math.ceil(share * num_classes), min(len(labels), num_classes))
    priority = torch.rand(num_classes, device=labels.device)
    priority[labels] = 2.0
    return priority.topk(size, sorted=False).indices.sort().values


def make_classification(
    phase: PhaseConfig,
    *,
    class_counts: Tensor,
    coarse_names: Sequence[str | None],
    num_features: int,
    seed: int,
) -> Classification:
    """Build what the phase says of its head, loss, sampled and coarse classes, on the CPU.

    class_counts: photos of each class on the phase's list, int64 [K]; coarse_names: one for each class, None
    where it has none; the seed makes the coarse head. ValueError for combinations without meaning.
    """
    _check_sampled(phase)
    coarse = None
    if phase.coarse_weight > 0:
        coarse = CoarseHead(coarse_names, num_features=num_features, weight=phase.coarse_weight, seed=seed)
    return Classification(
        make_loss(phase.loss, class_counts=class_counts),
        margin=make_margin(phase.head),
        sampled_classes=phase.sampled_classes,
        coarse=coarse,
    )


def _check_sampled(phase: PhaseConfig) -> None:
    """Refuse what needs all classes where a step computes some of them.

    Smoothing spreads over all, class weights and priors are counted over all, and a teacher answers with all.
    """
    if phase.sampled_classes == 1:
        return
    needs = {
        f"loss.name {phase.loss.name}": isinstance(phase.loss, LogitAdjustedConfig | BalancedSoftmaxConfig),
        "loss.class_weights": getattr(phase.loss, "class_weights", "none") != "none",
        "loss.smoothing": getattr(phase.loss, "smoothing", 0) > 0,
        "head.name lws": isinstance(phase.head, LwsConfig),
        "objective.name distillation": isinstance(phase.objective, DistillationConfig),
    }
    refused = [words for words, needed in needs.items() if needed]
    if refused:
        raise ValueError(
            f"sampled_classes: expected 1 beside {' and '.join(refused)}, which needs all classes, received "
            f"{phase.sampled_classes:g}."
        )
