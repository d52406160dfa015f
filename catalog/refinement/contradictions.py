"""One picture under two labels: one of them must be wrong, and no model is needed to see it (report C)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import polars as pl

from catalog.duplicates import contradictions
from catalog.refinement.evidence import Refinement


class Contradictions(Refinement):
    """All photos but copies of each other with different labels; evidence is a duplicates folder."""

    rule: Literal["contradictions"] = "contradictions"
    """Drops every photo of a group of copies whose labels differ."""
    near: bool = False
    """true: near copies count as copies too; different products in one packaging line may then be lost."""
    keep_majority: bool = False
    """true: of a group in which more than half have the same label, those photos stay."""


def drop_contradictions(
    base: pl.DataFrame, *, duplicates: Mapping[str, pl.DataFrame], config: Contradictions
) -> pl.DataFrame:
    """The photos of a list without copies that contradict its labels, in its order."""
    labels = base.select("photo_id", "class")
    near = duplicates["near"] if config.near else None
    groups = contradictions(duplicates["exact"], near, labels)
    majority = groups.filter(pl.len().over("group", "class") * 2 > pl.len().over("group"))
    dropped = groups.join(majority, on="photo_id", how="anti") if config.keep_majority else groups
    kept = base.join(dropped.select("photo_id"), on="photo_id", how="anti", maintain_order="left")
    stays = pl.col("photo_id").is_in(majority["photo_id"].implode())
    reason = pl.when(stays).then(pl.lit("label of most copies")).otherwise(pl.lit("not in contradictions"))
    return kept.with_columns(why=pl.format("{}; {}", "why", reason))
