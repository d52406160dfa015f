"""How well a list found the labels that are known to be wrong: where the truth is kept aside."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, kw_only=True)
class DroppedScore:
    """How well the photos that a refinement list drops match the labels known to be wrong."""

    num_listed: int
    """Photos of the base whose truth is known."""
    num_wrong: int
    num_dropped: int
    num_wrong_dropped: int
    precision: float | None
    """Wrong among the dropped; None where none is dropped."""
    recall: float | None
    """Dropped among the wrong; None where none is wrong."""


def score_dropped(kept: pl.DataFrame, *, base: pl.DataFrame, truth: pl.DataFrame) -> DroppedScore:
    """Count how many wrong labels of a base a list dropped.

    base: the photos that could be dropped, with their labels: a list, or the labelled photos of train in a
    splits table. truth: photo_id and true class (truth.parquet); photos whose truth is unknown are not
    counted. A photo kept with another class than the base's is a label dropped. Raises ValueError where no
    truth is known.
    """
    known = truth.filter(pl.col("class").is_not_null()).select("photo_id", true_class="class")
    listed = base.select("photo_id", "class").join(known, on="photo_id", maintain_order="left")
    if listed.is_empty():
        raise ValueError(
            f"Expected true classes to score {len(base)} labels against, received none: only some sources "
            "know them, and data.split.noise keeps them aside."
        )
    stays = listed.join(
        kept.select("photo_id", "class", stays=True),
        on=["photo_id", "class"],
        how="left",
        maintain_order="left",
    )
    wrong = listed["class"] != listed["true_class"]
    dropped = stays["stays"].is_null()
    num_wrong, num_dropped, both = int(wrong.sum()), int(dropped.sum()), int((wrong & dropped).sum())
    return DroppedScore(
        num_listed=len(listed),
        num_wrong=num_wrong,
        num_dropped=num_dropped,
        num_wrong_dropped=both,
        precision=both / num_dropped if num_dropped else None,
        recall=both / num_wrong if num_wrong else None,
    )
