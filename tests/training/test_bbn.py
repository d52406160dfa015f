"""BBN: the mix of both branches at each point of a phase, by its formula in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recognition.backbones import Model, make_model
from tests.training.conftest import TINY_PHASE
from training.classification import make_classification
from training.config.heads import LinearConfig
from training.config.losses import FocalConfig
from training.config.objectives import BbnConfig
from training.heads import BranchHead, make_head
from training.objectives.bbn import BbnObjective
from training.objectives.objective import Batch

NUM_CLASSES = 3
PHASE = TINY_PHASE.replace(objective=BbnConfig())


def make_tiny_model() -> Model:
    model = make_model("test_convnext", num_classes=NUM_CLASSES, initial_weights="random", seed=1).eval()
    model.head = make_head(LinearConfig(), head=model.head, branches=True)
    torch.manual_seed(0)
    with torch.no_grad():
        model.head.rebalancing.weight.normal_()
        model.head.rebalancing.bias.normal_()
    return model


def make_batch(*, progress: float, num_companions: int = 4) -> Batch:
    torch.manual_seed(2)
    size = 4 + num_companions
    labels = torch.tensor([0, 0, 1, 0, 2, 1, 2, 2])[:size]
    photos = torch.randn(size, 3, 32, 32)
    return Batch(
        photos=photos, labels=labels, positions=torch.arange(size), num_anchors=4, step=0, progress=progress
    )


def make_objective(coarse_weight: float = 0.0) -> BbnObjective:
    classification = make_classification(
        PHASE.replace(coarse_weight=coarse_weight, loss=FocalConfig(gamma=1.0)),
        class_counts=torch.tensor([3, 2, 1]),
        coarse_names=("a", "b", "b") if coarse_weight else (),
        num_features=make_tiny_model().head.in_features,
        seed=0,
    )
    return BbnObjective(classification)


def naive_focal(z: Tensor, labels: Tensor) -> Tensor:
    p = z.softmax(dim=1)[torch.arange(len(z)), labels]
    return -((1 - p) * p.log()).mean()


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.99])
def test_loss_and_gradients_equal_the_papers_formula_in_float64(progress: float) -> None:
    model, batch = make_tiny_model(), make_batch(progress=progress)
    output = make_objective()(model, batch)
    output["loss"].backward()

    reference = make_tiny_model().double()
    head: BranchHead = reference.head
    features = reference.backbone(batch.photos.double())
    alpha = 1 - progress**2
    z = alpha * head.conventional(features[:4]) + (1 - alpha) * head.rebalancing(features[4:])
    loss = alpha * naive_focal(z, batch.labels[:4]) + (1 - alpha) * naive_focal(z, batch.labels[4:])
    loss.backward()
    torch.testing.assert_close(output["loss"].double(), loss, rtol=1e-5, atol=1e-5)
    for got, expected in zip(model.parameters(), reference.parameters(), strict=True):
        assert got.grad is not None
        assert expected.grad is not None
        torch.testing.assert_close(got.grad.double(), expected.grad, rtol=1e-3, atol=1e-4)


def test_at_the_start_it_is_the_conventional_branch_alone() -> None:
    model, batch = make_tiny_model(), make_batch(progress=0.0)
    output = make_objective()(model, batch)
    expected = model.head.conventional(model.features(batch.photos[:4]))
    assert output["logits"] is not None
    torch.testing.assert_close(output["logits"], expected)
    torch.testing.assert_close(output["loss"], naive_focal(expected, batch.labels[:4]))


def test_logits_are_the_conventional_branchs_own_at_any_time() -> None:
    model, batch = make_tiny_model(), make_batch(progress=0.9)
    logits = make_objective()(model, batch)["logits"]
    assert logits is not None
    torch.testing.assert_close(logits, model.head.conventional(model.features(batch.photos[:4])))


def test_coarse_classes_share_the_loss_as_the_leaves_do() -> None:
    model, batch = make_tiny_model(), make_batch(progress=0.5)
    plain, both = (
        make_objective()(model, batch),
        (objective := make_objective(coarse_weight=2.0))(model, batch),
    )
    coarse = objective.classification.coarse
    assert coarse is not None
    logits, labels = coarse.linear(model.features(batch.photos)), (batch.labels > 0).long()
    expected = 0.75 * F.cross_entropy(logits[:4], labels[:4]) + 0.25 * F.cross_entropy(logits[4:], labels[4:])
    torch.testing.assert_close(both["loss"] - plain["loss"], 2 * expected)


def test_a_batch_without_companions_is_refused() -> None:
    with pytest.raises(ValueError, match="one companion for each of 4 photos"):
        make_objective()(make_tiny_model(), make_batch(progress=0.0, num_companions=0))
