"""Is one model better than another, or is the difference chance? Paired, on the same photos, class by class.

The error that versions are compared by is a mean over classes, most of them of one to five photos. Where a
bootstrap draws the photos of a class of n again, it finds (n-1)/n of its variance: half of it at two photos,
nothing at one. So it takes chance for a difference too often; `bootstrap_changes` corrects this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, false_discovery_control

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MIN_POOL = 100
"""Photos from which a class of one photo is drawn, at least: of twenty, a fifth of the pools would hold no
difference at all, and 7 instead of 5 % of equal models would seem to differ."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """How two models' answers to the same photos differ, a row for each class with photos [K]."""

    classes: Ints
    num_photos: Ints
    num_worse: Ints
    """Photos that the first model gets wrong and the other one right."""
    num_better: Ints
    """Photos that the first model gets right and the other one wrong."""
    num_wrong: Ints
    """Photos that the first model gets wrong."""

    @property
    def difference(self) -> float:
        """The first model's mean top-1 error minus the other's."""
        return float(np.mean((self.num_worse - self.num_better) / self.num_photos))


def count_changes(wrong: Bools, other_wrong: Bools, labels: Ints) -> Changes:
    """Count by class; wrong, other_wrong, labels [N], of the same photos in the same order.

    ValueError for arrays of other lengths, or for none.
    """
    wrong, other_wrong, labels = np.asarray(wrong), np.asarray(other_wrong), np.asarray(labels)
    if not (wrong.shape == other_wrong.shape == labels.shape == (labels.size,)) or labels.size == 0:
        raise ValueError(
            f"Expected answers and labels [N] of the same photos, at least one, received {wrong.shape}, "
            f"{other_wrong.shape} and {labels.shape}."
        )
    classes, row_of, num_photos = np.unique(labels, return_inverse=True, return_counts=True)
    count = len(classes)
    return Changes(
        classes=classes,
        num_photos=num_photos,
        num_worse=np.bincount(row_of[wrong & ~other_wrong], minlength=count),
        num_better=np.bincount(row_of[~wrong & other_wrong], minlength=count),
        num_wrong=np.bincount(row_of[wrong], minlength=count),
    )


def bootstrap_difference(
    wrong: Bools,
    other_wrong: Bools,
    labels: Ints,
    *,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the difference of two models' mean top-1 errors on the same photos, and its interval.

    wrong, other_wrong, labels [N], of the same photos in the same order; negative where the first errs less.
    An interval that holds 0 may be chance. The interval is that of `bootstrap_changes`.
    """
    changes = count_changes(wrong, other_wrong, labels)
    return bootstrap_changes(changes, num_resamples=num_resamples, confidence=confidence, seed=seed)


def bootstrap_changes(
    changes: Changes, *, num_resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Return the difference of mean top-1 errors of counted changes, and its interval.

    With d_ci in {-1, 0, 1}, the first model's error on photo i of class c minus the other's, and d_c their
    mean over the n_c photos, the difference is D = mean_c d_c. Each resample draws n_c photos of each class
    with replacement, both models' answers together, and gives

        D* = D + mean_c sqrt(n_c / (n_c - 1)) (d*_c - d_c)

    so that the variance of D* is mean_c of the unbiased s_c^2 / n_c, over K. A class of one photo has no
    variance of its own: its difference is drawn from the pool of all classes of one photo, m photos, around
    the pool's mean and with sqrt(m / (m - 1)). Where these are fewer than 100, the classes of two photos
    join the pool, then those of three, and so on. The interval is D -+ the quantile of |D* - D| at
    `confidence` (symmetric percentile method: Hall, "The Bootstrap and Edgeworth Expansion", 1992, section
    3.6; the percentiles of D* themselves would lean the wrong way where few photos differ), within -1..1,
    which is the answer where there is one photo.

    Drawing a class again is a multinomial of its counts, and m classes of equal counts add up to one of m n
    photos, so time grows with the number of different counts, not with the photos.
    """
    gap, num_classes = changes.difference, len(changes.classes)
    if changes.num_photos.sum() == 1:
        return gap, -1.0, 1.0
    generator = np.random.default_rng(seed)
    deviations = np.zeros(num_resamples)
    for cell in _cells(changes):
        deviations += cell.draw(generator, num_resamples=num_resamples)
    width = float(np.quantile(np.abs(deviations), confidence)) / num_classes
    return gap, max(-1.0, gap - width), min(1.0, gap + width)


def worse_classes(changes: Changes, *, confidence: float = 0.95) -> tuple[Ints, Floats]:
    """Return rows of classes that became significantly worse, most certain first, and their p-values.

    Exact one-sided sign test (McNemar's) of each class: of the photos that only one model gets right, the
    first one's share would be half by chance. Corrected for the number of classes by Benjamini and Hochberg
    (1995): of the classes named, at most a share 1 - confidence is expected to be there by chance.
    """
    # A class on which the models never differ has p = 1; it counts as a class that was looked at.
    differing = changes.num_worse + changes.num_better
    p_values = binom.sf(changes.num_worse - 1, differing, 0.5)
    adjusted = np.asarray(false_discovery_control(p_values, method="bh"))
    rows = np.flatnonzero(adjusted <= 1 - confidence)
    rows = rows[np.argsort(adjusted[rows], kind="stable")]
    return rows, adjusted[rows]


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """Photos of classes with equal counts, drawn together."""

    num_drawn: int
    worse: float
    better: float
    """Shares of the photos that are drawn from."""
    scale: float
    """What a photo's deviation counts in the sum over classes."""

    def draw(self, generator: np.random.Generator, *, num_resamples: int) -> Floats:
        """Sums of the deviations [resamples] of the classes' means from what they are."""
        changed = generator.binomial(self.num_drawn, min(1.0, self.worse + self.better), num_resamples)
        if self.worse == 0 or self.better == 0:
            sums = changed if self.better == 0 else -changed
        else:
            sums = 2 * generator.binomial(changed, self.worse / (self.worse + self.better)) - changed
        deviations = sums - self.num_drawn * (self.worse - self.better)
        return np.asarray(self.scale * deviations, dtype=np.float64)


def _cells(changes: Changes) -> Iterator[_Cell]:
    """What is drawn; classes on which the models never differ deviate by nothing and are left out."""
    sizes, worse, better = changes.num_photos, changes.num_worse, changes.num_better
    single = sizes == 1
    if num_single := int(single.sum()):
        photos_of_size = np.bincount(sizes, weights=sizes)
        enough = np.cumsum(photos_of_size) >= _MIN_POOL
        pool = sizes <= np.argmax(enough) if enough.any() else np.ones_like(single)
        in_pool = int(sizes[pool].sum())
        yield _Cell(
            num_drawn=num_single,
            worse=float(worse[pool].sum()) / in_pool,
            better=float(better[pool].sum()) / in_pool,
            scale=float(np.sqrt(in_pool / (in_pool - 1))),
        )
    several = np.stack([sizes, worse, better], axis=1)[~single & (worse + better > 0)]
    counts, multiplicity = np.unique(several, axis=0, return_counts=True)
    for (size, num_worse, num_better), times in zip(counts.tolist(), multiplicity.tolist(), strict=True):
        yield _Cell(
            num_drawn=size * times,
            worse=num_worse / size,
            better=num_better / size,
            scale=float(np.sqrt(size / (size - 1))) / size,
        )
