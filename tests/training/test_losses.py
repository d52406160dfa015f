"""Losses against numbers worked by hand and against a naive float64 sum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.config import LossConfig
from training.losses.cross_entropy import make_loss

HALF_QUARTER_QUARTER = torch.tensor([[math.log(2.0), 0.0, 0.0]])


@pytest.mark.parametrize(
    ("smoothing", "convention", "expected"),
    [
        (0.0, "others", math.log(2)),
        (0.2, "others", 0.8 * math.log(2) + 0.2 * math.log(4)),
        (0.3, "uniform", 0.8 * math.log(2) + 0.2 * math.log(4)),
    ],
)
def test_cross_entropy_by_hand(smoothing: float, convention: str, expected: float) -> None:
    config = LossConfig(smoothing=smoothing, smoothing_convention=convention)
    loss = make_loss(config, num_classes=3)(HALF_QUARTER_QUARTER, torch.tensor([0]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def naive(logits: Tensor, labels: Tensor, *, smoothing: float, convention: str) -> Tensor:
    num_classes = logits.shape[1]
    if convention == "others":
        targets = torch.full_like(logits, smoothing / (num_classes - 1))
        targets[range(len(labels)), labels] = 1 - smoothing
    else:
        targets = torch.full_like(logits, smoothing / num_classes)
        targets[range(len(labels)), labels] += 1 - smoothing
    return -(targets * logits.softmax(1).log()).sum(1).mean()


@pytest.mark.parametrize("convention", ["others", "uniform"])
def test_value_and_gradient_equal_the_naive_sum_in_float64(convention: str) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = (3 * torch.randn(6, 5, generator=generator)).requires_grad_()
    exact = logits.detach().double().requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    loss = make_loss(LossConfig(smoothing=0.2, smoothing_convention=convention), num_classes=5)(
        logits, labels
    )
    expected = naive(exact, labels, smoothing=0.2, convention=convention)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(logits.grad.double(), exact.grad, atol=1e-7)


def test_a_smoothing_that_favours_other_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 0\.5 for 2 classes"):
        make_loss(LossConfig(smoothing=0.6), num_classes=2)
