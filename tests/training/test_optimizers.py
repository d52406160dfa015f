"""Optimisers against steps worked by hand or by torch alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch
from torch import nn

from training.config.optimizers import AdamConfig, AdamWConfig, OptimizerConfig, RangerConfig, SgdConfig
from training.optimizers import make_optimizer
from training.parts import freeze_parts, named_parts

NOTHING = nn.Module()


def optimizer_of(model: nn.Module, config: OptimizerConfig, **lr_multipliers: float) -> torch.optim.Optimizer:
    return make_optimizer(model, NOTHING, config=config, lr_multipliers=lr_multipliers)


def linear_at_one() -> nn.Linear:
    model = nn.Linear(2, 1)
    nn.init.ones_(model.weight), nn.init.ones_(model.bias)
    return model


@pytest.mark.parametrize(
    "config", [SgdConfig(lr=0.1, weight_decay=0.5), AdamWConfig(lr=0.1, weight_decay=0.5)]
)
def test_weight_decay_shrinks_matrices_and_leaves_biases(config: OptimizerConfig) -> None:
    model = linear_at_one()
    optimizer = optimizer_of(model, config)
    model.weight.grad, model.bias.grad = torch.zeros(1, 2), torch.zeros(1)
    optimizer.step()
    assert model.weight.tolist()[0] == pytest.approx([1 - 0.1 * 0.5] * 2)
    assert model.bias.tolist() == [1.0]


@pytest.mark.parametrize("kind", [SgdConfig, AdamConfig, AdamWConfig, RangerConfig])
def test_every_parameter_decays_where_nothing_is_exempt(kind: type[SgdConfig]) -> None:
    backbone = timm.create_model("test_vit", num_classes=0)  # has parameters that timm exempts
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(64, 2)})
    config = kind(lr=0.1, weight_decay=0.5, exempt_norm_and_bias=False)
    (group,) = optimizer_of(model, config).param_groups
    assert group["weight_decay"] == 0.5
    assert len(group["params"]) == len(list(model.parameters()))


def test_l2_on_all_parameters_steps_as_torchs_own_sgd_does() -> None:
    """As report D's authors call it: SGD(model.parameters(), lr, momentum, weight_decay)."""
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    mine = optimizer_of(ours, SgdConfig(lr=0.1, weight_decay=0.01, exempt_norm_and_bias=False))
    torchs = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        x = torch.randn(2, 3, 6, 6)
        for model, optimizer in ((ours, mine), (theirs, torchs)):
            optimizer.zero_grad()
            model(x).pow(3).sum().backward()
            optimizer.step()
    for own, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, expected)


def test_ranger_decays_nothing_and_sgd_looks_not_ahead_where_nobody_asks() -> None:
    assert RangerConfig().weight_decay == 0
    assert not SgdConfig().nesterov


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [-0.1, -0.29]),
        ({"nesterov": True}, [-0.19, -0.461]),  # 1 + 0.9; then momentum 1.9, and 1 + 0.9 * 1.9 = 2.71
        ({"momentum": 0.0}, [-0.1, -0.2]),
    ],
)
def test_sgd_steps_as_its_options_say(settings: dict[str, Any], expected: list[float]) -> None:
    parts = nn.ParameterDict({"bias": torch.zeros(1)})
    optimizer = optimizer_of(parts, SgdConfig(lr=0.1, **settings))
    assert train_bias(optimizer, parts["bias"], [1.0, 1.0]) == pytest.approx(expected)


def test_adam_divides_by_its_eps_and_averages_by_its_betas() -> None:
    parts = nn.ParameterDict({"bias": torch.zeros(1)})
    optimizer = optimizer_of(parts, AdamConfig(lr=0.1, betas=(0.5, 0.5), eps=1.0))
    # both steps: mean 1 after its correction, root of the mean square 1, eps 1: half a step
    assert train_bias(optimizer, parts["bias"], [1.0, 1.0]) == pytest.approx([-0.05, -0.1])


def train_bias(optimizer: torch.optim.Optimizer, bias: nn.Parameter, gradients: list[float]) -> list[float]:
    seen = []
    for gradient in gradients:
        bias.grad = torch.tensor([gradient])
        optimizer.step()
        seen.append(bias.item())
    return seen


@pytest.mark.parametrize(("steps", "alpha"), [(6, 0.5), (3, 0.25), (1, 0.5)])
def test_ranger_is_radam_pulled_back_towards_the_start_at_every_kth_step(steps: int, alpha: float) -> None:
    fast, parts = nn.Parameter(torch.tensor([2.0])), nn.ParameterDict({"bias": torch.tensor([2.0])})
    radam = torch.optim.RAdam([fast], lr=0.1, betas=(0.95, 0.999), eps=1e-5)
    config = RangerConfig(lr=0.1, weight_decay=0.0, lookahead_steps=steps, lookahead_alpha=alpha)
    gradients = [1.0 + step for step in range(steps)]
    without = train_bias(radam, fast, gradients)
    with_lookahead = train_bias(optimizer_of(parts, config), parts["bias"], gradients)
    assert with_lookahead[:-1] == without[:-1]
    assert with_lookahead[-1] == pytest.approx(2.0 + alpha * (without[-1] - 2.0), abs=1e-6)


