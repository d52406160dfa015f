"""Margins against their definitions in angles, and what they leave of the logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from training.config.heads import ArcFaceConfig, ASoftmaxConfig, HeadConfig, LinearConfig
from training.config.losses import (
    AccuracyConfig,
    BalancedSoftmaxConfig,
    BiTemperedConfig,
    CrossEntropyConfig,
    FocalConfig,
    LossConfig,
    SymmetricConfig,
)
from training.losses.factory import make_loss
from training.margins import a_softmax, annealed_a_softmax, arcface, loss_with_margin, make_margin


def test_arcface_adds_its_margin_to_the_angle_until_half_a_turn() -> None:
    cosine = torch.tensor([math.cos(0.3), math.cos(2.0), math.cos(3.0)], dtype=torch.float64)
    expected = [math.cos(0.8), math.cos(2.5), math.cos(3.0) - 0.5 * math.sin(0.5)]  # 3.0 + 0.5 > pi
    assert arcface(cosine, margin=0.5).tolist() == pytest.approx(expected, abs=1e-9)


def test_a_softmax_follows_the_papers_psi_in_each_of_its_pieces() -> None:
    angles = torch.tensor([0.1, 1.0, 2.0, 3.0], dtype=torch.float64)  # 4 angle / pi: 0.13, 1.3, 2.5, 3.8
    expected = [math.cos(0.4), -math.cos(4) - 2, math.cos(8) - 4, -math.cos(12) - 6]
    assert a_softmax(angles.cos(), margin=4).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 7])
def test_a_softmax_falls_without_a_jump_from_1_to_its_end(margin: int) -> None:
    psi = a_softmax(torch.linspace(0, math.pi, 2001, dtype=torch.float64).cos(), margin=margin)
    steps = psi.diff()
    assert (psi[0].item(), psi[-1].item()) == pytest.approx((1, 1 - 2 * margin))
    assert steps.max() <= 1e-12
    assert steps.min() > -0.002 * margin


def test_a_softmax_begins_as_the_plain_cosine_and_anneals_to_lambda_end() -> None:
    config = ASoftmaxConfig(margin=2, lambda_start=9.0, lambda_end=1.0, lambda_decay=1.0)
    cosine = torch.tensor([0.8], dtype=torch.float64)  # psi = 2 * .64 - 1 = .28
    weights = [annealed_a_softmax(cosine, config=config, step=step).item() for step in (0, 2, 100)]
    assert weights == pytest.approx([(9 * 0.8 + 0.28) / 10, (3 * 0.8 + 0.28) / 4, (0.8 + 0.28) / 2])


def test_other_heads_have_no_margin() -> None:
    assert make_margin(LinearConfig()) is None


def naive_logits(config: HeadConfig, features: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The margin on a one-hot, by angles, at step 50."""
    lengths = features.norm(dim=1, keepdim=True)
    cosines = features @ weight.T / (lengths * weight.norm(dim=1))
    angles = cosines.acos()
    one_hot = F.one_hot(labels, len(weight)).bool()
    if isinstance(config, ArcFaceConfig):
        beyond = cosines - config.margin * math.sin(config.margin)
        widened = torch.where(angles + config.margin <= math.pi, (angles + config.margin).cos(), beyond)
        return config.scale * torch.where(one_hot, widened, cosines)
    assert isinstance(config, ASoftmaxConfig)
    k = (config.margin * angles.detach() / math.pi).floor()
    psi = (-1) ** k * (config.margin * angles).cos() - 2 * k
    weighing = config.lambda_start / (1 + 50 * config.lambda_decay)
    return lengths * torch.where(one_hot, (weighing * cosines + psi) / (1 + weighing), cosines)


MARGINS: list[HeadConfig] = [
    ArcFaceConfig(scale=6.0),
    ArcFaceConfig(scale=6.0, margin=1.4),
    ASoftmaxConfig(lambda_start=20.0, lambda_end=0.0),
    ASoftmaxConfig(margin=3, lambda_start=0.0, lambda_end=0.0),
]


@pytest.mark.parametrize("config", MARGINS, ids=str)
def test_loss_and_gradients_equal_a_one_hot_reference_in_float64(config: HeadConfig) -> None:
    torch.manual_seed(0)
    labels = torch.arange(30) % 5
    leaves = [torch.randn(30, 8, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)]
    mine, naive = ([leaf.clone().requires_grad_() for leaf in leaves] for _ in range(2))
    F.cross_entropy(naive_logits(config, *naive, labels), labels).backward()

    features, weight = mine
    lengths = features.norm(dim=1)
    if isinstance(config, ArcFaceConfig):
        features, lengths = config.scale * F.normalize(features), torch.full((30,), config.scale).double()
    logits = features @ F.normalize(weight).T
    margin = make_margin(config)
    assert margin is not None
    loss = loss_with_margin(F.cross_entropy, logits, labels, lengths=lengths, margin=margin, step=50)
    loss.backward()
    torch.testing.assert_close(loss, F.cross_entropy(naive_logits(config, *naive, labels), labels))
    for got, expected in zip(mine, naive, strict=True):
        torch.testing.assert_close(got.grad, expected.grad)


@pytest.mark.parametrize("angle", [0.0, math.pi])
@pytest.mark.parametrize("config", MARGINS, ids=str)
def test_gradients_are_finite_where_a_photo_lies_on_its_labels_weights(
    config: HeadConfig, angle: float
) -> None:
    logits = torch.tensor([[math.cos(angle), 0.0]], requires_grad=True)
    margin = make_margin(config)
    assert margin is not None
    loss = loss_with_margin(
        F.cross_entropy, logits * 1, torch.tensor([0]), lengths=torch.ones(1), margin=margin, step=0
    )
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


LOSSES: list[LossConfig] = [
    CrossEntropyConfig(smoothing=0.1, class_weights="inverse"),
    SymmetricConfig(),
    AccuracyConfig(),
    AccuracyConfig(reading="precision"),
    FocalConfig(),
    BiTemperedConfig(),
    BalancedSoftmaxConfig(),
]


@pytest.mark.parametrize("config", LOSSES, ids=lambda config: config.name)
def test_every_loss_works_with_a_margin_and_leaves_the_logits_as_they_were(config: LossConfig) -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 2, 1, 1])
    source = torch.randn(4, 3).requires_grad_()
    logits = source * 2
    before = logits.detach().clone()
    loss: Callable[[Tensor, Tensor], Any] = make_loss(config, class_counts=torch.tensor([1, 2, 1]))
    total = loss_with_margin(
        loss, logits, labels, lengths=torch.full((4,), 9.0), margin=lambda cosine, step: cosine - 0.3, step=0
    )
    lowered = before - 0.3 * 9 * F.one_hot(labels, 3)
    torch.testing.assert_close(total, loss(lowered, labels))
    assert torch.equal(logits, before)
    total.backward()
    leaf = lowered.clone().requires_grad_()
    loss(leaf, labels).backward()
    assert leaf.grad is not None
    torch.testing.assert_close(source.grad, 2 * leaf.grad)


def test_a_loss_that_keeps_the_logits_themselves_is_stopped_not_wrong() -> None:
    source = torch.ones(2, 3, requires_grad=True)
    total = loss_with_margin(
        lambda logits, labels: logits.square().mean(),
        source * 1,
        torch.tensor([0, 1]),
        lengths=torch.ones(2),
        margin=lambda cosine, step: cosine - 1,
        step=0,
    )
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()
