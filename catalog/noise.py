"""Wrong labels on purpose, so that a study knows which labels a refinement list should have dropped.

Only train is changed: what measures stays right. The labels before are kept aside by `catalog.splits`
(truth.parquet) and read by nothing that trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field, model_validator

from catalog.chance import Hashes, draw, hash_ids, order_within
from imaging.config import Config

KINDS = ("none", "symmetric", "within_coarse", "confusion")

Ints = npt.NDArray[np.int64]


class NoiseConfig(Config):
    """Which labels of train are made wrong, for studies."""

    kind: Literal["none", "symmetric", "within_coarse", "confusion"] = "none"
    """What a wrong label becomes. symmetric: any other class, all equally likely; within_coarse: another of
    the same coarse class; confusion: a class that a model took it for, as often as it did."""
    share: float = Field(default=0.0, ge=0, le=1)
    """Share of train's labels that become wrong."""
    confusion_path: str = "conf/nothing.yaml"
    """confusion: out-of-fold predictions of the same classes (data/predictions/<recipe>/<name>.parquet),
    copied to where no stage of this pipeline writes."""

    @model_validator(mode="after")
    def _share_has_a_kind(self) -> Self:
        if self.kind == "none" and self.share > 0:
            raise ValueError(
                f"Expected a kind of noise for the share {self.share}, received 'none'. Kinds: "
                f"{', '.join(KINDS[1:])}."
            )
        return self


def inject_noise(
    splits: pl.DataFrame,
    *,
    config: NoiseConfig,
    num_classes: int,
    coarse_of_class: Sequence[str | None],
    confusion: pl.DataFrame | None = None,
    seed: int,
) -> pl.DataFrame:
    """Make labels of train wrong in a splits table (photo_id, class, coarse, split), whose order stays.

    Exactly round(share x labelled photos of train) labels change (halves to the even number), those with the
    smallest draws of (seed, photo_id): a larger share holds a smaller one's photos and labels.
    All photos are equally likely, so under `symmetric` a rare class may end up mostly wrong. within_coarse: a
    class alone in its coarse class, or without one, keeps its labels; confusion (class, predicted, count of
    `count_confusions`): so does a class never taken for another; the rest takes the whole number. Raises
    ValueError where fewer labels than that can change, or where classes, coarse classes or confusions are
    missing or of other data.
    """
    if config.kind == "none":
        return splits
    choice = _make_choice(
        config, num_classes=num_classes, coarse_of_class=coarse_of_class, confusion=confusion
    )
    labelled = (splits["split"] == "train") & splits["class"].is_not_null()
    count = round(config.share * int(labelled.sum()))
    rows = labelled.arg_true().to_numpy()
    classes = splits["class"].gather(rows).to_numpy()
    able = choice.can_change[classes]
    if count > able.sum():
        raise ValueError(
            f"Expected {count:,} wrong labels ({config.share} of {len(rows):,} photos in train), but only "
            f"{able.sum():,} photos have another class to become by {config.kind!r}: lower the share or "
            "take the kind 'symmetric'."
        )
    rows, classes = rows[able], classes[able]
    photo_ids = splits["photo_id"].gather(rows)
    hashes = hash_ids(photo_ids)
    drawn = order_within(np.zeros_like(classes), draw(hashes, seed=seed, purpose="noise"), photo_ids) < count
    wrong = choice.draw(classes[drawn], draw(hashes[drawn], seed=seed, purpose="wrong class"))
    return _relabel(splits, rows=rows[drawn], classes=wrong, coarse_of_class=coarse_of_class)


def count_confusions(evidence: pl.DataFrame) -> pl.DataFrame:
    """Count how often photos of a class were taken for another: class, predicted (Int32), count (Int64).

    evidence: its rows (class, other_class, mean_margin), where a margin below 0 means that the other
    class was predicted; unlabelled photos do not count.
    """
    return (
        evidence.filter(pl.col("class").is_not_null(), pl.col("mean_margin") < 0)
        .group_by("class", predicted="other_class")
        .agg(count=pl.len().cast(pl.Int64))
        .sort("class", "predicted")
    )


