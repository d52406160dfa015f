"""A cut by share: drop as many as are believed wrong, whatever their losses are.

Report B's absolute cut drops about 3 % of AliProducts; where the losses of another data set or model lie
elsewhere, the share is the number that can be carried over.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from catalog.refinement.ranking import score_labels
from catalog.refinement.threshold import RefinementByThreshold, list_kept, pass_all_but


class Quantile(RefinementByThreshold):
    """All photos but the share with the highest mean loss."""

    rule: Literal["quantile"] = "quantile"
    """A cut by share instead of an absolute one."""
    drop_share: float = Field(default=0.03, ge=0, lt=1)
    """Share of the photos to drop, rounded down; report B drops about 3 %."""
    per_class: bool = False
    """true: this share of each class, so that rare classes, with higher losses, lose no more than others."""


def keep_all_but_share(base: pl.DataFrame, *, scores: pl.DataFrame, config: Quantile) -> pl.DataFrame:
    """The photos of a list without the share with the highest mean losses, in its order; scores: its rows."""
    losses = score_labels(scores, rule="low_loss")
    classes = base["class"].to_numpy().astype(np.int64)
    groups = classes if config.per_class else np.zeros_like(classes)
    of = "its class" if config.per_class else "all"
    return list_kept(
        base,
        passing=pass_all_but(config.drop_share, scores=losses, classes=groups, photo_ids=base["photo_id"]),
        scores=losses,
        min_per_class=config.min_per_class,
        why=f"quantile: {{:.2f}}, not in the highest {config.drop_share:.1%} of {of}",
        numbers=[losses],
    )
