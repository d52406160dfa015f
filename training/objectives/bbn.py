"""BBN: one branch sees photos as they come, the other mostly rare classes; learning moves to the second.

Zhou et al., BBN: Bilateral-Branch Network with Cumulative Learning for Long-Tailed Visual Recognition (CVPR
2020). Ours: the branches share the whole backbone (the paper's share all but the last block) and differ in
their heads, and the mix moves step by step (the paper: epoch by epoch).
"""

from __future__ import annotations

import torch

from recognition.backbones import Model
from training.classification import Classification
from training.heads import BranchHead, head_input
from training.objectives.objective import Batch, Objective, ObjectiveOutput


class BbnObjective(Objective):
    """Mixes the logits of a photo as it comes with those of a companion drawn by 1 / n_k, and both losses.

    alpha = 1 - progress^2 (equation 5), z = alpha W_c f_c + (1 - alpha) W_r f_r (equation 1) and loss =
    alpha L(z, y_c) + (1 - alpha) L(z, y_r) (equation 3).
    """

    def __init__(self, classification: Classification) -> None:
        super().__init__()
        self.classification = classification

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Run A anchors and their A companions; the logits are the conventional branch's, [A, K], of anchors.

        ValueError where the batch has not one companion for each anchor.
        """
        if len(batch.labels) != 2 * batch.num_anchors:
            raise ValueError(
                f"Expected one companion for each of {batch.num_anchors} photos beside objective bbn, "
                f"received {len(batch.labels) - batch.num_anchors}."
            )
        alpha = 1 - batch.progress**2
        own, rare = batch.labels.chunk(2)
        targets = ((own, alpha), (rare, 1 - alpha))
        features = model.features(batch.photos)
        assert isinstance(model.head, BranchHead)
        with torch.autocast(features.device.type, enabled=False):
            anchors, companions = head_input(model, features).chunk(2)
            logits, conventional = model.head.mixed(anchors, companions, alpha=alpha)
            loss = self.classification.leaf_loss(logits, targets, step=batch.step)
            if self.classification.coarse is not None:
                for rows, target in zip(features.chunk(2), targets, strict=True):
                    loss = loss + self.classification.coarse(rows, (target,))
        return {"loss": loss, "logits": conventional}
