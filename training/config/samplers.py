"""Which photos make an epoch; however they are drawn, an epoch is N / batch_size steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.config.checks import Strict, require_at_least, require_range


@dataclass(frozen=True, kw_only=True)
class SamplerConfig(Strict):
    """How often each class is drawn (report D; Kang et al. 2020, equation 1: p_k ~ n_k^q)."""

    name: Literal["instance", "square_root", "class", "power", "progressive"] = "instance"
    """instance: every photo once an epoch (q = 1); square_root: q = 1/2; class: all classes alike (q = 0);
    power: q of your own; progressive: from instance to class, epoch by epoch."""

    power: float = 1.0
    """q of `power`; the others do not read it."""

    positives: int = 0
    """Photos of the same class that accompany each photo drawn, beside batch_size."""

    def __post_init__(self) -> None:
        """Refuse powers that draw frequent classes beyond their share."""
        require_range(self.power, key="sampler.power", low=-1, high=1)
        require_at_least(self.positives, key="sampler.positives", low=0)
