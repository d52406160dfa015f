"""Which photos make a batch: a function of (seed, epoch, step) alone, so that a run can start at any step."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from training.seeding import seed_for

Draw = tuple[int, int]
"""(epoch, position in the list): all that a loader process needs to make one training photo."""


def num_steps_per_epoch(num_photos: int, *, batch_size: int) -> int:
    """Return how many batches of at most `batch_size` hold every photo once."""
    return math.ceil(num_photos / batch_size)


class EpochSampler(Sampler[list[Draw]]):
    """Batches in which every photo of the list comes once an epoch, in an order of its own.

    The sizes of an epoch's batches differ by one at most: a last batch of a single photo would weigh as much
    as a full one, and batch normalisation cannot train on it. One iteration runs from `first_step` (counted
    from the phase's first) through all epochs, so loader processes start once.
    """

    def __init__(
        self, num_photos: int, *, batch_size: int, epochs: int, seed: int, first_step: int = 0
    ) -> None:
        self.num_photos = num_photos
        self.epochs = epochs
        self.seed = seed
        self.first_step = first_step
        self.steps_per_epoch = num_steps_per_epoch(num_photos, batch_size=batch_size)

    def __len__(self) -> int:
        """Return the number of batches still to come."""
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield one list of (epoch, position) a step."""
        first_epoch, skip = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            generator = torch.Generator().manual_seed(seed_for("order", self.seed, epoch))
            order = torch.randperm(self.num_photos, generator=generator)
            for batch in order.tensor_split(self.steps_per_epoch)[skip:]:
                yield [(epoch, position) for position in batch.tolist()]
            skip = 0
