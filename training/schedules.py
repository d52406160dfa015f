"""The learning rate of each step: a function of the step and the errors so far, so resuming needs no state.

timm's cosine gives the curve and the warm-up; a constant rate is a cosine that ends where it begins. What
falls in steps is a factor on that: timm's own multi-step schedule falls one step early by an old convention,
and its plateau keeps a state that a checkpoint would have to know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from timm.scheduler.cosine_lr import CosineLRScheduler
from torch.optim import Optimizer

from training.config.schedules import (
    CosineConfig,
    ManualConfig,
    MultiStepConfig,
    PlateauConfig,
    ScheduleConfig,
)

WARMUP_START_SHARE = 1e-3

Factor = Callable[[int, Sequence[float]], float]
"""(step, errors) -> what the rate is multiplied by."""


class Schedule(Protocol):
    """Sets the rate of each of an optimiser's groups."""

    def update(self, *, step: int, errors: Sequence[float]) -> None:
        """Set the rates of the step after `step` steps.

        errors: mean top-1 error on validation after each epoch that is finished.
        """


class CurveWithFactor:
    """timm's curve over the steps, times a factor; every group's rate is multiplied by its `lr_scale`."""

    def __init__(self, optimizer: Optimizer, *, curve: CosineLRScheduler, factor: Factor) -> None:
        self.optimizer = optimizer
        self.curve = curve
        self.factor = factor

    def update(self, *, step: int, errors: Sequence[float]) -> None:
        """Set the rates of the step after `step` steps."""
        self.curve.step_update(step)  # knows lr_scale
        factor = self.factor(step, errors)
        for group in self.optimizer.param_groups:
            group["lr"] *= factor


def make_schedule(
    optimizer: Optimizer, *, config: ScheduleConfig, lr: float, steps_per_epoch: int, epochs: int
) -> Schedule:
    """Build the schedule. lr: the highest rate, which the optimiser of a resumed phase no longer holds."""
    for group in optimizer.param_groups:
        group["initial_lr"] = lr  # what timm's schedules start from
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    final_share = config.final_lr_share if isinstance(config, CosineConfig) else 1.0
    curve = CosineLRScheduler(
        optimizer,
        t_initial=max(1, steps_per_epoch * epochs - warmup_steps),
        lr_min=lr * final_share,
        warmup_t=warmup_steps,
        warmup_lr_init=lr * WARMUP_START_SHARE,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    factor = _make_factor(config, steps_per_epoch=steps_per_epoch)
    return CurveWithFactor(optimizer, curve=curve, factor=factor)


def _make_factor(config: ScheduleConfig, *, steps_per_epoch: int) -> Factor:
    if isinstance(config, PlateauConfig):
        return lambda _step, errors: plateau_factor(errors, config=config)
    shares = [(0.0, 1.0)]
    if isinstance(config, MultiStepConfig):
        shares += [(epoch, config.factor**i) for i, epoch in enumerate(config.milestones, start=1)]
    elif isinstance(config, ManualConfig):
        shares += config.shares
    by_step = [(round(epoch * steps_per_epoch), share) for epoch, share in shares]
    return lambda step, _errors: next(share for first, share in reversed(by_step) if step >= first)


def plateau_factor(errors: Sequence[float], *, config: PlateauConfig) -> float:
    """Return what the epochs' errors `[E]` have done to the rate: torch's ReduceLROnPlateau, played over.

    An epoch counts as better where it falls below the best so far by more than `min_improvement`; one more
    epoch than `patience` without one lowers the rate, and the count begins anew.
    """
    best, waited, factor = math.inf, 0, 1.0
    for error in errors:
        if error < best - config.min_improvement:
            best, waited = error, 0
        else:
            waited += 1
        if waited > config.patience:
            factor, waited = factor * config.factor, 0
    return factor
