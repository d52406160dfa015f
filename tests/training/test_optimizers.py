"""Optimisers against steps worked by hand or by torch alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.config import OptimizerConfig
from training.optimizers import make_optimizer

RANGER = OptimizerConfig(name="ranger", lr=0.1, weight_decay=0.0)


def test_sgd_decays_matrices_and_leaves_biases() -> None:
    model = nn.Linear(2, 1)
    nn.init.ones_(model.weight), nn.init.ones_(model.bias)
    optimizer = make_optimizer(model, config=OptimizerConfig(lr=0.1, weight_decay=0.5, momentum=0.0))
    (0 * model(torch.zeros(1, 2))).sum().backward()
    optimizer.step()
    assert model.weight.tolist()[0] == pytest.approx([0.95, 0.95])  # 1 - 0.1 * 0.5 * 1
    assert model.bias.tolist() == [1.0]


def train_bias(optimizer: torch.optim.Optimizer, bias: nn.Parameter, *, num_steps: int) -> list[float]:
    seen = []
    for step in range(num_steps):
        bias.grad = torch.tensor([1.0 + step])
        optimizer.step()
        seen.append(bias.item())
    return seen


def test_ranger_is_radam_pulled_half_way_back_to_the_start_every_sixth_step() -> None:
    fast, slow = nn.Parameter(torch.tensor([2.0])), nn.ParameterDict({"bias": torch.tensor([2.0])})
    radam = torch.optim.RAdam([fast], lr=0.1, betas=(0.95, 0.999), eps=1e-5)
    ranger = make_optimizer(slow, config=RANGER)
    without, with_lookahead = (
        train_bias(radam, fast, num_steps=6),
        train_bias(ranger, slow["bias"], num_steps=6),
    )
    assert with_lookahead[:5] == without[:5]
    assert with_lookahead[5] == pytest.approx((2.0 + without[5]) / 2, abs=1e-6)


def test_ranger_takes_the_mean_out_of_a_kernels_gradient() -> None:
    layers = nn.ParameterDict({"kernel": torch.zeros(2, 3)})
    optimizer = make_optimizer(layers, config=RANGER)
    layers["kernel"].grad = torch.tensor([[4.0, 4.0, 4.0], [1.0, 2.0, 3.0]])
    optimizer.step()
    assert layers["kernel"][0].tolist() == [0.0, 0.0, 0.0]
    assert layers["kernel"][1].sign().tolist() == [1.0, 0.0, -1.0]
