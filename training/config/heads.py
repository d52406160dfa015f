"""How pooled features become logits while training; every head is exported as a linear one for serving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.config.checks import ByName, Strict, require_at_least, require_positive, require_range


@dataclass(frozen=True, kw_only=True)
class LinearConfig(Strict):
    """Logits = W f + b."""

    name: Literal["linear"] = "linear"


@dataclass(frozen=True, kw_only=True)
class NormalizedConfig(Strict):
    """Logits = scale cos(w, f): features and class weights of length 1."""

    name: Literal["normalized"] = "normalized"

    scale: float = 16.0
    """Temperature of the cosines, at the start where it is learnt."""

    learn_scale: bool = True
    """Whether the scale is trained with the weights."""

    def __post_init__(self) -> None:
        """Refuse a scale that turns the answer round."""
        require_positive(self.scale, key="head.scale")


@dataclass(frozen=True, kw_only=True)
class ArcFaceConfig(Strict):
    """Logits = scale cos(angle), the label's angle widened by margin (Deng et al. 2019, equation 3)."""

    name: Literal["arcface"] = "arcface"

    scale: float = 30.0
    """Temperature of the cosines."""

    margin: float = 0.5
    """Radians added to the angle between a photo and its label's weights."""

    def __post_init__(self) -> None:
        """Refuse angles beyond a quarter turn."""
        require_positive(self.scale, key="head.scale")
        require_range(self.margin, key="head.margin", low=0, high=1.5)


@dataclass(frozen=True, kw_only=True)
class ASoftmaxConfig(Strict):
    """Logits = |f| cos(angle), the label's angle multiplied by margin (Liu et al. 2017, equation 7)."""

    name: Literal["a_softmax"] = "a_softmax"

    margin: int = 4
    """Whole factor of the angle between a photo and its label's weights."""

    lambda_start: float = 1500.0
    """Weight of the plain logit beside the margin's at the first step; as in the winners' code."""

    lambda_end: float = 5.0
    """What that weight falls to."""

    lambda_decay: float = 0.1
    """Weight at step t: lambda_start / (1 + lambda_decay t)."""

    def __post_init__(self) -> None:
        """Refuse margins that are none."""
        require_at_least(self.margin, key="head.margin", low=1)
        for key in ("lambda_start", "lambda_end", "lambda_decay"):
            require_at_least(getattr(self, key), key=f"head.{key}", low=0)


@dataclass(frozen=True, kw_only=True)
class LwsConfig(Strict):
    """Learnable weight scaling: one factor a class on the initial weights, which stay (Kang et al. 2020)."""

    name: Literal["lws"] = "lws"


@dataclass(frozen=True, kw_only=True)
class TauNormalizedConfig(Strict):
    """The initial weights as w / |w|^tau without bias; nothing is trained (Kang et al. 2020, section 4)."""

    name: Literal["tau_normalized"] = "tau_normalized"

    tau: float = 1.0
    """0 leaves the weights, 1 gives all classes the same length."""

    def __post_init__(self) -> None:
        """Refuse strengths outside the method's range."""
        require_range(self.tau, key="head.tau", low=0, high=2)


@dataclass(frozen=True, kw_only=True)
class NearestMeanConfig(Strict):
    """Each class's mean feature over the list as its weights; nothing is trained (Kang et al. 2020)."""

    name: Literal["nearest_mean"] = "nearest_mean"

    metric: Literal["cosine", "euclidean"] = "cosine"
    """cosine: scale cos(mean, f); euclidean: -|f - mean|^2, of lengths-1 features too."""

    scale: float = 16.0
    """Temperature of either, for the probabilities."""

    def __post_init__(self) -> None:
        """Refuse a scale that turns the answer round."""
        require_positive(self.scale, key="head.scale")


HeadConfig = Annotated[
    LinearConfig
    | NormalizedConfig
    | ArcFaceConfig
    | ASoftmaxConfig
    | LwsConfig
    | TauNormalizedConfig
    | NearestMeanConfig,
    ByName(),
]
UNTRAINED_HEADS = (TauNormalizedConfig, NearestMeanConfig)
"""Heads that are computed at the end of a phase, which may have 0 epochs."""
HEADS_OF_TRAINED_MODELS = (LwsConfig, *UNTRAINED_HEADS)
"""Heads that need a trained model to start from."""
