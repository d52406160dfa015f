"""How pooled features become logits while training; every head is exported as a linear one for serving."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imaging.config import Config


class LinearConfig(Config):
    """Logits = W f + b."""

    name: Literal["linear"] = "linear"


class NormalizedConfig(Config):
    """Logits = scale cos(w, f): features and class weights of length 1."""

    name: Literal["normalized"] = "normalized"

    scale: float = Field(default=16.0, gt=0)
    """Temperature of the cosines, at the start where it is learnt."""

    learn_scale: bool = True
    """Whether the scale is trained with the weights."""


class ArcFaceConfig(Config):
    """Logits = scale cos(angle), the label's angle widened by margin (Deng et al. 2019, equation 3)."""

    name: Literal["arcface"] = "arcface"

    scale: float = Field(default=30.0, gt=0)
    """Temperature of the cosines."""

    margin: float = Field(default=0.5, ge=0, le=1.5)
    """Radians added to the angle between a photo and its label's weights."""


class ASoftmaxConfig(Config):
    """Logits = |f| cos(angle), the label's angle multiplied by margin (Liu et al. 2017, equation 7)."""

    name: Literal["a_softmax"] = "a_softmax"

    margin: int = Field(default=4, ge=1)
    """Whole factor of the angle between a photo and its label's weights."""

    lambda_start: float = Field(default=1500.0, ge=0)
    """Weight of the plain logit beside the margin's at the first step; as in the winners' code."""

    lambda_end: float = Field(default=5.0, ge=0)
    """What that weight falls to."""

    lambda_decay: float = Field(default=0.1, ge=0)
    """Weight at step t: lambda_start / (1 + lambda_decay t)."""


class LwsConfig(Config):
    """Learnable weight scaling: one factor a class on the initial weights, which stay (Kang et al. 2020)."""

    name: Literal["lws"] = "lws"


class TauNormalizedConfig(Config):
    """The initial weights as w / |w|^tau without bias; nothing is trained (Kang et al. 2020, section 4)."""

    name: Literal["tau_normalized"] = "tau_normalized"

    tau: float = Field(default=1.0, ge=0, le=2)
    """0 leaves the weights, 1 gives all classes the same length."""


class NearestMeanConfig(Config):
    """Each class's mean feature over the list as its weights; nothing is trained (Kang et al. 2020)."""

    name: Literal["nearest_mean"] = "nearest_mean"

    metric: Literal["cosine", "euclidean"] = "cosine"
    """cosine: scale cos(mean, f); euclidean: -|f - mean|^2, of lengths-1 features too."""

    scale: float = Field(default=16.0, gt=0)
    """Temperature of either, for the probabilities."""


HeadConfig = Annotated[
    LinearConfig
    | NormalizedConfig
    | ArcFaceConfig
    | ASoftmaxConfig
    | LwsConfig
    | TauNormalizedConfig
    | NearestMeanConfig,
    Field(discriminator="name"),
]
UNTRAINED_HEADS = (TauNormalizedConfig, NearestMeanConfig)
"""Heads that are computed at the end of a phase, which may have 0 epochs."""
HEADS_OF_TRAINED_MODELS = (LwsConfig, *UNTRAINED_HEADS)
"""Heads that need a trained model to start from."""
