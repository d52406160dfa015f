"""Which objective a phase's words make, and the plain one."""

from __future__ import annotations

import math

import pytest
import torch

from recognition.backbones import Model, make_model
from tests.training.conftest import TINY_PHASE
from training.classification import Classification, make_classification
from training.config import PhaseConfig
from training.config.objectives import (
    BbnConfig,
    DclConfig,
    DistillationConfig,
    LioConfig,
    MixConfig,
    ObjectiveConfig,
    PlainConfig,
)
from training.objectives.bbn import BbnObjective
from training.objectives.dcl import DclObjective
from training.objectives.factory import make_objective
from training.objectives.lio import LioObjective
from training.objectives.mix import MixObjective
from training.objectives.objective import Batch, Objective
from training.objectives.plain import PlainObjective


def make_parts(config: ObjectiveConfig, **phase: str) -> tuple[PhaseConfig, Model, Classification]:
    """Build what an objective is made from, for 3 classes and 35 pixels."""
    settings = TINY_PHASE.replace(objective=config, input_size=35, resize=35, loss_log="none", **phase)
    model = make_model("test_efficientnet", num_classes=3, initial_weights="random", seed=0)
    counts = torch.ones(3, dtype=torch.int64)
    classification = make_classification(
        settings, class_counts=counts, coarse_names=(), num_features=model.head.in_features, seed=0
    )
    return settings, model, classification


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PlainConfig(), PlainObjective),
        (MixConfig(), MixObjective),
        (DclConfig(), DclObjective),
        (LioConfig(), LioObjective),
        (BbnConfig(), BbnObjective),
    ],
)
def test_a_phases_words_choose_the_objective(config: ObjectiveConfig, kind: type[Objective]) -> None:
    phase, model, classification = make_parts(config)
    objective = make_objective(phase, model=model, classification=classification, teacher=None, seed=0)
    assert type(objective) is kind
    assert objective.classification is classification


def test_distillation_without_a_teacher_says_where_to_put_one() -> None:
    phase, model, classification = make_parts(DistillationConfig())
    with pytest.raises(ValueError, match="into the job folder as teacher/"):
        make_objective(phase, model=model, classification=classification, teacher=None, seed=0)


def test_plain_is_the_mean_loss_of_the_models_logits() -> None:
    phase, model, classification = make_parts(PlainConfig())
    objective = make_objective(phase, model=model, classification=classification, teacher=None, seed=0)
    torch.nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([0.0, math.log(2), math.log(5)])
    batch = Batch(torch.zeros(2, 3, 35, 35), torch.tensor([1, 2]), torch.arange(2), 2, step=0, progress=0.0)
    output = objective(model, batch)
    assert output["loss"].item() == pytest.approx((math.log(8 / 2) + math.log(8 / 5)) / 2)
    assert torch.equal(output["logits"], model.head.bias.expand(2, 3))
