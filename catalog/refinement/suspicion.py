"""How much the evidence speaks against each label: one number a photo, higher where the label looks wrong.

The rules cut and rank by these numbers; studies and contact sheets order photos by them, so that rules can be
compared at equal numbers dropped.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from catalog.refinement.evidence import Floats

SuspicionRule = Literal["low_loss", "aum", "confident"]
_TINY = np.finfo(np.float32).tiny  # a probability of 0 is only one too small for float32
NEEDED: dict[SuspicionRule, tuple[str, ...]] = {
    "low_loss": ("mean_loss",),
    "aum": ("mean_margin",),
    "confident": ("mean_label_probability", "mean_other_probability", "other_class"),
}
"""The columns of evidence that each rule reads, beside photo_id and class."""


def suspicion(evidence: pl.DataFrame, *, rule: SuspicionRule) -> Floats:
    """Score each photo's label `[N]` float32 in the evidence's order; higher is more suspicious.

    low_loss: mean loss in nats (report B). aum: the mean margin, negated (Pleiss et al. 2020, area under the
    margin). confident: log(p_other / p_label); the difference of the two saturates where p_other is near 1,
    and counting first what confident learning takes for another class ordered worse (docs/results.md). A
    photo never seen, or without a label, has infinity: nothing speaks for its label. Raises ValueError for
    missing columns.
    """
    missing = [name for name in (*NEEDED[rule], "class") if name not in evidence.columns]
    if missing:
        raise ValueError(
            f"Expected evidence with the columns {missing} for {rule!r}, received {evidence.columns}: give a "
            "loss log or out-of-fold predictions."
        )
    if rule == "low_loss":
        score = to_floats(evidence["mean_loss"])
    elif rule == "aum":
        score = -to_floats(evidence["mean_margin"])
    else:
        label, other = (to_floats(evidence[f"mean_{of}_probability"]) for of in ("label", "other"))
        score = np.log(np.maximum(other, _TINY)) - np.log(np.maximum(label, _TINY))
    return np.where(np.isfinite(score), score, np.float32(np.inf)).astype(np.float32)


def to_floats(column: pl.Series) -> Floats:
    """Values `[N]` as float32; NaN where null."""
    return column.cast(pl.Float32).fill_null(np.nan).to_numpy()
