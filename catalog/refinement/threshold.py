"""What rules share that keep a photo by its own number: the floor of a class, and the text of each row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from pydantic import Field

from catalog.reasons import describe
from catalog.refinement.evidence import Bools, Floats, Ints, RefinementByScore
from catalog.refinement.ranking import keep_at_least, rank_within
from contracts.lists import LIST


class RefinementByThreshold(RefinementByScore):
    """What rules have that keep a photo by its own number."""

    min_per_class: int = Field(default=1, ge=0)
    """No class falls below this, or below what it has: its best photos by the rule's score stay."""


def pass_all_but(share: float, *, scores: Floats, classes: Ints, photo_ids: pl.Series) -> Bools:
    """Which photos `[N]` pass when a share of each class with the highest scores goes, rounded down.

    Of equal scores the lower photo id stays. Classes that are all 0 make it a share of everything.
    """
    sizes = np.bincount(classes)
    num_kept = sizes - np.floor(share * sizes).astype(np.int64)
    passing: Bools = rank_within(classes, scores, photo_ids) < num_kept[classes]
    return passing


def list_kept(
    base: pl.DataFrame,
    *,
    passing: Bools,
    scores: Floats,
    min_per_class: int,
    why: str,
    numbers: Sequence[Floats],
) -> pl.DataFrame:
    """The list (columns of `catalog.lists`) of the photos `[N]` that pass, and of those a class needs.

    A photo with an infinite score, which was never seen, passes no rule. why: "rule: ..." with a place for
    each of a photo's numbers `[N]`; the text of those that pass.
    """
    passing = passing & np.isfinite(scores)
    kept = keep_at_least(
        passing,
        classes=base["class"].to_numpy().astype(np.int64),
        scores=scores,
        photo_ids=base["photo_id"],
        count=min_per_class,
    )
    passed = passing[kept]
    shown = (np.where(passed, column[kept], np.float32(0)) for column in numbers)
    texts = describe(why.format, *shown)
    if not passed.all():
        floor = f"{why.partition(':')[0]}: among the best {min_per_class} of its class"
        texts = texts.set(pl.Series(~passed), floor)
    chosen = base.filter(pl.Series(kept))
    return chosen.with_columns(pl.col("class").cast(pl.Int32), why=texts).select(LIST.names)
