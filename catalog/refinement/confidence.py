"""Which class each photo is counted as by confident learning (Northcutt et al. 2021), without K x K numbers.

A photo counts as a class where its probability reaches what photos labelled so have on average. The evidence
holds the probability of the label and the largest other one, so only these two classes compete. cleanlab,
with the probabilities of all classes, also counts a photo as a third class: one that is less probable than
the largest other but reaches a lower threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.refinement.evidence import Bools, Ints

TOLERANCE = 1e-6  # cleanlab's: a class of equal probabilities must reach its own mean


@dataclass(frozen=True, kw_only=True)
class ConfidentCounts:
    """Which photos `[N]` confident learning counts, and as what; a photo may count as neither."""

    as_label: Bools
    as_other: Bools
    """Counted as its most probable other class: off the joint's diagonal."""
    thresholds: npt.NDArray[np.float64]
    """The threshold of each class that has a label: mean probability of the label over its photos [K']."""


def count_confidently(evidence: pl.DataFrame) -> ConfidentCounts:
    """Count each photo as its label, as its largest other class, or as neither.

    Where both reach their thresholds the more probable one wins, as in cleanlab. Photos without evidence or
    label are not counted, and a class without labels is never confident.
    """
    label, other = (evidence[name].cast(pl.Int64) for name in ("class", "other_class"))
    p_label, p_other = (
        evidence[name].cast(pl.Float64).fill_nan(None)
        for name in ("mean_label_probability", "mean_other_probability")
    )
    known = (
        label.is_not_null() & other.is_not_null() & p_label.is_not_null() & p_other.is_not_null()
    ).to_numpy()
    i, j = (classes.fill_null(0).to_numpy() for classes in (label, other))
    p_i, p_j = (values.fill_null(0.0).to_numpy() for values in (p_label, p_other))
    thresholds = _mean_by_class(
        i[known], p_i[known], num_classes=int(max(i.max(initial=0), j.max(initial=0))) + 1
    )
    label_is_confident = known & (p_i >= thresholds[i] - TOLERANCE)
    other_is_confident = known & (p_j >= thresholds[j] - TOLERANCE)
    other_wins = other_is_confident & ~(label_is_confident & (p_i >= p_j))
    return ConfidentCounts(
        as_label=label_is_confident & ~other_wins, as_other=other_wins, thresholds=thresholds
    )


def _mean_by_class(
    classes: Ints, values: npt.NDArray[np.float64], *, num_classes: int
) -> npt.NDArray[np.float64]:
    """Mean value of each class `[K]`, at least 2e-6 (cleanlab's bound); infinity where it has none."""
    counts = np.bincount(classes, minlength=num_classes)
    sums = np.bincount(classes, weights=values, minlength=num_classes)
    means = np.divide(sums, counts, out=np.full(num_classes, np.inf), where=counts > 0)
    bounded: npt.NDArray[np.float64] = np.maximum(means, 2 * TOLERANCE)
    return bounded


@dataclass(frozen=True, kw_only=True)
class Joint:
    """How many photos with one label belong to which class: the pairs `[P]` that occur, sorted."""

    pairs: Ints
    """label * num_classes + class; those on the diagonal belong to their label."""
    counts: Ints
    num_classes: int

    def of_pairs(self, pairs: Ints) -> tuple[Ints, Ints]:
        """Where each pair `[N]` stands in this table, and its count; 0 where it does not."""
        places = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        return places, np.where(self.pairs[places] == pairs, self.counts[places], 0)

    def of_diagonal(self, labels: Ints) -> Ints:
        """How many photos `[N]` of each label belong to it."""
        return self.of_pairs(labels * (self.num_classes + 1))[1]


def estimate_joint(labels: Ints, others: Ints, *, counts: ConfidentCounts) -> Joint:
    """Estimate the joint of labels and true classes from labels `[N]` and largest other classes `[N]`.

    The confident joint, calibrated so that each label sums to its photos and rounded to integers that still
    do (cleanlab.count.calibrate_confident_joint). At least one photo of each label counts as its own, as in
    cleanlab.
    """
    num_classes = int(max(labels.max(), others.max())) + 1
    off, num_off = np.unique((labels * num_classes + others)[counts.as_other], return_counts=True)
    sizes = np.bincount(labels, minlength=num_classes)
    own = np.flatnonzero(sizes)
    num_own = np.maximum(np.bincount(labels[counts.as_label], minlength=num_classes), 1)[own]
    pairs, counted = np.concatenate([off, own * (num_classes + 1)]), np.concatenate([num_off, num_own])
    order = np.argsort(pairs)
    pairs, counted = pairs[order], counted[order]
    label_of = pairs // num_classes
    exact = counted * (sizes / np.maximum(np.bincount(label_of, weights=counted), 1))[label_of]
    return Joint(pairs=pairs, counts=_round_within(exact, label_of, totals=sizes), num_classes=num_classes)


def _round_within(exact: npt.NDArray[np.float64], groups: Ints, *, totals: Ints) -> Ints:
    """Rounded numbers `[P]`, those furthest from exact changed by 1 until each group sums to its total.

    Of equally far ones the first is changed; cleanlab leaves that to the order of its sort.
    """
    rounded = np.round(exact)
    missing = totals - np.bincount(groups, weights=rounded, minlength=len(totals))
    sign = np.sign(missing)[groups]
    order = np.lexsort((-(exact - rounded) * sign, groups))
    first = np.cumsum(np.bincount(groups, minlength=len(totals))) - np.bincount(groups, minlength=len(totals))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - first[groups[order]]
    changed: Ints = (rounded + np.where(place < np.abs(missing)[groups], sign, 0)).astype(np.int64)
    return changed
