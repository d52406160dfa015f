"""Which photos make a batch: a function of (seed, epoch, step) alone, so that a run can start at any step.

The same numbers come out in every process, and each keeps its share of them: what a phase sees does not
depend on how many devices or parts share its batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from training.class_draws import ClassDraws
from training.config import PhaseConfig
from training.config.objectives import BbnConfig, LioConfig
from training.config.samplers import SamplerConfig
from training.seeding import seed_for

_POWERS = {"instance": 1.0, "square_root": 0.5, "class": 0.0}


class Draw(NamedTuple):
    """One photo of one batch: all that a loader process needs to make it."""

    epoch: int
    place: int
    """Number of the draw in its epoch: a photo that is drawn twice is augmented in two ways."""
    position: int
    """Row of the phase's list."""


@dataclass(frozen=True)
class Companions:
    """Photos that stand beside each anchor of a batch."""

    kind: Literal["none", "positives", "reversed"]
    """positives: other photos of the anchor's class; reversed: of any class, drawn with p_k ~ 1 / n_k."""
    count: int
    """How many for each anchor."""


def make_companions(phase: PhaseConfig) -> Companions:
    """Return what the phase's objective wants beside each photo, else what its sampler says."""
    if isinstance(phase.objective, BbnConfig):
        return Companions("reversed", 1)
    count = (phase.objective if isinstance(phase.objective, LioConfig) else phase.sampler).positives
    return Companions("positives" if count else "none", count)


def num_steps_per_epoch(num_photos: int, *, batch_size: int) -> int:
    """Return how many batches an epoch has, however its photos are drawn."""
    return math.ceil(num_photos / batch_size)


class EpochSampler(Sampler[list[Draw]]):
    """Batches of epochs of N draws, N photos in the list; class k is drawn with p_k ~ n_k^q (report D).

    The sizes of an epoch's batches differ by one at most: a last batch of a single photo would weigh as much
    as a full one, and batch normalisation cannot train on it. One iteration runs from `first_step` (counted
    from the phase's first) through all epochs, so loader processes start once. It yields, for each step,
    `parts` lists: this process's share of the batch. The anchors in the shares of all processes, one after
    the other, are those of the batch that a single process would have.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.int64],
        *,
        config: SamplerConfig,
        companions: Companions,
        batch_size: int,
        epochs: int,
        seed: int,
        first_step: int = 0,
        num_processes: int = 1,
        process_index: int = 0,
        parts: int = 1,
    ) -> None:
        self.config = config
        self.companions = companions
        self.epochs = epochs
        self.seed = seed
        self.first_step = first_step
        self.num_processes = num_processes
        self.process_index = process_index
        self.parts = parts
        self.num_photos = len(labels)
        self.steps_per_epoch = num_steps_per_epoch(len(labels), batch_size=batch_size)
        self._classes = ClassDraws(labels)
        smallest = self.num_photos // self.steps_per_epoch
        if smallest < num_processes * parts:
            raise ValueError(
                f"accumulation: expected a photo for each of {num_processes} processes x {parts} parts in "
                f"every batch, received batches of {smallest}: the list has {self.num_photos} photos and "
                f"batch_size is {batch_size}. Lower accumulation or num_processes."
            )

    def __len__(self) -> int:
        """Return the number of lists still to come, `parts` of them a step."""
        return (self.epochs * self.steps_per_epoch - self.first_step) * self.parts

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield each step's lists, in each the anchors, then companion 0 of every one, then companion 1..."""
        first_epoch, skip = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            orders = self._orders(epoch)
            for step in range(skip, self.steps_per_epoch):
                start, end = self._batch(step)
                positions = [order[start:end] for order in orders]
                if self.companions.kind == "positives":
                    seed = seed_for("positives", self.seed, epoch, step)
                    positions += self._classes.positives(positions[0], count=self.companions.count, seed=seed)
                for first, last in self._shares(end - start):
                    yield self._draws(epoch, start + first, [column[first:last] for column in positions])
            skip = 0

    def num_anchors_in(self, step: int) -> int:
        """Return the size, over all processes and without companions, of the phase's batch number `step`."""
        start, end = self._batch(step % self.steps_per_epoch)
        return end - start

    def _batch(self, step: int) -> tuple[int, int]:
        """Return where in the epoch's order a step's batch begins and ends."""
        return _share((0, self.num_photos), index=step, count=self.steps_per_epoch)

    def _shares(self, num_anchors: int) -> list[tuple[int, int]]:
        """Return where in a batch each of this process's parts begins and ends."""
        own = _share((0, num_anchors), index=self.process_index, count=self.num_processes)
        return [_share(own, index=part, count=self.parts) for part in range(self.parts)]

    def _orders(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Draw the positions [N] of an epoch's anchors, and of each companion that depends on no anchor."""
        orders = [self._classes.order(self._expected(epoch), seed=seed_for("order", self.seed, epoch))]
        if self.companions.kind == "reversed":  # BBN (Zhou et al. 2020)
            rare_first = self._classes.expected(power=-1)
            for number in range(self.companions.count):
                seed = seed_for("reversed", self.seed, epoch, number)
                orders.append(self._classes.order(rare_first, seed=seed))
        return orders

    def _expected(self, epoch: int) -> npt.NDArray[np.float64]:
        """Return how often an epoch is to draw each class (Kang et al. 2020, equations 1 and 2)."""
        if self.config.name != "progressive":
            return self._classes.expected(power=_POWERS.get(self.config.name, self.config.power))
        t = epoch / max(1, self.epochs - 1)
        return (1 - t) * self._classes.expected(power=1) + t * self._classes.expected(power=0)

    def _draws(self, epoch: int, first_place: int, columns: Sequence[npt.NDArray[np.int64]]) -> list[Draw]:
        """Number the draws of a part: companion c of the anchor at place p has place p + (1 + c) N."""
        return [
            Draw(epoch, place, position)
            for number, column in enumerate(columns)
            for place, position in enumerate(column.tolist(), start=first_place + number * self.num_photos)
        ]


def _share(span: tuple[int, int], *, index: int, count: int) -> tuple[int, int]:
    """Cut a span into `count` that differ by one at most, the longer ones first; return one of them."""
    size, num_longer = divmod(span[1] - span[0], count)
    start = span[0] + index * size + min(index, num_longer)
    return start, start + size + (index < num_longer)
