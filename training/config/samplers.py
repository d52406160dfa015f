"""Which photos make an epoch; however they are drawn, an epoch is N / batch_size steps."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from imaging.config import Config


class SamplerConfig(Config):
    """How often each class is drawn (report D; Kang et al. 2020, equation 1: p_k ~ n_k^q)."""

    name: Literal["instance", "square_root", "class", "power", "progressive"] = "instance"
    """instance: every photo once an epoch (q = 1); square_root: q = 1/2; class: all classes alike (q = 0);
    power: q of your own; progressive: from instance to class, epoch by epoch."""

    power: float = Field(default=1.0, ge=-1, le=1)
    """q of `power`; the others do not read it."""

    positives: int = Field(default=0, ge=0)
    """Photos of the same class that accompany each photo drawn, beside batch_size."""
