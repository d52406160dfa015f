"""Look-into-object: photos of one SKU show what the object's extent is, and how its parts lie to each other.

Zhou et al., Look-into-Object: Self-supervised Structure Modeling for Object Recognition (CVPR 2020); report C
trains a member with it. Where the report, the paper and the code that its authors published differ:

- from report C and the code: the mask is cut at its mean (the paper weighs by the mask), distances are
  |delta| / grid (the paper: / (sqrt 2 grid)), errors are squared without the paper's root, and the context
  has half as many channels as the map;
- from the paper: anchors alone have a mask and coordinates (the code lets every photo of a group be the
  anchor once), and all means are over the mask, also the angles' mean error, which is taken off so that the
  object may lie at any turn (the code: over all locations);
- ours: mask and strongest location come from the detached pseudo-mask, so that they mean something from the
  first step on; the angles' gap is wrapped into half a turn either way, where the code wraps it into [0, 1)
  and so takes a prediction just short of the truth for a whole turn; the strongest location has a distance
  of 0 but no direction, and stays out of the angles' mean; no ReLU after the coordinates, since a dead one
  would never learn.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recognition.backbones import Model
from training.classification import Classification
from training.config.objectives import LioConfig
from training.objectives.objective import Batch, Objective, ObjectiveOutput


class LioObjective(Objective):
    """Names anchors and positives, regresses the anchors' extent, and the polar coordinates inside it.

    loss = classification of anchors + of positives + coordinate_weight coordinates + mask_weight mask.
    """

    def __init__(
        self, config: LioConfig, classification: Classification, *, num_map_channels: int, seed: int
    ) -> None:
        """Make the heads from the seed."""
        super().__init__()
        self.config = config
        self.classification = classification
        num_context = max(1, num_map_channels // 2)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.mask = nn.Conv1d(num_map_channels, 1, kernel_size=1)
            self.context = nn.Conv1d(num_map_channels, num_context, kernel_size=1)
            self.coordinates = nn.Conv1d(2 * num_context, 2, kernel_size=1)

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Run the A anchors and their config.positives companions each; the logits are those of all N."""
        num_anchors = batch.num_anchors
        maps = model.feature_maps(batch.photos)
        features = model.pool(maps)
        parts = [
            self.classification(model, features[rows], batch.labels[rows], step=batch.step)
            for rows in (slice(num_anchors), slice(num_anchors, None))
        ]
        with torch.autocast(maps.device.type, enabled=False):
            cells = F.adaptive_avg_pool2d(maps.float(), self.config.grid).flatten(2)
            anchors = cells[:num_anchors]
            masks = pseudo_masks(anchors, cells[num_anchors:].reshape(-1, *anchors.shape))
            mask_loss = F.mse_loss(self.mask(anchors).squeeze(1), masks)
            coordinates = coordinate_loss(*self._predict_coordinates(anchors, masks), masks=masks)
        (anchor_loss, anchor_logits), (positive_loss, positive_logits) = parts
        loss = anchor_loss + positive_loss
        loss = loss + self.config.coordinate_weight * coordinates + self.config.mask_weight * mask_loss
        computed = anchor_logits is not None and positive_logits is not None
        return {"loss": loss, "logits": torch.cat((anchor_logits, positive_logits)) if computed else None}

    def _predict_coordinates(self, anchors: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return distance and angle [A, S] of each location, seen beside the strongest of its photo."""
        context = self.context(anchors).relu()
        strongest = masks.argmax(dim=-1).view(-1, 1, 1)
        pairs = torch.cat((context.take_along_dim(strongest, dim=-1).expand_as(context), context), dim=1)
        distance, angle = self.coordinates(pairs).unbind(dim=1)
        return distance, angle


@torch.no_grad()
def pseudo_masks(anchors: Tensor, positives: Tensor) -> Tensor:
    """Return how well other photos of its SKU match each location of an anchor: float32 [A, S], detached.

    anchors [A, C, S], positives [P, A, C, S]: the mean over positives of the largest dot product with any of
    their S locations, divided by C (paper, object-extent learning).
    """
    products: Tensor = anchors.mT @ positives / anchors.shape[1]
    return products.amax(dim=-1).mean(dim=0)


def coordinate_loss(distance: Tensor, angle: Tensor, *, masks: Tensor) -> Tensor:
    """Return the mean over photos of the squared errors of distance and angle [A, S] inside the extent.

    The extent is where masks [A, S] are above their mean; coordinates are seen from the masks' maximum. The
    angles count by their distance from their own mean error, at most half a turn (paper, spatial context).
    """
    strongest = masks.argmax(dim=-1, keepdim=True)
    true_distance, true_angle = polar_coordinates(strongest, grid=math.isqrt(masks.shape[-1]))
    inside = masks > masks.mean(dim=-1, keepdim=True)
    others = inside.scatter(-1, strongest, False)
    gap = angle - true_angle
    gap = gap - gap.round()
    gap = gap - _mean_over(others, gap)
    errors = _mean_over(inside, (distance - true_distance).square()) + _mean_over(others, gap.square())
    return errors.mean()


def polar_coordinates(origins: Tensor, *, grid: int) -> tuple[Tensor, Tensor]:
    """Return |delta| / grid and (atan2(columns, rows) / pi + 1) / 2 of every location: [A, S] each.

    origins [A, 1]: the location they are seen from, counted row by row, S = grid^2. The angle is in turns,
    within (0, 1]; that of the origin itself, which has no direction, is 1/2.
    """
    places = torch.arange(grid * grid, device=origins.device)
    rows = places // grid - origins // grid
    columns = places % grid - origins % grid
    return torch.hypot(rows.float(), columns.float()) / grid, (torch.atan2(columns, rows) / math.pi + 1) / 2


def _mean_over(mask: Tensor, values: Tensor) -> Tensor:
    """Return the mean of values [A, S] where the mask holds, [A, 1]; 0 where it holds nowhere."""
    return (values * mask).sum(dim=-1, keepdim=True) / mask.sum(dim=-1, keepdim=True).clamp(min=1)
