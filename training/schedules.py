"""The learning rate of each batch, by timm's scheduler: a function of the step alone."""

from __future__ import annotations

from timm.scheduler.cosine_lr import CosineLRScheduler
from torch.optim import Optimizer

from training.config import ScheduleConfig

WARMUP_START_SHARE = 1e-3


def make_schedule(
    optimizer: Optimizer, *, config: ScheduleConfig, lr: float, steps_per_epoch: int, epochs: int
) -> CosineLRScheduler:
    """Build the schedule; `step_update(n)` sets the rate of the step after n steps.

    lr is the highest rate, which the optimiser of a resumed phase no longer holds. A constant rate is a
    cosine that ends where it begins.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    final_share = 1.0 if config.name == "constant" else config.final_lr_share
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, steps_per_epoch * epochs - warmup_steps),
        lr_min=lr * final_share,
        warmup_t=warmup_steps,
        warmup_lr_init=lr * WARMUP_START_SHARE,
        warmup_prefix=True,
        t_in_epochs=False,
    )
