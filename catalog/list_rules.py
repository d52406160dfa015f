"""Which photos a phase trains on, by rules that need no model.

Reports C and D both cap the photos of a class, for two reasons: C fine-tunes on a balanced list of 30 a
class, D trains on at most 250 a class to bound its cost. The arithmetic is one, the names and defaults are
theirs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import polars as pl

from catalog.chance import draw_hash
from catalog.splits import SPLITS

_DEFAULT_PER_CLASS = {"head_limit": 250, "balanced": 30}  # reports D and C


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """A list rule and its numbers."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    rule: Literal["full", "head_limit", "balanced"] = "full"
    """full: all labelled photos; head_limit, balanced: at most per_class of each class, drawn by chance."""
    per_class: int | None = None
    """Photos of a class at most; null: 250 for head_limit, 30 for balanced."""
    split: str = "train"
    """The split that the photos come from."""


def make_list(splits: pl.DataFrame, *, config: ListConfig, seed: int) -> pl.DataFrame:
    """Make the list of a rule from a splits table: photo_id, class (Int32), why, in the splits' order.

    Chance depends on (seed, photo_id) only. Raises ValueError for an unknown rule (with the nearest one),
    numbers that the rule has no use for, and an empty list.
    """
    if config.rule not in RULES:
        matches = difflib.get_close_matches(config.rule, RULES, n=1)
        hint = f", did you mean {matches[0]!r}?" if matches else ""
        raise ValueError(f"Unknown list rule {config.rule!r}{hint}. Rules: {', '.join(RULES)}.")
    if config.split not in SPLITS:
        raise ValueError(f"Unknown split {config.split!r} of a list. Splits: {', '.join(SPLITS)}.")
    photos = splits.filter(pl.col("split") == config.split, pl.col("class").is_not_null())
    if photos.is_empty():
        raise ValueError(
            f"The list rule {config.rule!r} found no labelled photo in split {config.split!r} of "
            f"{len(splits)} photos: choose another split, or another split method."
        )
    return RULES[config.rule](photos.select("photo_id", "class"), config, seed)


def _full(photos: pl.DataFrame, config: ListConfig, seed: int) -> pl.DataFrame:
    if config.per_class is not None:
        raise ValueError(
            f"The list rule 'full' takes all photos, received per_class {config.per_class}: leave it out, or "
            "use head_limit or balanced."
        )
    return photos.with_columns(why=pl.lit(f"full: split {config.split}"))


def _at_most(photos: pl.DataFrame, config: ListConfig, seed: int) -> pl.DataFrame:
    """The photos of each class with the smallest hashes, so that a smaller per_class gives a subset."""
    per_class = _DEFAULT_PER_CLASS[config.rule] if config.per_class is None else config.per_class
    if per_class < 1:
        raise ValueError(f"The list rule {config.rule!r} expects per_class >= 1, received {per_class}.")
    hashed = photos.with_columns(draw_hash(photos["photo_id"], seed=seed, purpose="list"))
    drawn = hashed.with_columns(
        draw=pl.struct("hash", "photo_id").rank("ordinal").over("class"),
        of=pl.len().over("class").clip(upper_bound=per_class),
    ).filter(pl.col("draw") <= per_class)
    why = pl.format("{}: draw {} of {}", pl.lit(config.rule), "draw", "of")
    return drawn.select("photo_id", "class", why=why)


RULES: dict[str, Callable[[pl.DataFrame, ListConfig, int], pl.DataFrame]] = {
    "full": _full,
    "head_limit": _at_most,
    "balanced": _at_most,
}
