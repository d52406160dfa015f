"""How the learning rate changes; each begins with the same warm-up."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from imaging.config import Config, require


class _Schedule(Config):
    warmup_epochs: float = Field(default=0, ge=0)
    """Epochs (fractions allowed) in which the rate climbs from 1/1000 of lr to lr."""


class CosineConfig(_Schedule):
    """Fall along half a cosine, batch by batch."""

    name: Literal["cosine"] = "cosine"

    final_lr_share: float = Field(default=0.1, ge=0, le=1)
    """Where the cosine ends, as a share of lr: report B goes from 1e-4 to 1e-5."""


class ConstantConfig(_Schedule):
    """Stay at lr."""

    name: Literal["constant"] = "constant"


class MultiStepConfig(_Schedule):
    """Multiply by factor at each milestone (report D)."""

    name: Literal["multi_step"] = "multi_step"

    milestones: tuple[float, ...] = ()
    """Epochs after which the rate falls, rising; fractions allowed."""

    factor: float = Field(default=0.1, ge=1e-6, le=1)
    """What the rate is multiplied by at each."""

    @model_validator(mode="after")
    def _milestones_rise(self) -> Self:
        require(
            len(self.milestones) > 0 and list(self.milestones) == sorted(set(self.milestones)),
            key="milestones",
            expected="at least one epoch, in rising order",
            received=self.milestones,
        )
        return self


class PlateauConfig(_Schedule):
    """Multiply by factor when the validation's mean top-1 error stops falling (report A)."""

    name: Literal["plateau"] = "plateau"

    patience: int = Field(default=2, ge=0)
    """Epochs without improvement that are forgiven."""

    factor: float = Field(default=0.1, ge=1e-6, le=0.999)
    """What the rate is multiplied by."""

    min_improvement: float = Field(default=1e-4, ge=0)
    """Smallest fall of the error that counts as one."""


class ManualConfig(_Schedule):
    """Rates given by hand, as report C's team set them."""

    name: Literal["manual"] = "manual"

    shares: tuple[tuple[float, PositiveFloat], ...] = ()
    """Pairs (epoch, share of lr from then on), rising; before the first the rate is lr."""

    @model_validator(mode="after")
    def _epochs_rise(self) -> Self:
        epochs = [epoch for epoch, _ in self.shares]
        require(
            len(epochs) > 0 and epochs == sorted(set(epochs)),
            key="shares",
            expected="at least one pair (epoch, share of lr), in rising order",
            received=self.shares,
        )
        return self


ScheduleConfig = Annotated[
    CosineConfig | ConstantConfig | MultiStepConfig | PlateauConfig | ManualConfig,
    Field(discriminator="name"),
]
