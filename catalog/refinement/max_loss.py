"""Report B's cut: photos whose mean loss is higher than a model that knows nothing should have."""

from __future__ import annotations

import math
from typing import Literal

import polars as pl
from pydantic import Field

from catalog.refinement.ranking import score_labels
from catalog.refinement.threshold import RefinementByThreshold, list_kept

_SHARE_OF_LOG = 0.832  # report B cuts at 9 for ln 50,030 = 10.82


class MaxLoss(RefinementByThreshold):
    """All photos but those with a high mean loss."""

    rule: Literal["max_loss"] = "max_loss"
    """Report B's cut alone."""
    max_mean_loss: float | None = Field(default=None, allow_inf_nan=True)
    """Photos with a higher mean loss are dropped; null: 0.832 times the log of the number of classes."""


def default_max_loss(num_classes: int) -> float:
    """Report B's 9 nats at 50,030 classes, for any number of classes."""
    return _SHARE_OF_LOG * math.log(num_classes)


def keep_up_to_loss(
    base: pl.DataFrame, *, scores: pl.DataFrame, num_classes: int, config: MaxLoss
) -> pl.DataFrame:
    """The photos of a list with a mean loss of at most the cut, in its order; scores: its rows."""
    cut = default_max_loss(num_classes) if config.max_mean_loss is None else config.max_mean_loss
    losses = score_labels(scores, rule="low_loss")
    return list_kept(
        base,
        passing=losses <= cut,
        scores=losses,
        min_per_class=config.min_per_class,
        why=f"max_loss: {{:.2f}} <= {cut:.2f}",
        numbers=[losses],
    )
