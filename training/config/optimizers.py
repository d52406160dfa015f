"""How a gradient becomes a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from training.config.checks import ByName, Strict, require_at_least, require_positive, require_range


@dataclass(frozen=True, kw_only=True)
class _Optimizer(Strict):
    lr: float = 0.01
    weight_decay: float = 1e-4
    exempt_norm_and_bias: bool = True

    def __post_init__(self) -> None:
        """Refuse rates that cannot train."""
        require_positive(self.lr, key="optimizer.lr")
        require_range(self.weight_decay, key="optimizer.weight_decay", low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class SgdConfig(_Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"

    lr: float = 0.01
    """Learning rate at its highest, before the schedule lowers it."""

    weight_decay: float = 1e-4
    """L2 penalty, added to the gradient; on which parameters, exempt_norm_and_bias says."""

    exempt_norm_and_bias: bool = True
    """true: no weight decay on biases, normalisation weights and what timm exempts (position embeddings,
    tokens); false: on every parameter, as torch's own optimisers and the reports' authors have it."""

    momentum: float = 0.9
    """0 is none."""

    nesterov: bool = False
    """Look ahead by the momentum; not without momentum."""

    def __post_init__(self) -> None:
        """Refuse rates that cannot train."""
        super().__post_init__()
        require_range(self.momentum, key="optimizer.momentum", low=0, high=0.9999)


@dataclass(frozen=True, kw_only=True)
class _Averaging(_Optimizer):
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Refuse rates that cannot train."""
        super().__post_init__()
        require_positive(self.eps, key="optimizer.eps")
        for beta in self.betas:
            require_range(beta, key="optimizer.betas", low=0, high=0.99999)


@dataclass(frozen=True, kw_only=True)
class AdamConfig(_Averaging):
    """Adam; weight decay is part of the gradient."""

    name: Literal["adam"] = "adam"

    lr: float = 1e-3
    """Learning rate at its highest, before the schedule lowers it."""

    weight_decay: float = 0.0
    """L2 penalty, added to the gradient; on which parameters, exempt_norm_and_bias says."""

    exempt_norm_and_bias: bool = True
    """true: no weight decay on biases, normalisation weights and what timm exempts (position embeddings,
    tokens); false: on every parameter, as torch's own optimisers and the reports' authors have it."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Averaging of the gradient and of its square."""

    eps: float = 1e-8
    """Added to the denominator."""


@dataclass(frozen=True, kw_only=True)
class AdamWConfig(_Averaging):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"

    lr: float = 1e-3
    """Learning rate at its highest, before the schedule lowers it."""

    weight_decay: float = 0.05
    """Share of the weights taken away each step, times lr; of which, exempt_norm_and_bias says."""

    exempt_norm_and_bias: bool = True
    """true: no weight decay on biases, normalisation weights and what timm exempts (position embeddings,
    tokens); false: on every parameter, as torch's own optimisers and the reports' authors have it."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Averaging of the gradient and of its square."""

    eps: float = 1e-8
    """Added to the denominator."""


@dataclass(frozen=True, kw_only=True)
class RangerConfig(_Averaging):
    """RAdam inside Lookahead with centralised gradients, as report B's team ran it."""

    name: Literal["ranger"] = "ranger"

    lr: float = 1e-4
    """Learning rate at its highest, before the schedule lowers it."""

    weight_decay: float = 0.0
    """L2 penalty, added to the gradient; on which parameters, exempt_norm_and_bias says."""

    exempt_norm_and_bias: bool = True
    """true: no weight decay on biases, normalisation weights and what timm exempts (position embeddings,
    tokens); false: on every parameter, as torch's own optimisers and the reports' authors have it."""

    betas: tuple[float, float] = (0.95, 0.999)
    """Averaging of the gradient and of its square."""

    eps: float = 1e-5
    """Added to the denominator."""

    lookahead_steps: int = 6
    """k: steps between two synchronisations with the slow weights."""

    lookahead_alpha: float = 0.5
    """How far the slow weights go towards the fast ones."""

    centralize_gradients: bool = True
    """Take the mean over all but the first dimension off each kernel's and matrix's gradient."""

    def __post_init__(self) -> None:
        """Refuse a Lookahead that never looks."""
        super().__post_init__()
        require_at_least(self.lookahead_steps, key="optimizer.lookahead_steps", low=1)
        require_range(self.lookahead_alpha, key="optimizer.lookahead_alpha", low=0.01, high=1)


OptimizerConfig = Annotated[SgdConfig | AdamConfig | AdamWConfig | RangerConfig, ByName()]
