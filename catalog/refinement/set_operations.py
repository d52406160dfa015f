"""Lists as sets of photos: what two lists have together, in common, or one without the other.

Rules answer one question each; their answers are combined here, and a row keeps the reasons of both.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

import polars as pl

from catalog.content import refuse_other_content
from catalog.refinement.evidence import Refinement

_BOTH = pl.concat_str("why", "why_other", separator="; ", ignore_nulls=True)


class Union(Refinement):
    """The photos of the base list and of another, which is the evidence."""

    rule: Literal["union"] = "union"
    """Photos of either list."""
    conflict: Literal["error", "base"] = "error"
    """A photo with two classes. error: the stage fails; base: it keeps the base list's."""


class Intersect(Refinement):
    """The photos that the base list and another, which is the evidence, both have with the same class."""

    rule: Literal["intersect"] = "intersect"
    """Photos of both lists."""


class Subtract(Refinement):
    """The photos of the base list that another, which is the evidence, does not have."""

    rule: Literal["subtract"] = "subtract"
    """Photos of the base list alone, whatever class the other gives them."""


def unite(base: pl.DataFrame | None, *, other: pl.DataFrame, config: Union) -> pl.DataFrame:
    """The base list, then the other's further photos; ValueError for a photo with two classes."""
    if base is None:
        return other
    both = _side_by_side(base, other, config=config)
    conflict = pl.col("class") != pl.col("class_other")
    found = both.filter(conflict)
    if config.conflict == "error" and len(found):
        shown = ", ".join(
            f"{photo!r} ({mine} and {theirs})"
            for photo, mine, theirs in found.head(3)["photo_id", "class", "class_other"].rows()
        )
        raise ValueError(
            f"Expected one class for each photo of {config.base} and {config.evidence}, received two for "
            f"{len(found)}, first {shown}: set conflict: base to keep the base list's."
        )
    why = pl.when(conflict).then("why").otherwise(_BOTH)
    further = other.join(base.select("photo_id"), on="photo_id", how="anti", maintain_order="left")
    return pl.concat([both.with_columns(why=why).select(base.columns), further.select(base.columns)])


def intersect(base: pl.DataFrame, *, other: pl.DataFrame, config: Intersect) -> pl.DataFrame:
    """The photos that both lists have with the same class, in the base list's order."""
    both = _side_by_side(base, other, config=config)
    both = both.filter(pl.col("class").eq_missing(pl.col("class_other")) & _IN_OTHER)
    return both.with_columns(why=_BOTH).select(base.columns)


def subtract(base: pl.DataFrame, *, other: pl.DataFrame, config: Subtract) -> pl.DataFrame:
    """The photos of the base list that the other does not have, in its order."""
    name = PurePosixPath(config.evidence).stem
    left = _side_by_side(base, other, config=config).filter(~_IN_OTHER).select(base.columns)
    return left.with_columns(why=pl.format("{}; not in {}", "why", pl.lit(name)))


_IN_OTHER = pl.col("why_other").is_not_null()


def _side_by_side(base: pl.DataFrame, other: pl.DataFrame, *, config: Refinement) -> pl.DataFrame:
    """The base list beside the other's rows of the same names; ValueError where a name means two photos."""
    both = base.join(other, on="photo_id", how="left", suffix="_other", maintain_order="left")
    refuse_other_content(both, suffix="_other", one=config.base, other=config.evidence)
    return both
