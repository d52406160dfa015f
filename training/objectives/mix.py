"""Mixup and CutMix: photos that show two labels keep a model from being sure, and from looking at one spot.

Zhang et al., mixup (ICLR 2018); Yun et al., CutMix (ICCV 2019, equations 1 and 2). No one-hot is built: the
loss of a mixed label is the same mix of two losses.
"""

from __future__ import annotations

import numpy as np
from timm.data.mixup import cutmix_bbox_and_lam
from torch import Tensor

from recognition.backbones import Model
from training.classification import Classification
from training.config.objectives import MixConfig
from training.objectives.objective import Batch, Objective, ObjectiveOutput


class MixObjective(Objective):
    """Mixes each photo with the one that stands as far from the batch's end as it does from its beginning.

    loss = share L(z, y_a) + (1 - share) L(z, y_b), share ~ Beta(alpha, alpha) and one for the whole batch.
    """

    def __init__(self, config: MixConfig, classification: Classification) -> None:
        super().__init__()
        self.config = config
        self.classification = classification

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Run the mixed photos; no logits, since no photo is seen as it is."""
        photos, share = self.mix(batch.photos)
        targets = ((batch.labels, share), (batch.labels.flip(0), 1 - share))
        loss, _ = self.classification.mixed(model, model.features(photos), targets, step=batch.step)
        return {"loss": loss, "logits": None}

    def mix(self, photos: Tensor) -> tuple[Tensor, float]:
        """Return mixed photos [N, 3, S, S] and the share of each photo's own label.

        Draws from numpy's global generator, as timm's box does; the loop seeds it for each step.
        """
        config = self.config
        if np.random.rand() >= config.probability:
            return photos, 1.0
        cuts = config.mixup_alpha == 0 or (
            config.cutmix_alpha > 0 and np.random.rand() < config.switch_probability
        )
        alpha = config.cutmix_alpha if cuts else config.mixup_alpha
        share = float(np.random.beta(alpha, alpha))
        partners = photos.flip(0)
        if not cuts:
            return photos.lerp(partners, 1 - share), share
        (top, bottom, left, right), area = cutmix_bbox_and_lam(photos.shape, share)
        partners_box = partners[..., top:bottom, left:right]
        mixed = photos.clone()
        mixed[..., top:bottom, left:right] = partners_box
        return mixed, float(area)  # of the box as the photo's edges left it
