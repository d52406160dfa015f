"""The learning rate of each step, by hand."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from training.config.schedules import (
    ConstantConfig,
    CosineConfig,
    ManualConfig,
    MultiStepConfig,
    PlateauConfig,
    ScheduleConfig,
)
from training.schedules import make_schedule, plateau_factor


def make_optimizer(*, lr: float = 2.0, lr_scale: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr_scale": lr_scale}], lr=lr)


def rates(
    config: ScheduleConfig, *, errors: Sequence[float] = (), optimizer: torch.optim.Optimizer | None = None
) -> list[float]:
    """The rates of 3 epochs of 4 steps, and the one after them; errors come after each epoch."""
    optimizer = optimizer or make_optimizer()
    schedule = make_schedule(optimizer, config=config, lr=2.0, steps_per_epoch=4, epochs=3)
    seen = []
    for step in range(13):
        schedule.update(step=step, errors=errors[: step // 4])
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_cosine_falls_from_lr_to_its_final_share_batch_by_batch() -> None:
    lr = rates(CosineConfig(final_lr_share=0.1))
    assert (lr[0], lr[6], lr[12]) == pytest.approx((2.0, 1.1, 0.2))
    assert lr == sorted(lr, reverse=True)


def test_a_warm_up_climbs_to_lr_and_cosine_begins_there() -> None:
    lr = rates(CosineConfig(warmup_epochs=1, final_lr_share=0.0))
    assert (lr[0], lr[2], lr[4], lr[8], lr[12]) == pytest.approx((0.002, 1.001, 2.0, 1.0, 0.0))


def test_a_constant_rate_stays() -> None:
    assert rates(ConstantConfig()) == [2.0] * 13


def test_multi_step_falls_after_its_milestones_of_which_fractions_are_allowed() -> None:
    lr = rates(MultiStepConfig(milestones=(1, 2.5), factor=0.5))
    assert lr == [2.0] * 4 + [1.0] * 6 + [0.5] * 3


def test_manual_rates_hold_from_their_epoch_on() -> None:
    assert rates(ManualConfig(shares=((1, 0.3), (2, 1.5)))) == pytest.approx(
        [2.0] * 4 + [0.6] * 4 + [3.0] * 5
    )
    assert rates(ManualConfig(shares=((0, 0.5),))) == [1.0] * 13


def test_plateau_falls_once_the_error_has_not_fallen_for_longer_than_patience() -> None:
    config = PlateauConfig(patience=0, factor=0.5)
    assert rates(config, errors=[0.4, 0.4, 0.3]) == [2.0] * 8 + [1.0] * 5
    assert rates(config, errors=[0.4, 0.4, 0.4]) == [2.0] * 8 + [1.0] * 4 + [0.5]


def test_a_plateau_is_what_torch_calls_one() -> None:
    random = Random(1)
    config = PlateauConfig(patience=2, factor=0.5, min_improvement=0.05)
    for _ in range(20):
        optimizer = make_optimizer(lr=1.0)
        torchs = ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0.05, threshold_mode="abs")
        errors: list[float] = []
        for _ in range(20):
            errors.append(random.random())
            torchs.step(errors[-1])
            assert plateau_factor(errors, config=config) == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    "config",
    [
        ConstantConfig(warmup_epochs=1),
        MultiStepConfig(warmup_epochs=1, milestones=(1.0,)),
        ManualConfig(warmup_epochs=1, shares=((1, 0.1),)),
        PlateauConfig(warmup_epochs=1, patience=0),
    ],
)
def test_every_schedule_warms_up_alike(config: ScheduleConfig) -> None:
    assert rates(config)[:4] == pytest.approx([0.002, 0.5015, 1.001, 1.5005])


@pytest.mark.parametrize(
    "config", [CosineConfig(), MultiStepConfig(milestones=(1,)), PlateauConfig(patience=0, warmup_epochs=1)]
)
def test_a_group_with_a_multiplier_gets_so_many_times_the_rate(config: ScheduleConfig) -> None:
    errors = [0.4, 0.4, 0.4]
    scaled = rates(config, errors=errors, optimizer=make_optimizer(lr_scale=10.0))
    assert scaled == pytest.approx([10 * rate for rate in rates(config, errors=errors)])


@pytest.mark.parametrize(
    "config", [CosineConfig(warmup_epochs=1), MultiStepConfig(milestones=(1,)), PlateauConfig(patience=0)]
)
def test_the_rate_that_a_resumed_optimiser_brings_does_not_matter(config: ScheduleConfig) -> None:
    resumed = make_optimizer(lr=0.003)
    resumed.param_groups[0]["initial_lr"] = 0.07
    errors = [0.4, 0.4, 0.4]
    assert rates(config, errors=errors, optimizer=resumed) == rates(config, errors=errors)
