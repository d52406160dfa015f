"""Which photos a phase trains on, by rules that need no model.

Reports C and D both cap the photos of a class, for two reasons: C fine-tunes on a balanced list of 30 a
class, D trains on at most 250 a class to bound its cost. The arithmetic is one, the names and defaults are
theirs. Folds and unlabelled photos are lists too: those that evidence is made on.
"""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from catalog.chance import draw, hash_ids, order_within
from catalog.content import CONTENT
from catalog.reasons import describe
from contracts.lists import LIST
from contracts.values import AnySplit
from imaging.config import Config


class Full(Config):
    """All labelled photos."""

    rule: Literal["full"] = "full"
    """All labelled photos of a split."""
    split: AnySplit = "train"
    """The split that the photos come from."""


class HeadLimit(Config):
    """Report D's list: frequent classes lose what is too much of them."""

    rule: Literal["head_limit"] = "head_limit"
    """At most per_class photos of each class, drawn by chance."""
    per_class: int = Field(default=250, ge=1)
    """Photos of a class at most; all where it has fewer. Report D's."""
    split: AnySplit = "train"
    """The split that the photos come from."""


class Balanced(Config):
    """Report C's list: about as many photos of every class."""

    rule: Literal["balanced"] = "balanced"
    """At most per_class photos of each class, drawn by chance."""
    per_class: int = Field(default=30, ge=1)
    """Photos of a class at most; all where it has fewer. Report C's."""
    split: AnySplit = "train"
    """The split that the photos come from."""


class Fold(Config):
    """One side of a fold: a phase learns from all but the fold and predicts the fold that it never saw."""

    rule: Literal["fold"] = "fold"
    """A part of the labelled photos by a stable hash: a new photo moves no old one."""
    num_folds: int
    """How many folds the photos are dealt to, about equally."""
    fold: int
    """Which fold, from 0 on."""
    held_out: bool
    """true: the photos of the fold; false: all others."""
    split: AnySplit = "train"
    """The split that the photos come from."""

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.num_folds < 2 or not 0 <= self.fold < self.num_folds:
            raise ValueError(
                f"Expected num_folds >= 2 and fold in 0..num_folds-1, received {self.num_folds} and "
                f"{self.fold}."
            )
        return self


class Unlabelled(Config):
    """Photos without a label, for pseudo labels; their class in the list is null."""

    rule: Literal["unlabelled"] = "unlabelled"
    """All photos of a split that have no label."""
    split: AnySplit = "test"
    """The split that the photos come from."""


ListRule: TypeAlias = Full | HeadLimit | Balanced | Fold | Unlabelled


def make_list(splits: pl.DataFrame, *, config: ListRule, seed: int) -> pl.DataFrame:
    """Make the list of a rule from a splits table: the columns of `catalog.lists`, in the splits' order.

    Chance depends on (seed, photo_id) only. Raises ValueError for a rule that finds no photo.
    """
    has_label = pl.col("class").is_not_null()
    wanted = ~has_label if isinstance(config, Unlabelled) else has_label
    photos = splits.filter(pl.col("split") == config.split, wanted).select("photo_id", "class", *CONTENT)
    match config:
        case HeadLimit() | Balanced():
            made = _at_most(photos, config, seed)
        case Fold():
            made = _one_side(photos, config, seed)
        case _:
            made = photos.with_columns(why=pl.lit(f"{config.rule}: split {config.split}"))
    made = made.select(LIST.names)
    if made.is_empty():
        kind = "unlabelled" if isinstance(config, Unlabelled) else "labelled"
        raise ValueError(
            f"The list rule {config.rule!r} found no {kind} photo in split {config.split!r} of {len(splits)} "
            "photos: choose another split, or another split method."
        )
    return made


def _at_most(photos: pl.DataFrame, config: HeadLimit | Balanced, seed: int) -> pl.DataFrame:
    """The photos of each class with the smallest draws, so that a smaller per_class gives a subset."""
    classes = photos["class"].to_numpy()
    draws = draw(hash_ids(photos["photo_id"]), seed=seed, purpose="list")
    ranks = order_within(classes, draws, photos["photo_id"])
    kept = ranks < config.per_class
    most = np.minimum(np.bincount(classes), config.per_class)[classes[kept]]
    why = describe(f"{config.rule}: draw {{:.0f}} of {{:.0f}}".format, ranks[kept] + 1, most)
    return photos.filter(pl.Series(kept)).with_columns(why)


def _one_side(photos: pl.DataFrame, config: Fold, seed: int) -> pl.DataFrame:
    draws = draw(hash_ids(photos["photo_id"]), seed=seed, purpose="fold")
    in_fold = draws % np.uint64(config.num_folds) == config.fold
    side = "held out" if config.held_out else "all but"
    why = pl.lit(f"fold: {side} {config.fold} of {config.num_folds}")
    return photos.filter(pl.Series(in_fold == config.held_out)).with_columns(why=why)
