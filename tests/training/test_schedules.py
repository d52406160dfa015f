"""The learning rate of each step, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training.config import ScheduleConfig
from training.schedules import make_schedule


def rates(**config: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = make_schedule(optimizer, config=ScheduleConfig(**config), lr=2.0, steps_per_epoch=4, epochs=3)
    seen = []
    for step in range(13):
        schedule.step_update(step)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


def test_cosine_falls_from_lr_to_its_final_share_batch_by_batch() -> None:
    lr = rates(final_lr_share=0.1)
    assert (lr[0], lr[6], lr[12]) == pytest.approx((2.0, 1.1, 0.2))
    assert lr == sorted(lr, reverse=True)


def test_a_warm_up_climbs_to_lr_and_cosine_begins_there() -> None:
    lr = rates(warmup_epochs=1, final_lr_share=0.0)
    assert (lr[0], lr[2], lr[4], lr[8], lr[12]) == pytest.approx((0.002, 1.001, 2.0, 1.0, 0.0))


def test_a_constant_rate_stays() -> None:
    assert rates(name="constant") == [2.0] * 13
