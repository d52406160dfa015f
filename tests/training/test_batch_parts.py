"""A batch in parts, over accumulation or processes, has the loss and the gradient of the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import training.objectives.dcl as dcl
from recognition.backbones import make_model
from tests.training.conftest import TINY_PHASE
from tests.training.test_distillation import load_tiny, save_teacher
from training.classification import make_classification
from training.config.heads import ArcFaceConfig
from training.config.losses import (
    AccuracyConfig,
    BalancedSoftmaxConfig,
    BiTemperedConfig,
    CrossEntropyConfig,
    FocalConfig,
    LogitAdjustedConfig,
    SymmetricConfig,
)
from training.config.objectives import BbnConfig, DclConfig, DistillationConfig, LioConfig
from training.environment import make_environment
from training.heads import make_head
from training.objectives.factory import make_objective
from training.objectives.objective import Batch
from training.step import Step, learn

NUM_ANCHORS = 5
PHASES = {
    "cross entropy": {"loss": CrossEntropyConfig(smoothing=0.1, class_weights="inverse")},
    "symmetric": {"loss": SymmetricConfig(class_weights="inverse")},
    "accuracy": {"loss": AccuracyConfig()},
    "focal": {"loss": FocalConfig()},
    "bi-tempered": {"loss": BiTemperedConfig()},
    "logit adjusted": {"loss": LogitAdjustedConfig()},
    "balanced softmax": {"loss": BalancedSoftmaxConfig()},
    "arcface": {"head": ArcFaceConfig()},
    "bbn": {"objective": BbnConfig()},
    "dcl": {"objective": DclConfig(grid=2)},
    "lio": {"objective": LioConfig(positives=2, grid=2)},
    "distillation": {"objective": DistillationConfig()},
}
COMPANIONS = {"bbn": 1, "lio": 2}


def make_batch(num_companions: int) -> Batch:
    """5 anchors of every class, two of which have no coarse one, and their companions of the same class."""
    generator = torch.Generator().manual_seed(3)
    photos = torch.randn(NUM_ANCHORS * (1 + num_companions), 3, 64, 64, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0]).repeat(1 + num_companions)
    return Batch(photos, labels, torch.arange(len(labels)), NUM_ANCHORS, step=3, progress=0.4)


def cut(batch: Batch, anchors: list[int]) -> Batch:
    """Some anchors of a batch with their companions."""
    count = len(batch.labels) // batch.num_anchors
    rows = torch.tensor(
        [anchor + number * batch.num_anchors for number in range(count) for anchor in anchors]
    )
    return Batch(batch.photos[rows], batch.labels[rows], rows, len(anchors), step=3, progress=0.4)


def taught(name: str, parts: list[list[int]], teacher_dir: Path) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step of these parts, and every parameter's gradient after them."""
    phase = TINY_PHASE.replace(input_size=64, resize=64, coarse_weight=0.7, **PHASES[name])
    model = make_model("test_convnext", num_classes=4, initial_weights="random", seed=0)  # no batch norm
    classification = make_classification(
        phase,
        class_counts=torch.tensor([4, 3, 2, 1]),
        coarse_names=("a", "b", None, None),
        num_features=model.head.in_features,
        seed=1,
    )
    model.head = make_head(phase.head, head=model.head, branches=name == "bbn")
    teacher = load_tiny(teacher_dir) if name == "distillation" else None
    objective = make_objective(phase, model=model, classification=classification, teacher=teacher, seed=2)
    step, loss = Step(model, objective), 0.0
    environment = make_environment(phase)
    batch = make_batch(COMPANIONS.get(name, 0))
    for anchors in parts:
        measured = learn(
            step,
            cut(batch, anchors),
            num_anchors=NUM_ANCHORS,
            is_last=anchors is parts[-1],
            wants_statistics=False,
            environment=environment,
        )
        loss += measured.loss.item()
    return loss, {name: p.grad for name, p in step.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", PHASES)
def test_uneven_parts_add_up_to_the_whole_batch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_teacher(tmp_path / "teacher", seed=9)
    # each part draws jigsaws of its own; the comparison takes the same one for every photo
    jigsaw = torch.tensor([[3, 1], [0, 2]])
    monkeypatch.setattr(dcl, "draw_jigsaws", lambda num_photos, **_: jigsaw.expand(num_photos, 2, 2))
    loss, gradients = taught(name, [[0, 1, 2, 3, 4]], tmp_path / "teacher")
    in_parts, summed = taught(name, [[3, 1], [2], [0, 4]], tmp_path / "teacher")
    assert in_parts == pytest.approx(loss, rel=1e-5)
    assert summed.keys() == gradients.keys()
    assert any("coarse" in key for key in summed)
    for key, gradient in gradients.items():
        torch.testing.assert_close(summed[key], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max().item())
