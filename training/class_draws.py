"""Drawing photos so that classes come as often as they should, exactly, however long the tail.

Drawn independently, a class that should come 3 times an epoch would come 0 to 7 times, and a third of the
photos not at all. Here a class's count misses its expectation by less than one, and no photo is drawn twice
more often than another of its class. All of it is array work: an epoch may have millions of draws.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class ClassDraws:
    """The photos of a list by class; classes without any have no place here, hence probability 0."""

    def __init__(self, labels: Integers) -> None:
        sizes = np.bincount(labels)
        self.num_photos = len(labels)
        self._class_of: Integers = (np.cumsum(sizes > 0) - 1)[labels]
        self._sizes: Integers = sizes[sizes > 0]
        self._starts: Integers = np.cumsum(self._sizes) - self._sizes

    def expected(self, *, power: float) -> Floats:
        """Return how often each class comes in N draws with p_k ~ n_k^power."""
        weights = self._sizes ** np.float64(power)
        expected: Floats = weights * (self.num_photos / weights.sum())
        return expected

    def order(self, expected: Floats, *, seed: int) -> Integers:
        """Draw N positions in random order, [N].

        Each class comes as often as expected, rounded up or down at random (systematic sampling); within a
        class come whole passes over its photos, then a random rest without repetition.
        """
        generator = np.random.default_rng(seed)
        offset = generator.integers(2**20) / 2**20  # few bits: its sum with an integer is never rounded up
        ends = np.floor(np.cumsum(expected) + offset).astype(np.int64)
        ends[-1] = self.num_photos
        passes, rest = np.divmod(np.diff(ends, prepend=0), self._sizes)
        photos = self._shuffle_within_classes(generator)
        ranks = np.arange(self.num_photos) - np.repeat(self._starts, self._sizes)
        times = np.repeat(passes, self._sizes) + (ranks < np.repeat(rest, self._sizes))
        return generator.permutation(np.repeat(photos, times))

    def positives(self, anchors: Integers, *, count: int, seed: int) -> list[Integers]:
        """Draw `count` other photos of each anchor's class: a list of `count` arrays of positions, [A] each.

        Without repetition where the class has enough others, with repetition where it has fewer; an anchor
        that is alone accompanies itself.
        """
        generator = np.random.default_rng(seed)
        photos, rank_of = self._by_class
        classes, own_ranks = self._class_of[anchors], rank_of[anchors]
        num_others = self._sizes[classes] - 1
        drawn = np.empty((count, len(anchors)), dtype=np.int64)
        for number in range(count):  # Floyd's sample: Bentley and Floyd 1987
            last = num_others - count + number
            choices = np.where(num_others >= count, last + 1, num_others)
            ranks = (generator.random(len(anchors)) * choices).astype(np.int64)
            taken = (num_others >= count) & (drawn[:number] == ranks).any(axis=0)
            drawn[number] = np.where(taken, last, ranks)
        drawn += (drawn >= own_ranks) & (num_others > 0)  # ranks among the others to ranks in the class
        return list(photos[self._starts[classes] + drawn])

    @cached_property
    def _by_class(self) -> tuple[Integers, Integers]:
        """Positions sorted by class, and the rank of each position in its class."""
        photos = np.argsort(self._class_of, kind="stable")
        ranks = np.empty_like(photos)
        ranks[photos] = np.arange(self.num_photos) - np.repeat(self._starts, self._sizes)
        return photos, ranks

    def _shuffle_within_classes(self, generator: np.random.Generator) -> Integers:
        """Return the positions sorted by class, in random order within each."""
        shuffled = generator.permutation(self.num_photos)
        packed = self._class_of[shuffled] << 32 | np.arange(self.num_photos)
        packed.sort()  # ten times faster than a stable argsort
        photos: Integers = shuffled[packed & 0xFFFFFFFF]
        return photos
