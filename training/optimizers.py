"""The optimisers of the reports, from timm, and Ranger's two details that timm leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any

import torch
from timm.optim import Lookahead, create_optimizer_v2
from torch import nn
from torch.optim import Optimizer

from training.config.optimizers import AdamConfig, OptimizerConfig, RangerConfig, SgdConfig
from training.parts import belongs_to, check_part, named_parts


class Ranger(Lookahead):  # type: ignore[misc]
    """RAdam inside Lookahead with centralised gradients, as report B's team ran it.

    timm's Lookahead takes its slow weights at the first synchronisation, which thereby does nothing; here
    they are the weights before a parameter's first step. Gradients of kernels and matrices lose their mean
    over all but the first dimension (Yong et al. 2020, equation 1) where `centralize` says so.
    """

    def __init__(self, base: Optimizer, *, config: RangerConfig) -> None:
        super().__init__(base, alpha=config.lookahead_alpha, k=config.lookahead_steps)
        self.centralize = config.centralize_gradients

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step from the gradients in place."""
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if self.centralize:
            for gradient in (p.grad for p in trained if p.grad.ndim > 1):
                gradient.sub_(gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True))
        state = self._base_optimizer.state
        before = {p: p.detach().clone() for p in trained if p not in state}
        loss: float | None = self._base_optimizer.step(closure)
        for parameter, weights in before.items():
            state[parameter]["lookahead_slow_buff"] = weights
        for group in self.param_groups:
            group["lookahead_step"] += 1
            if group["lookahead_step"] % group["lookahead_k"] == 0:
                self.update_slow(group)
        return loss


def make_optimizer(
    model: nn.Module,
    objective: nn.Module,
    *,
    config: OptimizerConfig,
    lr_multipliers: Mapping[str, float],
) -> Optimizer:
    """Build the optimiser over everything that is not frozen, the objective's own heads, too.

    A group for each multiplier, with weight decay and without; the schedule multiplies its rate by the
    group's `lr_scale`. ValueError where nothing is left to train or a multiplier fits no trained part.
    """
    groups = group_parameters(
        model,
        objective,
        weight_decay=config.weight_decay,
        exempt_norm_and_bias=config.exempt_norm_and_bias,
        lr_multipliers=lr_multipliers,
    )
    for group in groups:
        group["lr"] = config.lr * group["lr_scale"]
    optimizer: Optimizer = create_optimizer_v2(groups, lr=config.lr, **_specific(config))
    return Ranger(optimizer, config=config) if isinstance(config, RangerConfig) else optimizer


def group_parameters(
    model: nn.Module,
    objective: nn.Module,
    *,
    weight_decay: float,
    exempt_norm_and_bias: bool,
    lr_multipliers: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Sort what is not frozen into groups {params, weight_decay, lr_scale}.

    exempt_norm_and_bias: no weight decay on biases, norms and what timm's backbone itself wants none on; the
    scale of a head of cosines, which has no dimension, counts as a bias.

    Groups, and parameters within them, come in the order of the model's parameters, whatever the order of the
    multipliers: a checkpoint finds a parameter's state by its place. The longest part that fits counts.
    """
    parameters = dict(named_parts(model, objective))
    trained = {name: p for name, p in parameters.items() if p.requires_grad}
    if not trained:
        raise ValueError("freeze: expected something left to train, received every part of the model.")
    for part in lr_multipliers:
        check_part(part, key=f"lr_multipliers.{part}", names=list(parameters))
        if not any(belongs_to(name, part) for name in trained):
            raise ValueError(f"lr_multipliers.{part}: expected a part that learns, received a frozen one.")
    undecayed = _left_out_by_backbone(model)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in trained.items():
        parts = [part for part in lr_multipliers if belongs_to(name, part)]
        scale = lr_multipliers[max(parts, key=len)] if parts else 1.0
        is_bias_or_norm = parameter.ndim <= 1 or name.endswith(".bias")
        is_exempt = is_bias_or_norm or any(fnmatch(name, pattern) for pattern in undecayed)
        decay = 0.0 if exempt_norm_and_bias and is_exempt else weight_decay
        group = {"params": [], "weight_decay": decay, "lr_scale": scale}
        groups.setdefault((decay, scale), group)["params"].append(parameter)
    return list(groups.values())


def _left_out_by_backbone(model: nn.Module) -> list[str]:
    """Return the names, or patterns of names, that timm's backbone itself wants no weight decay on."""
    backbone = getattr(model, "backbone", None)
    return [f"backbone.{name}" for name in getattr(backbone, "no_weight_decay", set)()]


def _specific(config: OptimizerConfig) -> dict[str, Any]:
    """Return what `create_optimizer_v2` wants to hear of one optimiser only."""
    if isinstance(config, SgdConfig):
        nesterov = config.nesterov and config.momentum > 0  # torch refuses it without momentum
        return {"opt": "sgd", "momentum": config.momentum, "nesterov": nesterov, "fused": True}
    averaging: dict[str, Any] = {"betas": tuple(config.betas), "eps": config.eps}
    if isinstance(config, RangerConfig):
        return {"opt": "radam", **averaging}  # of which torch has no fused one
    return {"opt": "adam" if isinstance(config, AdamConfig) else "adamw", "fused": True, **averaging}
