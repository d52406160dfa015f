"""What a batch is made to teach: each objective turns it into a loss and logits."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imaging.config import Config, require


class PlainConfig(Config):
    """The loss of each photo, nothing else."""

    name: Literal["plain"] = "plain"


class MixConfig(Config):
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): two photos, two labels by their shares."""

    name: Literal["mix"] = "mix"

    mixup_alpha: float = Field(default=0.2, ge=0)
    """Beta distribution's parameter of the shares in mixup; 0 is no mixup."""

    cutmix_alpha: float = Field(default=0.0, ge=0)
    """The same for the area in CutMix; 0 is no CutMix."""

    probability: float = Field(default=1.0, ge=0, le=1)
    """Share of the batches that are mixed."""

    switch_probability: float = Field(default=0.5, ge=0, le=1)
    """Share of the mixed batches that CutMix gets where both are on."""

    @model_validator(mode="after")
    def _mixes_something(self) -> Self:
        require(
            self.mixup_alpha + self.cutmix_alpha > 0,
            key="mixup_alpha",
            expected="mixup_alpha or cutmix_alpha above 0",
            received=0.0,
        )
        return self


class DclConfig(Config):
    """Destruction and construction learning (Chen et al. 2019; report C): photos beside their jigsaws."""

    name: Literal["dcl"] = "dcl"

    grid: int = Field(default=7, ge=2)
    """Cells a side that a photo is cut into, and of the map in which each cell's place is predicted."""

    neighborhood: int = Field(default=2, ge=1)
    """How far, in cells, the jitter may carry a cell: q_i = i + U(-k, k)."""

    adversarial_weight: float = Field(default=1.0, ge=0)
    """beta: weight of telling originals from destructed copies."""

    location_weight: float = Field(default=1.0, ge=0)
    """gamma: weight of the L1 distance between predicted and true places."""


class LioConfig(Config):
    """Look-into-object (Zhou et al. 2020; report C): the object's extent and the places of its parts."""

    name: Literal["lio"] = "lio"

    positives: int = Field(default=3, ge=1)
    """Photos of the same class that stand beside each photo."""

    grid: int = Field(default=7, ge=2)
    """Side of the pooled feature map."""

    mask_weight: float = Field(default=0.1, ge=0)
    """Weight of the extent's regression."""

    coordinate_weight: float = Field(default=0.1, ge=0)
    """Weight of the polar coordinates' regression."""


class DistillationConfig(Config):
    """weight T^2 KL(teacher || student) at temperature T, and (1 - weight) loss (Hinton et al. 2015)."""

    name: Literal["distillation"] = "distillation"

    temperature: float = Field(default=4.0, gt=0)
    """T: divides both models' logits."""

    weight: float = Field(default=0.5, ge=0, le=1)
    """Share of the teacher's part."""


class BbnConfig(Config):
    """Bilateral-branch network (Zhou et al. 2020): photos as they come beside photos drawn by 1/n_k.

    The mix moves from the first to the second as 1 - (T / T_max)^2. Ours: the branches share the whole
    backbone and differ in their heads, so that the result is one head.
    """

    name: Literal["bbn"] = "bbn"


ObjectiveConfig = Annotated[
    PlainConfig | MixConfig | DclConfig | LioConfig | DistillationConfig | BbnConfig,
    Field(discriminator="name"),
]
