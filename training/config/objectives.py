"""What a batch is made to teach: each objective turns it into a loss and logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.config.checks import ByName, Strict, require, require_at_least, require_positive, require_range


@dataclass(frozen=True, kw_only=True)
class PlainConfig(Strict):
    """The loss of each photo, nothing else."""

    name: Literal["plain"] = "plain"


@dataclass(frozen=True, kw_only=True)
class MixConfig(Strict):
    """Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): two photos, two labels by their shares."""

    name: Literal["mix"] = "mix"

    mixup_alpha: float = 0.2
    """Beta distribution's parameter of the shares in mixup; 0 is no mixup."""

    cutmix_alpha: float = 0.0
    """The same for the area in CutMix; 0 is no CutMix."""

    probability: float = 1.0
    """Share of the batches that are mixed."""

    switch_probability: float = 0.5
    """Share of the mixed batches that CutMix gets where both are on."""

    def __post_init__(self) -> None:
        """Refuse a mix of nothing."""
        for key in ("mixup_alpha", "cutmix_alpha"):
            require_at_least(getattr(self, key), key=f"objective.{key}", low=0)
        for key in ("probability", "switch_probability"):
            require_range(getattr(self, key), key=f"objective.{key}", low=0, high=1)
        require(
            self.mixup_alpha + self.cutmix_alpha > 0,
            key="objective.mixup_alpha",
            expected="mixup_alpha or cutmix_alpha above 0",
            received=0.0,
        )


@dataclass(frozen=True, kw_only=True)
class DclConfig(Strict):
    """Destruction and construction learning (Chen et al. 2019; report C): photos beside their jigsaws."""

    name: Literal["dcl"] = "dcl"

    grid: int = 7
    """Cells a side that a photo is cut into, and of the map in which each cell's place is predicted."""

    neighborhood: int = 2
    """How far, in cells, the jitter may carry a cell: q_i = i + U(-k, k)."""

    adversarial_weight: float = 1.0
    """beta: weight of telling originals from destructed copies."""

    location_weight: float = 1.0
    """gamma: weight of the L1 distance between predicted and true places."""

    def __post_init__(self) -> None:
        """Refuse a grid that cannot be shuffled."""
        require_at_least(self.grid, key="objective.grid", low=2)
        require_at_least(self.neighborhood, key="objective.neighborhood", low=1)
        for key in ("adversarial_weight", "location_weight"):
            require_at_least(getattr(self, key), key=f"objective.{key}", low=0)


@dataclass(frozen=True, kw_only=True)
class LioConfig(Strict):
    """Look-into-object (Zhou et al. 2020; report C): the object's extent and the places of its parts."""

    name: Literal["lio"] = "lio"

    positives: int = 3
    """Photos of the same class that stand beside each photo."""

    grid: int = 7
    """Side of the pooled feature map."""

    mask_weight: float = 0.1
    """Weight of the extent's regression."""

    coordinate_weight: float = 0.1
    """Weight of the polar coordinates' regression."""

    def __post_init__(self) -> None:
        """Refuse an extent without other photos to find it by."""
        require_at_least(self.positives, key="objective.positives", low=1)
        require_at_least(self.grid, key="objective.grid", low=2)
        for key in ("mask_weight", "coordinate_weight"):
            require_at_least(getattr(self, key), key=f"objective.{key}", low=0)


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(Strict):
    """weight T^2 KL(teacher || student) at temperature T, and (1 - weight) loss (Hinton et al. 2015)."""

    name: Literal["distillation"] = "distillation"

    temperature: float = 4.0
    """T: divides both models' logits."""

    weight: float = 0.5
    """Share of the teacher's part."""

    def __post_init__(self) -> None:
        """Refuse a share outside 0..1."""
        require_positive(self.temperature, key="objective.temperature")
        require_range(self.weight, key="objective.weight", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class BbnConfig(Strict):
    """Bilateral-branch network (Zhou et al. 2020): photos as they come beside photos drawn by 1/n_k.

    The mix moves from the first to the second as 1 - (T / T_max)^2. Ours: the branches share the whole
    backbone and differ in their heads, so that the result is one head.
    """

    name: Literal["bbn"] = "bbn"


ObjectiveConfig = Annotated[
    PlainConfig | MixConfig | DclConfig | LioConfig | DistillationConfig | BbnConfig, ByName()
]
