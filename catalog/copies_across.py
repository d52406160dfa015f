"""Copies of what is learnt among what measures: they make errors look smaller than they are.

A copy of a train photo in holdout, val or test is such a leak. Copies among the splits that measure deserve a
warning, no more: no weight is learnt from them, but what is tuned on one looks better on the other. Only
labelled photos count: unlabelled ones are neither learnt nor measured.
"""

from __future__ import annotations

import polars as pl

from catalog.duplicates import tie_copies
from catalog.splits import SplitConfig

COPIES_FILE = "copies_across_splits.parquet"

_ORDER = ("train", "holdout", "val", "test")
_NUM_SHOWN = 5


class CopiesAcrossSplitsError(ValueError):
    """A split that measures holds copies of train photos, and the parameters call that an error."""


def find_copies_across(splits: pl.DataFrame, *, exact: pl.DataFrame, near: pl.DataFrame) -> pl.DataFrame:
    """Find photos of a split with a copy in an earlier one of train, holdout, val, test.

    splits, exact and near as `catalog.splits` and `catalog.duplicates` make them. Columns: photo_id, split,
    other_id, other_split, kind ("exact" or "near"), distance (Int32); for each photo and earlier split one
    row, of the nearest copy there, so that many blank photos stay few rows; sorted by kind, splits and id.
    """
    involved = pl.concat([exact["photo_id"], near["photo_id"], near["other_id"]]).unique()
    photos = splits.filter(
        pl.col("photo_id").is_in(involved.implode()),
        pl.col("class").is_not_null(),
        pl.col("split").is_in(_ORDER),
    ).select("photo_id", pl.col("split").cast(pl.Enum(_ORDER)))
    at_once = near.filter(pl.col("distance") == 0)
    apart = near.filter(pl.col("distance") > 0)
    same_bytes = _nearest_earlier(photos, tied=exact, apart=near.clear())
    alike = _nearest_earlier(photos, tied=tie_copies(exact, at_once), apart=apart)
    alike = alike.join(same_bytes, on=["photo_id", "other_split"], how="anti")
    kinds = [same_bytes.with_columns(kind=pl.lit("exact")), alike.with_columns(kind=pl.lit("near"))]
    return (
        pl.concat(kinds)
        .sort("kind", "other_split", "split", "photo_id")
        .select(
            "photo_id",
            pl.col("split").cast(pl.String),
            "other_id",
            pl.col("other_split").cast(pl.String),
            "kind",
            "distance",
        )
    )


def _nearest_earlier(photos: pl.DataFrame, *, tied: pl.DataFrame, apart: pl.DataFrame) -> pl.DataFrame:
    """The nearest copy of each photo in each earlier split: photo_id, split, other_id, other_split, distance.

    tied: group, photo_id of photos at distance 0; apart: pairs of the first photos of two such groups, or of
    photos in none. A group is known by its first photo.
    """
    first = tied.select("photo_id", first=pl.col("photo_id").min().over("group"))
    named = photos.join(first, on="photo_id", how="left").with_columns(pl.coalesce("first", "photo_id"))
    back = apart.select(pl.col("other_id").alias("first"), other_first="photo_id", distance="distance")
    there = apart.select(pl.col("photo_id").alias("first"), other_first="other_id", distance="distance")
    same = first.select("first", other_first="first", distance=pl.lit(0, dtype=pl.Int32)).unique()
    others = named.group_by(other_first="first", other_split="split").agg(other_id=pl.col("photo_id").min())
    return (
        named.join(pl.concat([same, there, back]), on="first")
        .join(others, on="other_first")
        .filter(pl.col("other_split") < pl.col("split"))
        .sort("distance", "other_id")
        .unique(["photo_id", "other_split"], keep="first", maintain_order=True)
        .select("photo_id", "split", "other_id", "other_split", "distance")
    )


def check_copies(copies: pl.DataFrame, *, config: SplitConfig) -> list[str]:
    """Judge copies of `find_copies_across` by exact_across and near_across: sentences that warn.

    Raises CopiesAcrossSplitsError where copies of train photos are an error.
    """
    warnings: list[str] = []
    errors: list[str] = []
    for kind, verdict in (("exact", config.exact_across), ("near", config.near_across)):
        found = copies.filter(pl.col("kind") == kind)
        if verdict == "ignore" or found.is_empty():
            continue
        leaks = found.filter(pl.col("other_split") == "train")
        if len(leaks):
            told = errors if verdict == "error" else warnings
            told.append(f"{_describe(leaks, kind)} {_what_to_do(kind, verdict)}")
        if len(leaks) < len(found):
            warnings.append(_describe(found.filter(pl.col("other_split") != "train"), kind))
    if errors:
        raise CopiesAcrossSplitsError(" ".join(errors))
    return warnings


def _describe(copies: pl.DataFrame, kind: str) -> str:
    counts = copies.group_by("split", "other_split", maintain_order=True).len()
    pairs = ", ".join(f"{count:,} of {split} in {other}" for split, other, count in counts.iter_rows())
    shown = copies.head(_NUM_SHOWN).select("photo_id", "split", "other_id", "other_split").iter_rows()
    first = "; ".join(f"{photo} ({split}) and {other} ({of})" for photo, split, other, of in shown)
    return f"Photos have {kind} copies in another split: {pairs}. First: {first}. All: {COPIES_FILE}."


def _what_to_do(kind: str, verdict: str) -> str:
    if verdict == "warn":
        return "Errors measured there look smaller than they are."
    together = ", take the split method 'stratified' with keep_copies_together," if kind == "exact" else ""
    return f"Remove one side from the source{together} or set {kind}_across: warn in the split's parameters."