class _Choice(Protocol):
    """What a label may become instead."""

    @property
    def can_change(self) -> npt.NDArray[np.bool_]:
        """Whether a label of each class has another to become, `[K]`."""

    def draw(self, classes: Ints, draws: Hashes) -> Ints:
        """Another class for each label `[N]`, by its draw."""


class _AnotherOfGroup:
    """Any other class of the same group, all equally likely; classes of group -1 have no other."""

    def __init__(self, groups: Ints) -> None:
        order = np.argsort(groups, kind="stable")
        _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        first = (np.cumsum(sizes) - sizes)[inverse]
        self._order = order
        self._first = first
        self._place = np.empty_like(order)
        self._place[order] = np.arange(len(order))
        self._place -= first
        self._size = np.where(groups < 0, 1, sizes[inverse])
        self.can_change = self._size > 1

    def draw(self, classes: Ints, draws: Hashes) -> Ints:
        size = self._size[classes].astype(np.uint64)
        step = 1 + (draws % (size - np.uint64(1))).astype(np.int64)
        place = (self._place[classes] + step) % self._size[classes]
        return self._order[self._first[classes] + place]


class _AsConfused:
    """A class that a label's class was taken for, as likely as its count; a sparse table sorted by class."""

    def __init__(self, confusion: pl.DataFrame, *, num_classes: int) -> None:
        table = confusion.filter(pl.col("class") != pl.col("predicted"), pl.col("count") > 0).sort("class")
        counts = table["count"].to_numpy()
        self._predicted = table["predicted"].to_numpy().astype(np.int64)
        self._ends = np.cumsum(counts)
        self._total = np.zeros(num_classes, dtype=np.int64)
        np.add.at(self._total, table["class"].to_numpy(), counts)
        self._start = np.cumsum(self._total) - self._total
        self.can_change = self._total > 0

    def draw(self, classes: Ints, draws: Hashes) -> Ints:
        place = (draws % self._total[classes].astype(np.uint64)).astype(np.int64)
        return self._predicted[np.searchsorted(self._ends, self._start[classes] + place, side="right")]


def _make_choice(
    config: NoiseConfig,
    *,
    num_classes: int,
    coarse_of_class: Sequence[str | None],
    confusion: pl.DataFrame | None,
) -> _Choice:
    if len(coarse_of_class) != num_classes:
        raise ValueError(
            f"Expected a coarse class or None for each of {num_classes} classes, received "
            f"{len(coarse_of_class)}."
        )
    if config.kind == "symmetric":
        return _AnotherOfGroup(np.zeros(num_classes, dtype=np.int64))
    if config.kind == "within_coarse":
        codes = pl.Series(coarse_of_class, dtype=pl.String).rank("dense").cast(pl.Int64).fill_null(-1)
        return _AnotherOfGroup(codes.to_numpy())
    if confusion is None:
        raise ValueError(
            "The noise kind 'confusion' needs how often classes were taken for each other, received nothing: "
            "set confusion_path to out-of-fold predictions of the same classes."
        )
    outside = confusion.filter(
        ~pl.all_horizontal(pl.col("class", "predicted").is_between(0, num_classes - 1))
    )
    if len(outside):
        raise ValueError(
            f"Expected confusions among classes 0..{num_classes - 1}, received class {outside['class'][0]} "
            f"taken for {outside['predicted'][0]} ({len(outside)} such rows): they are of other classes."
        )
    return _AsConfused(confusion, num_classes=num_classes)


def _relabel(
    splits: pl.DataFrame, *, rows: Ints, classes: Ints, coarse_of_class: Sequence[str | None]
) -> pl.DataFrame:
    coarse = pl.Series(coarse_of_class, dtype=pl.String).gather(classes)
    return splits.with_columns(
        splits["class"].clone().scatter(rows, pl.Series(classes, dtype=pl.Int32)),
        splits["coarse"].clone().scatter(rows, coarse),
    )
