"""The optimisers of the reports, from timm, and Ranger's two details that timm leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.optim import Lookahead, create_optimizer_v2
from torch import nn
from torch.optim import Optimizer

from training.config import OptimizerConfig

RANGER_STEPS = 6
RANGER_ALPHA = 0.5


class Ranger(Lookahead):  # type: ignore[misc]
    """RAdam inside Lookahead with centralised gradients, as report B's team ran it.

    timm's Lookahead takes its slow weights at the first synchronisation, which thereby does nothing; here
    they are the weights before the first step. Gradients of kernels and matrices lose their mean over all
    but the first dimension (Yong et al. 2020, gradient centralisation).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step from the gradients in place."""
        trained = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for parameter in trained:
            if parameter.grad.ndim > 1:
                dimensions = tuple(range(1, parameter.grad.ndim))
                parameter.grad.sub_(parameter.grad.mean(dim=dimensions, keepdim=True))
        state = self._base_optimizer.state
        before = {} if state else {p: p.detach().clone() for p in trained}
        loss: float | None = super().step(closure)
        for parameter, weights in before.items():
            state[parameter]["lookahead_slow_buff"] = weights
        return loss


def make_optimizer(model: nn.Module, *, config: OptimizerConfig) -> Optimizer:
    """Build the optimiser; biases and normalisation weights form a group without weight decay."""
    nesterov = "sgd" if config.momentum > 0 else "momentum"  # torch refuses Nesterov without momentum
    specific: dict[str, Any] = {"opt": nesterov, "momentum": config.momentum}
    if config.name == "ranger":
        specific = {"opt": "radam", "betas": tuple(config.betas), "eps": config.eps}
    optimizer: Optimizer = create_optimizer_v2(
        model, lr=config.lr, weight_decay=config.weight_decay, **specific
    )
    if config.name == "ranger":
        ranger: Optimizer = Ranger(optimizer, alpha=RANGER_ALPHA, k=RANGER_STEPS)
        return ranger
    return optimizer
