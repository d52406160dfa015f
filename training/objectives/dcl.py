"""Destruction and construction learning: a model that must name a jigsaw of a photo has to look at details.

Chen et al., Destruction and Construction Learning for Fine-Grained Image Recognition (CVPR 2019); report C
fine-tunes with it. Where the paper and the code that its authors published differ:

- from the paper: the jitter (region confusion: q_i = i + U(-k, k), sorted; rows first, then columns), and
  2 outputs that tell originals from destructed copies (the code's default is a second output a class);
- from the code: one output of the location head, pooled and through tanh, against (cell - 24) / 49 (the paper
  predicts row and column), the mean over cells (the paper: their sum), and the destructed copy made of the
  same augmented photo;
- ours: the exact permutation is the target (the code shuffles neighbouring pairs, and guesses where each
  cell came from by its mean colour), the copies are made on the device, and the map is pooled to the grid
  whatever its size. A map smaller than the grid (input_size below 32 x grid on most backbones) has fewer
  values than there are places, and learns them only roughly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recognition.backbones import Model
from training.classification import Classification
from training.config.objectives import DclConfig
from training.objectives.objective import Batch, Objective, ObjectiveOutput


class DclObjective(Objective):
    """Names originals and jigsaws, tells one from the other, and finds the place of every cell.

    loss = classification of all + adversarial_weight CE(destructed or not) + location_weight L1(places).
    """

    def __init__(
        self,
        config: DclConfig,
        classification: Classification,
        *,
        input_size: int,
        num_features: int,
        num_map_channels: int,
        seed: int,
    ) -> None:
        """Make both heads from the seed; ValueError for an input_size that the grid does not divide."""
        super().__init__()
        _check_size(input_size, grid=config.grid)
        self.config = config
        self.classification = classification
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.adversary = nn.Linear(num_features, 2)
            self.locator = nn.Conv2d(num_map_channels, 1, kernel_size=1)

    def forward(self, model: Model, batch: Batch) -> ObjectiveOutput:
        """Run the N photos and a destructed copy of each; the logits are those of the photos as they are.

        The permutations come from the global generator of the photos' device.
        """
        grid = self.config.grid
        jigsaws = draw_jigsaws(
            len(batch.photos),
            grid=grid,
            neighborhood=self.config.neighborhood,
            device=batch.photos.device,
        )
        maps = model.feature_maps(torch.cat((batch.photos, destruct(batch.photos, jigsaws))))
        features = model.pool(maps)
        loss, logits = self.classification(model, features, batch.labels.repeat(2), step=batch.step)
        with torch.autocast(maps.device.type, enabled=False):
            adversarial = self._adversarial_loss(features)
            location = self._location_loss(maps.float(), jigsaws)
        loss = loss + self.config.adversarial_weight * adversarial + self.config.location_weight * location
        return {"loss": loss, "logits": None if logits is None else logits[: len(batch.photos)]}

    def _adversarial_loss(self, features: Tensor) -> Tensor:
        """Return the cross entropy of features [2N, D] being originals (0, the first N) or copies (1)."""
        destructed = torch.arange(2, device=features.device).repeat_interleave(len(features) // 2)
        return F.cross_entropy(self.adversary(features), destructed)

    def _location_loss(self, maps: Tensor, jigsaws: Tensor) -> Tensor:
        """Return the L1 distance between the places predicted from maps [2N, C, h, w] and the true ones."""
        predicted = F.adaptive_avg_pool2d(self.locator(maps), self.config.grid).squeeze(1).tanh()
        in_place = torch.arange(self.config.grid**2, device=maps.device).view_as(jigsaws[0])
        return F.l1_loss(predicted, locations(torch.cat((in_place.expand_as(jigsaws), jigsaws))))


def draw_jigsaws(num_photos: int, *, grid: int, neighborhood: int, device: torch.device) -> Tensor:
    """Return a permutation of the cells for each photo: int64 [N, grid, grid], the cell that lies there.

    Cells count 0 .. grid^2 - 1 row by row. Every row sorts its columns i by q_i = i + U(-k, k), then every
    column its rows, so that no cell ends 2k or more columns or rows from home (paper, equations 1 and 2).
    """
    in_order = torch.arange(grid, device=device)

    def jitter() -> Tensor:
        noise = torch.rand(num_photos, grid, grid, device=device) * 2 - 1
        return (in_order + neighborhood * noise).argsort(dim=-1)

    columns = jitter()  # [photo, row, place in the row]
    rows = jitter().mT  # [photo, place in the column, column]
    return rows * grid + columns.gather(1, rows)


def destruct(photos: Tensor, jigsaws: Tensor) -> Tensor:
    """Return photos [N, C, S, S] cut into cells that lie as jigsaws [N, grid, grid] say, channels-last."""
    num_channels, size = photos.shape[1:3]
    grid = jigsaws.shape[-1]
    side = size // grid
    lines = photos.permute(0, 2, 3, 1).reshape(-1, side * num_channels)  # one line of one cell each
    photo = torch.arange(len(photos), device=photos.device).view(-1, 1, 1, 1)
    line = torch.arange(side, device=photos.device).view(1, 1, -1, 1)
    cell = jigsaws.unsqueeze(2)  # [photo, row, line within the row, column]
    source = (photo * size + cell // grid * side + line) * grid + cell % grid
    return lines[source.flatten()].view(len(photos), size, size, num_channels).permute(0, 3, 1, 2)


def locations(jigsaws: Tensor) -> Tensor:
    """Return (cell - floor(grid^2 / 2)) / grid^2 of each cell, within [-1/2, 1/2); grid 7: (i - 24) / 49."""
    num_cells = jigsaws.shape[-1] ** 2
    return (jigsaws - num_cells // 2) / num_cells


def _check_size(input_size: int, *, grid: int) -> None:
    if input_size % grid:
        below = input_size // grid * grid
        raise ValueError(
            f"input_size: expected a multiple of objective.grid ({grid}) beside objective dcl, received "
            f"{input_size}. The nearest are {below or grid} and {below + grid}."
        )
