"""Loss-guided refinement (report B, stage 2): the photos a model finds easiest are the ones labelled rightly.

A wrong label stands out by a loss that stays high while the model learns the class. Ours, where the report is
silent: the cut by loss comes first but never takes a class below min(keep, n_k); ranks and median are taken
after it; an incomplete band uses the median photos; ties break by photo id.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from catalog.reasons import describe
from catalog.refinement.evidence import Bools, Floats, Ints, RefinementByScore
from catalog.refinement.max_loss import default_max_loss
from catalog.refinement.ranking import RankedLosses
from contracts.lists import LIST


class LowLoss(RefinementByScore):
    """The photos of each class with the lowest mean loss, or those in the middle."""

    rule: Literal["low_loss"] = "low_loss"
    """Report B's lists: a band of ranks of each class, or its median photos."""
    keep: int = Field(default=5, ge=1)
    """Photos of each class."""
    pick: Literal["rank", "median"] = "rank"
    """rank: from first_rank on; median: the photos in the middle of the class."""
    first_rank: int = Field(default=1, ge=1)
    """Rank of the first photo kept: 1 for the lowest losses, 6 and 11 for report B's further lists."""
    max_mean_loss: float | None = Field(default=None, allow_inf_nan=True)
    """Photos with a higher mean loss are cut first; null: 0.832 times the log of the number of classes."""

    @model_validator(mode="after")
    def _median_has_no_rank(self) -> Self:
        if self.pick == "median" and self.first_rank != 1:
            raise ValueError(f"Expected no first_rank beside pick: median, received {self.first_rank}.")
        return self


def keep_low_losses(ranked: RankedLosses, *, config: LowLoss) -> pl.DataFrame:
    """Make a list (columns of `catalog.lists`) of ranked losses, in the order of the list that was ranked.

    With first_rank above 1 a class uses its median photos instead of a band that is incomplete, or whose mean
    loss is higher than theirs (report B).
    """
    num_classes, sizes = len(ranked.sizes), ranked.sizes
    max_loss = default_max_loss(num_classes) if config.max_mean_loss is None else config.max_mean_loss
    passing = ranked.count_up_to(max_loss)
    left = np.maximum(passing, np.minimum(config.keep, sizes))
    offsets, from_band = _first_places(ranked, left, config=config)
    places = offsets[:, None] + np.arange(config.keep)
    classes, columns = np.nonzero(places < left[:, None])
    place = places[classes, columns]
    rows = ranked.rows[ranked.starts[classes] + place]
    in_order = np.argsort(rows)
    classes, place, rows = classes[in_order], place[in_order], rows[in_order]
    why = describe(_write, place + 1, left[classes], from_band[classes])
    return ranked.photos[rows].with_columns(why).select(LIST.names)


def _write(rank: float, left: float, from_band: float) -> str:
    return f"low_loss: {'' if from_band else 'median, '}rank {rank:.0f} of {left:.0f}"


def _first_places(ranked: RankedLosses, left: Ints, *, config: LowLoss) -> tuple[Ints, Bools]:
    """The place of the first photo kept of each class `[K]`, and whether it is the band's or the median's."""
    median = np.maximum(left - config.keep, 0) // 2
    if config.pick == "median":
        return median, np.zeros(len(left), dtype=np.bool_)
    band = np.full_like(left, config.first_rank - 1)
    complete = band + config.keep <= left
    band_loss, median_loss = (_mean_loss(ranked, offsets, keep=config.keep) for offsets in (band, median))
    use_band = complete & (band_loss <= median_loss)
    return np.where(use_band, band, median), use_band | (config.first_rank == 1)


def _mean_loss(ranked: RankedLosses, offsets: Ints, *, keep: int) -> Floats:
    """Mean loss of `keep` photos of each class from a place on `[K]`; without meaning where it has fewer."""
    last = len(ranked.losses) - 1
    places = np.minimum(ranked.starts + offsets, last)[:, None] + np.arange(keep)
    means: Floats = ranked.losses[np.minimum(places, last)].mean(axis=1, dtype=np.float64)
    return means
