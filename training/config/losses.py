"""What the optimiser lowers. The loss log always records plain cross entropy, whatever stands here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imaging.config import Config

ClassWeights = Literal["none", "inverse", "effective_number"]
"""inverse: w(k) = N / (K n_k), counted on the phase's list (report A); effective_number: (1 - b) /
(1 - b^n_k), scaled to a mean of 1 over the classes (Cui et al. 2019; report D cites it). A class without
photos weighs 0."""


class CrossEntropyConfig(Config):
    """Mean over the batch of -w(label) log p of the label."""

    name: Literal["cross_entropy"] = "cross_entropy"

    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing: the probability taken from the label and spread by smoothing_convention. 0 is none."""

    smoothing_convention: Literal["others", "uniform"] = "others"
    """others: spread as eps/(K-1) on the other classes (report B); uniform: eps/K on all (torch)."""

    class_weights: ClassWeights = "none"
    """Weight of each photo by its class: none, inverse frequency (report A's BCE), or effective number."""

    effective_beta: float = Field(default=0.999, ge=0, lt=1)
    """b of effective_number: 0 weighs all classes alike, towards 1 by inverse frequency."""


class SymmetricConfig(Config):
    """Mean of alpha w(label) CE + beta RCE: reverse cross entropy of Wang et al. 2019, as in report A.

    With class_weights none it is the report's SCE, with inverse its BSCE.
    """

    name: Literal["symmetric_cross_entropy"] = "symmetric_cross_entropy"

    alpha: float = Field(default=0.4, ge=0)
    """Weight of cross entropy."""

    beta: float = Field(default=0.7, ge=0)
    """Weight of reverse cross entropy, -log_zero (1 - p_y)."""

    log_zero: float = Field(default=-9.210340371976182, lt=0)
    """What log 0 is clipped to: log 1e-4 in the method's published code; its paper says -4."""

    class_weights: Literal["none", "inverse"] = "none"
    """Weight of the cross entropy of each photo by its class; inverse is report A's best, BSCE."""


class AccuracyConfig(Config):
    """Report C's accuracy loss in a reading that has a gradient."""

    name: Literal["accuracy"] = "accuracy"

    reading: Literal["probability", "precision"] = "probability"
    """probability: 1 - mean p_y; precision: 1 - the mean, over the batch's classes, of soft precision, which
    needs the whole batch at once: accumulation and num_processes stay 1."""


class FocalConfig(Config):
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017, equation 4)."""

    name: Literal["focal"] = "focal"

    gamma: float = Field(default=2.0, ge=0)
    """How strongly photos that are already right are left alone; 0 is cross entropy."""


class BiTemperedConfig(Config):
    """Bi-tempered logistic loss (Amid et al. 2019): bounded for t1 < 1, heavy-tailed for t2 > 1."""

    name: Literal["bi_tempered"] = "bi_tempered"

    t1: float = Field(default=0.8, ge=0, le=1)
    """Temperature of the logarithm, 0 <= t1 <= 1; 1 is the ordinary logarithm."""

    t2: float = Field(default=1.2, ge=1, le=10)
    """Temperature of the exponential, at least 1; 1 is the ordinary softmax."""

    smoothing: float = Field(default=0.0, ge=0, le=0.99)
    """Label smoothing, spread as eps/(K-1) on the other classes."""

    num_iterations: int = Field(default=20, ge=1)
    """Iterations of the normalisation at most. It is Newton's method and stops by itself after about 4, where
    the fixed point of the paper needs 20 for 50,030 classes (report C)."""


class LogitAdjustedConfig(Config):
    """Cross entropy of logits + tau log(prior of the class) (Menon et al. 2021, equation 10)."""

    name: Literal["logit_adjusted"] = "logit_adjusted"

    tau: float = Field(default=1.0, gt=0)
    """Strength; at 1 and beside raw counts it is balanced softmax."""


class BalancedSoftmaxConfig(Config):
    """Cross entropy of the softmax whose terms are weighted by n_k (Ren et al. 2020, equation 3)."""

    name: Literal["balanced_softmax"] = "balanced_softmax"


LossConfig = Annotated[
    CrossEntropyConfig
    | SymmetricConfig
    | AccuracyConfig
    | FocalConfig
    | BiTemperedConfig
    | LogitAdjustedConfig
    | BalancedSoftmaxConfig,
    Field(discriminator="name"),
]