@pytest.mark.parametrize(("centralize", "signs"), [(True, [1.0, 0.0, -1.0]), (False, [-1.0, -1.0, -1.0])])
def test_ranger_takes_the_mean_out_of_a_kernels_gradient_where_asked(
    centralize: bool, signs: list[float]
) -> None:
    layers = nn.ParameterDict({"kernel": torch.zeros(2, 3)})
    optimizer = optimizer_of(layers, RangerConfig(weight_decay=0.0, centralize_gradients=centralize))
    layers["kernel"].grad = torch.tensor([[4.0, 4.0, 4.0], [1.0, 2.0, 3.0]])
    optimizer.step()
    assert layers["kernel"][1].sign().tolist() == signs
    assert (layers["kernel"][0].tolist() == [0.0, 0.0, 0.0]) == centralize


def make_model() -> nn.ModuleDict:
    backbone = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 3), "bn": nn.BatchNorm2d(4), "top": nn.Linear(4, 4)})
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(4, 2)})


def groups_by_name(
    model: nn.Module, objective: nn.Module, *, lr_multipliers: Mapping[str, float]
) -> list[tuple[list[str], float, float, float]]:
    """(names, weight decay, multiplier, rate) of each group."""
    config = SgdConfig(lr=0.5, weight_decay=0.1)
    optimizer = make_optimizer(model, objective, config=config, lr_multipliers=lr_multipliers)
    names = {id(parameter): name for name, parameter in named_parts(model, objective)}
    return [
        ([names[id(p)] for p in group["params"]], group["weight_decay"], group["lr_scale"], group["lr"])
        for group in optimizer.param_groups
    ]


def test_each_part_gets_the_multiplier_of_the_longest_name_that_fits() -> None:
    model, objective = make_model(), nn.ModuleDict({"mask": nn.Conv2d(4, 1, 1)})
    groups = groups_by_name(
        model, objective, lr_multipliers={"objective": 10.0, "backbone": 0.1, "backbone.top": 2.0}
    )
    assert groups == [
        (["backbone.stem.weight"], 0.1, 0.1, 0.05),
        (["backbone.stem.bias", "backbone.bn.weight", "backbone.bn.bias"], 0.0, 0.1, 0.05),
        (["backbone.top.weight"], 0.1, 2.0, 1.0),
        (["backbone.top.bias"], 0.0, 2.0, 1.0),
        (["head.weight"], 0.1, 1.0, 0.5),
        (["head.bias"], 0.0, 1.0, 0.5),
        (["objective.mask.weight"], 0.1, 10.0, 5.0),
        (["objective.mask.bias"], 0.0, 10.0, 5.0),
    ]


def test_the_order_of_the_multipliers_moves_no_parameter() -> None:
    multipliers = {"head": 10.0, "backbone": 0.1, "backbone.top": 2.0}
    turned = dict(reversed(multipliers.items()))
    first, second = (groups_by_name(make_model(), NOTHING, lr_multipliers=m) for m in (multipliers, turned))
    assert first == second


def test_frozen_parts_are_left_out_and_nothing_left_is_refused() -> None:
    model = make_model()
    freeze_parts(model, NOTHING, freeze=["backbone"])
    assert [names for names, *_ in groups_by_name(model, NOTHING, lr_multipliers={})] == [
        ["head.weight"],
        ["head.bias"],
    ]
    freeze_parts(model, NOTHING, freeze=["head"])
    with pytest.raises(ValueError, match="freeze: expected something left to train"):
        optimizer_of(model, SgdConfig())


def test_a_multiplier_for_nothing_or_for_a_frozen_part_is_refused() -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"lr_multipliers\.objective: expected a part of this model"):
        optimizer_of(model, SgdConfig(), objective=10.0)
    freeze_parts(model, NOTHING, freeze=["backbone"])
    with pytest.raises(ValueError, match=r"lr_multipliers\.backbone: expected a part that learns"):
        optimizer_of(model, SgdConfig(), backbone=0.1)


def test_a_bias_of_many_dimensions_is_a_bias() -> None:
    tensors = {"table": torch.ones(2, 2), "bias": torch.ones(2, 2)}
    model = nn.ModuleDict({"head": nn.ParameterDict(tensors)})
    groups = groups_by_name(model, NOTHING, lr_multipliers={})
    found = {name: decay for names, decay, *_ in groups for name in names}
    assert found == {"head.table": 0.1, "head.bias": 0.0}


def test_what_timms_backbone_wants_undecayed_is_not_decayed() -> None:
    model = nn.ModuleDict({"backbone": timm.create_model("test_vit", num_classes=0)})
    undecayed = [
        name
        for names, decay, *_ in groups_by_name(model, NOTHING, lr_multipliers={})
        for name in names
        if decay == 0
    ]
    assert {"backbone.pos_embed", "backbone.cls_token"} <= set(undecayed)
    assert "backbone.blocks.0.attn.qkv.weight" not in undecayed
