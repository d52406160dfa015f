"""Area under the margin (Pleiss et al. 2020): a wrong label fights the class that the other photos teach.

The margin of a photo is its label's logit minus the largest other one, averaged over the epochs. A photo that
the model learns from others has a positive one early; one that it has to memorise stays negative for long.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from catalog.refinement.ranking import score_labels
from catalog.refinement.threshold import RefinementByThreshold, list_kept, pass_all_but


class Aum(RefinementByThreshold):
    """All photos but those with a low mean margin."""

    rule: Literal["aum"] = "aum"
    """Area under the margin. The paper sets the cut with a class of threshold samples; ours is a number."""
    min_margin: float | None = Field(default=None, allow_inf_nan=True)
    """Photos with a lower mean margin are dropped; null: 0, or drop_share where that is set."""
    drop_share: float | None = Field(default=None, ge=0, lt=1)
    """Share of the photos to drop, those with the lowest margins, rounded down; null: min_margin decides."""

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if self.drop_share is not None and self.min_margin is not None:
            raise ValueError(
                f"Expected min_margin or drop_share, received {self.min_margin} and {self.drop_share}."
            )
        return self


def keep_wide_margins(base: pl.DataFrame, *, scores: pl.DataFrame, config: Aum) -> pl.DataFrame:
    """The photos of a list with a mean margin of at least the cut, in its order; scores: its rows."""
    margins = -score_labels(scores, rule="aum")
    if config.drop_share is None:
        cut = 0.0 if config.min_margin is None else config.min_margin
        passing = margins >= cut
    else:
        everything = np.zeros(len(base), dtype=np.int64)
        passing = pass_all_but(
            config.drop_share, scores=-margins, classes=everything, photo_ids=base["photo_id"]
        )
        cut = float(margins[passing].min())
    return list_kept(
        base,
        passing=passing,
        scores=-margins,
        min_per_class=config.min_per_class,
        why=f"aum: margin {{:.2f}} >= {cut + 0.0:.2f}",
        numbers=[margins],
    )
