"""One batch over-fits with every objective: its loss comes within 0.01 of the lowest value it can have.

That value is 0, but where a photo has two labels (mix, bbn): there no answer costs less than the entropy of
their shares. Before every step the generators are seeded alike, so that shares and jigsaws stay as they are:
new ones in every step would be new photos.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from recognition.backbones import Model, make_model
from recognition.bundle import MemberConfig, save_member
from recognition.preprocessing import make_preprocessing
from tests.training.conftest import CLASS_NAMES, TINY_PHASE
from training.classification import make_classification
from training.config.objectives import (
    BbnConfig,
    DclConfig,
    DistillationConfig,
    LioConfig,
    MixConfig,
    ObjectiveConfig,
    PlainConfig,
)
from training.heads import make_head
from training.objectives.factory import make_objective
from training.objectives.mix import MixObjective
from training.objectives.objective import Batch, Objective
from training.teacher import Teacher, load_teacher

BACKBONE = "test_efficientnet"
NUM_CLASSES = len(CLASS_NAMES)
OWN_LABELS = torch.arange(NUM_CLASSES)


def make_batch(labels: torch.Tensor, *, input_size: int = 64) -> Batch:
    """Photos of noise, the first four of which are anchors."""
    photos = torch.randn(len(labels), 3, input_size, input_size, generator=torch.Generator().manual_seed(0))
    photos = photos.contiguous(memory_format=torch.channels_last)
    return Batch(photos, labels, torch.arange(len(labels)), NUM_CLASSES, step=0, progress=0.5)


def make_learner(
    config: ObjectiveConfig, *, input_size: int = 64, teacher: Teacher | None = None
) -> tuple[Model, Objective]:
    """Build a model and an objective as a phase does."""
    phase = TINY_PHASE.replace(
        input_size=input_size,
        resize=input_size,
        objective=config,
        loss_log="none",
    )
    model = make_model(BACKBONE, num_classes=NUM_CLASSES, initial_weights="random", seed=0)
    model.head = make_head(phase.head, head=model.head, branches=isinstance(config, BbnConfig))
    classification = make_classification(
        phase,
        class_counts=torch.ones(NUM_CLASSES, dtype=torch.int64),
        coarse_names=(),
        num_features=model.head.in_features,
        seed=0,
    )
    objective = make_objective(phase, model=model, classification=classification, teacher=teacher, seed=0)
    return model, objective


def overfit(model: Model, objective: Objective, batch: Batch, *, num_steps: int = 50) -> float:
    """Return the last loss of some steps of Adam on the same batch, its rate falling to 0."""
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=0.005)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=num_steps)
    for _ in range(num_steps):
        torch.manual_seed(0)
        np.random.seed(0)
        loss = objective(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


def entropy(share: float) -> float:
    """Return what two labels of these shares cost at least, in nats."""
    return -share * math.log(share) - (1 - share) * math.log(1 - share)


def test_plain_overfits() -> None:
    model, objective = make_learner(PlainConfig())
    assert overfit(model, objective, make_batch(OWN_LABELS)) < 0.01


@pytest.mark.parametrize(
    "config",
    [MixConfig(mixup_alpha=1.0), MixConfig(mixup_alpha=0.0, cutmix_alpha=1.0)],
    ids=["mixup", "cutmix"],
)
def test_mix_overfits_to_the_entropy_of_its_shares(config: MixConfig) -> None:
    model, objective = make_learner(config)
    batch = make_batch(OWN_LABELS)  # partners stand in reverse order: no photo has its own label twice
    assert isinstance(objective, MixObjective)
    np.random.seed(0)
    _, share = objective.mix(batch.photos)
    assert overfit(model, objective, batch) == pytest.approx(entropy(share), abs=0.01)


def test_dcl_overfits_with_names_originals_and_places() -> None:
    config = DclConfig(grid=3, neighborhood=2)
    model, objective = make_learner(config, input_size=96)
    assert overfit(model, objective, make_batch(OWN_LABELS, input_size=96), num_steps=90) < 0.01


def test_lio_overfits_with_names_extents_and_coordinates() -> None:
    # weights of 1, so that an extent or a coordinate left unlearnt would show
    config = LioConfig(positives=1, grid=3, mask_weight=1.0, coordinate_weight=1.0)
    model, objective = make_learner(config, input_size=96)
    assert overfit(model, objective, make_batch(OWN_LABELS.repeat(2), input_size=96), num_steps=90) < 0.01


def test_distillation_overfits_to_a_teacher_who_is_right(tmp_path: Path) -> None:
    batch = make_batch(OWN_LABELS)
    learner = make_learner(PlainConfig())
    overfit(*learner, batch)
    preprocessing = make_preprocessing(BACKBONE, input_size=64, resize=64)
    config = MemberConfig(
        name="teacher",
        backbone=BACKBONE,
        num_classes=NUM_CLASSES,
        num_features=learner[0].head.in_features,
        class_names=CLASS_NAMES,
        preprocessing=preprocessing,
        initial_weights="random",
        fingerprint="f00d",
    )
    save_member(tmp_path, model=learner[0], config=config)
    teacher = load_teacher(
        tmp_path, device="cpu", dtype=torch.float32, student=preprocessing, class_names=CLASS_NAMES
    )
    model, objective = make_learner(DistillationConfig(), teacher=teacher)
    assert overfit(model, objective, batch) < 0.01


def test_bbn_overfits_to_the_entropy_of_its_shares() -> None:
    model, objective = make_learner(BbnConfig())
    batch = make_batch(torch.cat((OWN_LABELS, OWN_LABELS.flip(0))))
    assert overfit(model, objective, batch) == pytest.approx(entropy(1 - 0.5**2), abs=0.01)
