"""What the optimiser lowers. The loss log always records plain cross entropy, whatever stands here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.config.checks import ByName, Strict, require, require_at_least, require_positive, require_range

ClassWeights = Literal["none", "inverse", "effective_number"]
"""inverse: w(k) = N / (K n_k), counted on the phase's list (report A); effective_number: (1 - b) /
(1 - b^n_k), scaled to a mean of 1 over the classes (Cui et al. 2019; report D cites it). A class without
photos weighs 0."""


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(Strict):
    """Mean over the batch of -w(label) log p of the label."""

    name: Literal["cross_entropy"] = "cross_entropy"

    smoothing: float = 0.0
    """Label smoothing: the probability taken from the label and spread by smoothing_convention. 0 is none."""

    smoothing_convention: Literal["others", "uniform"] = "others"
    """others: spread as eps/(K-1) on the other classes (report B); uniform: eps/K on all (torch)."""

    class_weights: ClassWeights = "none"
    """Weight of each photo by its class: none, inverse frequency (report A's BCE), or effective number."""

    effective_beta: float = 0.999
    """b of effective_number: 0 weighs all classes alike, towards 1 by inverse frequency."""

    def __post_init__(self) -> None:
        """Refuse a smoothing that leaves the label nothing."""
        for key in ("smoothing", "effective_beta"):
            value = getattr(self, key)
            require(0 <= value < 1, key=f"loss.{key}", expected=f"0 <= {key} < 1", received=value)


@dataclass(frozen=True, kw_only=True)
class SymmetricConfig(Strict):
    """Mean of alpha w(label) CE + beta RCE: reverse cross entropy of Wang et al. 2019, as in report A.

    With class_weights none it is the report's SCE, with inverse its BSCE.
    """

    name: Literal["symmetric_cross_entropy"] = "symmetric_cross_entropy"

    alpha: float = 0.4
    """Weight of cross entropy."""

    beta: float = 0.7
    """Weight of reverse cross entropy, -log_zero (1 - p_y)."""

    log_zero: float = -9.210340371976182
    """What log 0 is clipped to: log 1e-4 in the method's published code; its paper says -4."""

    class_weights: Literal["none", "inverse"] = "none"
    """Weight of the cross entropy of each photo by its class; inverse is report A's best, BSCE."""

    def __post_init__(self) -> None:
        """Refuse weights that would reward mistakes."""
        require_at_least(self.alpha, key="loss.alpha", low=0)
        require_at_least(self.beta, key="loss.beta", low=0)
        require(self.log_zero < 0, key="loss.log_zero", expected="a number below 0", received=self.log_zero)


@dataclass(frozen=True, kw_only=True)
class AccuracyConfig(Strict):
    """Report C's accuracy loss in a reading that has a gradient."""

    name: Literal["accuracy"] = "accuracy"

    reading: Literal["probability", "precision"] = "probability"
    """probability: 1 - mean p_y; precision: 1 - the mean, over the batch's classes, of soft precision, which
    needs the whole batch at once: accumulation and num_processes stay 1."""


@dataclass(frozen=True, kw_only=True)
class FocalConfig(Strict):
    """-(1 - p_y)^gamma log p_y (Lin et al. 2017, equation 4)."""

    name: Literal["focal"] = "focal"

    gamma: float = 2.0
    """How strongly photos that are already right are left alone; 0 is cross entropy."""

    def __post_init__(self) -> None:
        """Refuse a gamma that would weigh easy photos most."""
        require_at_least(self.gamma, key="loss.gamma", low=0)


@dataclass(frozen=True, kw_only=True)
class BiTemperedConfig(Strict):
    """Bi-tempered logistic loss (Amid et al. 2019): bounded for t1 < 1, heavy-tailed for t2 > 1."""

    name: Literal["bi_tempered"] = "bi_tempered"

    t1: float = 0.8
    """Temperature of the logarithm, 0 <= t1 <= 1; 1 is the ordinary logarithm."""

    t2: float = 1.2
    """Temperature of the exponential, at least 1; 1 is the ordinary softmax."""

    smoothing: float = 0.0
    """Label smoothing, spread as eps/(K-1) on the other classes."""

    num_iterations: int = 20
    """Iterations of the normalisation at most. It is Newton's method and stops by itself after about 4, where
    the fixed point of the paper needs 20 for 50,030 classes (report C)."""

    def __post_init__(self) -> None:
        """Refuse temperatures outside the method's definition."""
        require_range(self.t1, key="loss.t1", low=0, high=1)
        require_range(self.t2, key="loss.t2", low=1, high=10)
        require_range(self.smoothing, key="loss.smoothing", low=0, high=0.99)
        require_at_least(self.num_iterations, key="loss.num_iterations", low=1)


@dataclass(frozen=True, kw_only=True)
class LogitAdjustedConfig(Strict):
    """Cross entropy of logits + tau log(prior of the class) (Menon et al. 2021, equation 10)."""

    name: Literal["logit_adjusted"] = "logit_adjusted"

    tau: float = 1.0
    """Strength; at 1 and beside raw counts it is balanced softmax."""

    def __post_init__(self) -> None:
        """Refuse a strength without meaning."""
        require_positive(self.tau, key="loss.tau")


@dataclass(frozen=True, kw_only=True)
class BalancedSoftmaxConfig(Strict):
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
    ByName(),
]
