"""How a gradient becomes a step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from imaging.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, le=0.99999)]


class _Optimizer(Config):
    lr: PositiveFloat = 0.01
    """Learning rate at its highest, before the schedule lowers it."""

    weight_decay: Share = 1e-4
    """L2 penalty, added to the gradient; on which parameters, exempt_norm_and_bias says."""

    exempt_norm_and_bias: bool = True
    """true: no weight decay on biases, normalisation weights and what timm exempts (position embeddings,
    tokens); false: on every parameter, as torch's own optimisers and the reports' authors have it."""


class SgdConfig(_Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"

    momentum: float = Field(default=0.9, ge=0, le=0.9999)
    """0 is none."""

    nesterov: bool = False
    """Look ahead by the momentum; not without momentum."""


class _Averaging(_Optimizer):
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Averaging of the gradient and of its square."""

    eps: PositiveFloat = 1e-8
    """Added to the denominator."""


class AdamConfig(_Averaging):
    """Adam; weight decay is part of the gradient."""

    name: Literal["adam"] = "adam"

    lr: PositiveFloat = 1e-3

    weight_decay: Share = 0.0


class AdamWConfig(_Averaging):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"

    lr: PositiveFloat = 1e-3

    weight_decay: Share = 0.05
    """Share of the weights taken away each step, times lr; of which, exempt_norm_and_bias says."""


class RangerConfig(_Averaging):
    """RAdam inside Lookahead with centralised gradients, as report B's team ran it."""

    name: Literal["ranger"] = "ranger"

    lr: PositiveFloat = 1e-4

    weight_decay: Share = 0.0

    betas: tuple[Beta, Beta] = (0.95, 0.999)

    eps: PositiveFloat = 1e-5

    lookahead_steps: int = Field(default=6, ge=1)
    """k: steps between two synchronisations with the slow weights."""

    lookahead_alpha: float = Field(default=0.5, ge=0.01, le=1)
    """How far the slow weights go towards the fast ones."""

    centralize_gradients: bool = True
    """Take the mean over all but the first dimension off each kernel's and matrix's gradient."""


OptimizerConfig = Annotated[SgdConfig | AdamConfig | AdamWConfig | RangerConfig, Field(discriminator="name")]
