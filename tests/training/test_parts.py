"""What a name freezes, and what rests in a frozen part."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.parts import freeze_parts, named_parts, set_training_mode


def make_model() -> nn.ModuleDict:
    """Two layers whose names begin alike, batch norm and dropout, and a head."""
    layers = {
        "layer1": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.5)),
        "layer10": nn.Linear(2, 2),
    }
    return nn.ModuleDict({"backbone": nn.ModuleDict(layers), "head": nn.Linear(2, 3)})


def learning(model: nn.Module, objective: nn.Module) -> list[str]:
    return [name for name, parameter in named_parts(model, objective) if parameter.requires_grad]


def test_a_name_freezes_its_part_and_no_part_that_begins_alike() -> None:
    model, objective = make_model(), nn.ModuleDict({"mask": nn.Conv2d(1, 1, 1)})
    freeze_parts(model, objective, freeze=["backbone.layer1", "objective.mask.bias"])
    assert learning(model, objective) == [
        "backbone.layer10.weight",
        "backbone.layer10.bias",
        "head.weight",
        "head.bias",
        "objective.mask.weight",
    ]


def test_the_backbone_and_everything_in_it_can_be_frozen_by_one_name() -> None:
    model = make_model()
    freeze_parts(model, nn.Module(), freeze=["backbone"])
    assert learning(model, nn.Module()) == ["head.weight", "head.bias"]


def test_what_a_head_froze_itself_stays_frozen() -> None:
    model = make_model()
    model["head"].bias.requires_grad_(False)
    freeze_parts(model, nn.Module(), freeze=["backbone.layer1"])
    assert "head.bias" not in learning(model, nn.Module())


def test_a_name_that_fits_nothing_is_answered_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="freeze: expected a part of this model") as error:
        freeze_parts(make_model(), nn.ModuleDict({"mask": nn.Conv2d(1, 1, 1)}), freeze=["backbone.layr1"])
    assert "Did you mean 'backbone.layer1' or " in str(error.value)
    assert "There are backbone, head, objective, backbone.layer1, backbone.layer10, and" in str(error.value)


def test_statistics_and_dropout_rest_in_frozen_parts_alone() -> None:
    model, objective = make_model(), nn.ModuleDict({"drop": nn.Dropout(0.5)})
    model.eval(), objective.eval()
    set_training_mode(model, objective, freeze=["backbone.layer1"])
    resting = [name for name, module in model.named_modules() if not module.training]
    assert resting == ["backbone.layer1", *(f"backbone.layer1.{i}" for i in range(3))]
    assert objective["drop"].training
    model["backbone"]["layer1"](torch.randn(8, 2))
    assert model["backbone"]["layer1"][1].num_batches_tracked == 0
    set_training_mode(model, objective, freeze=["objective"])
    assert all(module.training for module in model.modules())
    assert not objective["drop"].training
