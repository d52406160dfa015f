"""How the learning rate changes; each begins with the same warm-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.config.checks import ByName, Strict, require, require_at_least, require_positive, require_range


@dataclass(frozen=True, kw_only=True)
class _Schedule(Strict):
    warmup_epochs: float = 0

    def __post_init__(self) -> None:
        """Refuse a warm-up that ends before it begins."""
        require_at_least(self.warmup_epochs, key="schedule.warmup_epochs", low=0)


@dataclass(frozen=True, kw_only=True)
class CosineConfig(_Schedule):
    """Fall along half a cosine, batch by batch."""

    name: Literal["cosine"] = "cosine"

    warmup_epochs: float = 0
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""

    final_lr_share: float = 0.1
    """Where the cosine ends, as a share of lr: report B goes from 1e-4 to 1e-5."""

    def __post_init__(self) -> None:
        """Refuse a rate that would end above its start."""
        super().__post_init__()
        require_range(self.final_lr_share, key="schedule.final_lr_share", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class ConstantConfig(_Schedule):
    """Stay at lr."""

    name: Literal["constant"] = "constant"

    warmup_epochs: float = 0
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""


@dataclass(frozen=True, kw_only=True)
class MultiStepConfig(_Schedule):
    """Multiply by factor at each milestone (report D)."""

    name: Literal["multi_step"] = "multi_step"

    warmup_epochs: float = 0
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""

    milestones: tuple[float, ...] = ()
    """Epochs after which the rate falls, rising; fractions allowed."""

    factor: float = 0.1
    """What the rate is multiplied by at each."""

    def __post_init__(self) -> None:
        """Refuse milestones out of order."""
        super().__post_init__()
        require(
            len(self.milestones) > 0 and list(self.milestones) == sorted(set(self.milestones)),
            key="schedule.milestones",
            expected="at least one epoch, in rising order",
            received=self.milestones,
        )
        require_range(self.factor, key="schedule.factor", low=1e-6, high=1)


@dataclass(frozen=True, kw_only=True)
class PlateauConfig(_Schedule):
    """Multiply by factor when the validation's mean top-1 error stops falling (report A)."""

    name: Literal["plateau"] = "plateau"

    warmup_epochs: float = 0
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""

    patience: int = 2
    """Epochs without improvement that are forgiven."""

    factor: float = 0.1
    """What the rate is multiplied by."""

    min_improvement: float = 1e-4
    """Smallest fall of the error that counts as one."""

    def __post_init__(self) -> None:
        """Refuse a plateau that is never reached."""
        super().__post_init__()
        require_at_least(self.patience, key="schedule.patience", low=0)
        require_at_least(self.min_improvement, key="schedule.min_improvement", low=0)
        require_range(self.factor, key="schedule.factor", low=1e-6, high=0.999)


@dataclass(frozen=True, kw_only=True)
class ManualConfig(_Schedule):
    """Rates given by hand, as report C's team set them."""

    name: Literal["manual"] = "manual"

    warmup_epochs: float = 0
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""

    shares: tuple[tuple[float, float], ...] = ()
    """Pairs (epoch, share of lr from then on), rising; before the first the rate is lr."""

    def __post_init__(self) -> None:
        """Refuse pairs out of order."""
        super().__post_init__()
        epochs = [epoch for epoch, _ in self.shares]
        require(
            len(epochs) > 0 and epochs == sorted(set(epochs)),
            key="schedule.shares",
            expected="at least one pair (epoch, share of lr), in rising order",
            received=self.shares,
        )
        for _, share in self.shares:
            require_positive(share, key="schedule.shares")


ScheduleConfig = Annotated[
    CosineConfig | ConstantConfig | MultiStepConfig | PlateauConfig | ManualConfig, ByName()
]
