"""Features and labels to a loss: margins, sampled classes, coarse classes and shared labels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recognition.backbones import Model, make_model
from tests.training.conftest import TINY_PHASE
from training.classification import Classification, draw_classes, make_classification
from training.config.heads import (
    ArcFaceConfig,
    ASoftmaxConfig,
    HeadConfig,
    LinearConfig,
    LwsConfig,
    NormalizedConfig,
)
from training.config.losses import (
    BalancedSoftmaxConfig,
    BiTemperedConfig,
    CrossEntropyConfig,
    LogitAdjustedConfig,
    SymmetricConfig,
)
from training.heads import make_head

NUM_CLASSES = 12
COARSE_NAMES = ("fruit", "milk", None, "fruit", *[None] * 8)


def make_tiny_model(head: HeadConfig | None = None) -> Model:
    model = make_model("test_resnet", num_classes=NUM_CLASSES, initial_weights="random", seed=1)
    model.head = make_head(head or LinearConfig(), head=model.head)
    return model


def make_tiny(model: Model, **phase: Any) -> Classification:
    settings: dict[str, Any] = {"loss_log": "none", **phase}
    return make_classification(
        TINY_PHASE.replace(**settings),
        class_counts=torch.arange(1, NUM_CLASSES + 1),
        coarse_names=COARSE_NAMES if phase.get("coarse_weight") else (),
        num_features=model.head.in_features,
        seed=5,
    )


def make_batch(model: Model, *, size: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(size, model.head.in_features), torch.arange(size) % 4


def gradients(loss: Tensor, model: Model) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.head.named_parameters() if p.grad is not None}


def test_without_options_it_is_the_loss_of_the_models_logits() -> None:
    model = make_tiny_model()
    features, labels = make_batch(model)
    loss, logits = make_tiny(model)(model, features, labels, step=0)
    assert logits is not None
    assert torch.equal(logits, model.logits(features))
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))


def test_unit_features_and_dropout_of_the_model_come_before_the_head() -> None:
    model = make_tiny_model()
    model.normalize_features, model.drop.p = True, 0.5
    features, labels = make_batch(model)
    results = []
    for run in (lambda: make_tiny(model)(model, features, labels, step=0)[1], lambda: model.logits(features)):
        torch.manual_seed(9)
        results.append(run())
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("head", [ArcFaceConfig(margin=0.4), ASoftmaxConfig(lambda_start=0, lambda_end=0)])
def test_a_margin_makes_labels_harder_and_logits_stay_without_it(head: HeadConfig) -> None:
    model = make_tiny_model(head)
    features, labels = make_batch(model)
    loss, logits = make_tiny(model, head=head)(model, features, labels, step=0)
    assert logits is not None
    assert torch.equal(logits, model.logits(features))
    assert loss > F.cross_entropy(logits, labels)


@pytest.mark.parametrize("head", [ArcFaceConfig(scale=8.0), ASoftmaxConfig(lambda_start=3.0)], ids=str)
def test_a_margin_trains_until_photos_are_on_their_labels_side(head: HeadConfig) -> None:
    model = make_tiny_model(head)
    features, labels = make_batch(model)
    features.requires_grad_()
    classification = make_tiny(model, head=head)
    optimizer = torch.optim.SGD([*model.head.parameters(), features], lr=0.5)
    losses = []
    for _ in range(60):
        loss, logits = classification(model, features, labels, step=0)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 5
    assert (logits.argmax(dim=1) == labels).all()


@pytest.mark.parametrize(
    "head",
    [LinearConfig(), NormalizedConfig(), ArcFaceConfig(), ASoftmaxConfig()],
    ids=lambda head: head.name,
)
def test_sampling_all_classes_is_the_whole_loss(head: HeadConfig) -> None:
    model = make_tiny_model(head)
    features, labels = make_batch(model)
    whole, _ = make_tiny(model, head=head)(model, features, labels, step=0)
    expected = gradients(whole, model)
    sampled, logits = make_tiny(model, head=head, sampled_classes=0.99)(model, features, labels, step=0)
    assert logits is None  # ceil(.99 * 12) = 12 classes, but drawn
    torch.testing.assert_close(sampled, whole)
    torch.testing.assert_close(gradients(sampled, model), expected)


def test_sampled_classes_are_a_softmax_over_the_drawn_ones_and_leave_other_weights_alone() -> None:
    model = make_tiny_model()
    features, labels = make_batch(model)
    torch.manual_seed(4)
    classes = draw_classes(labels, num_classes=NUM_CLASSES, share=0.5)
    torch.manual_seed(4)
    loss, _ = make_tiny(model, sampled_classes=0.5)(model, features, labels, step=0)
    log_p = model.logits(features)[:, classes].log_softmax(dim=1)
    expected = -log_p[torch.arange(6), [classes.tolist().index(label) for label in labels.tolist()]].mean()
    torch.testing.assert_close(loss, expected)
    touched = gradients(loss, model)["weight"].abs().sum(dim=1) > 0
    assert touched.nonzero().flatten().tolist() == classes.tolist()


def test_drawn_classes_hold_the_labels_and_random_others_in_rising_order() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([7, 99, 7, 3])
    drawn = [draw_classes(labels, num_classes=100, share=0.095).tolist() for _ in range(200)]
    for classes in drawn:
        assert len(classes) == 10
        assert classes == sorted(set(classes))
        assert {3, 7, 99} <= set(classes)
    assert len({number for classes in drawn for number in classes}) == 100


def test_a_batch_of_more_labels_than_the_share_keeps_them_all() -> None:
    assert draw_classes(torch.arange(5), num_classes=8, share=0.1).tolist() == [0, 1, 2, 3, 4]
    assert draw_classes(torch.arange(8).repeat(2), num_classes=8, share=0.1).tolist() == list(range(8))


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"loss": BalancedSoftmaxConfig()}, "loss.name balanced_softmax"),
        ({"loss": LogitAdjustedConfig()}, "loss.name logit_adjusted"),
        ({"loss": SymmetricConfig(class_weights="inverse")}, "loss.class_weights"),
        ({"loss": CrossEntropyConfig(smoothing=0.1)}, "loss.smoothing"),
        ({"loss": BiTemperedConfig(smoothing=0.1)}, "loss.smoothing"),
        ({"head": LwsConfig()}, "head.name lws"),
    ],
)
def test_sampled_classes_refuse_what_needs_all_classes(phase: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"sampled_classes: expected 1 beside {words}"):
        make_tiny(make_tiny_model(), sampled_classes=0.5, **phase)


def test_the_coarse_loss_is_a_mean_over_photos_of_which_one_without_coarse_class_adds_nothing() -> None:
    model = make_tiny_model()
    features, labels = make_batch(model)  # classes 0 1 2 3 0 1: fruit, milk, none, fruit, fruit, milk
    classification = make_tiny(model, coarse_weight=0.5)
    loss, logits = classification(model, features, labels, step=0)
    assert classification.coarse is not None
    linear = classification.coarse.linear.double()
    log_p = linear(features.double()).log_softmax(dim=1)
    rows, coarse = torch.tensor([0, 1, 3, 4, 5]), torch.tensor([0, 1, 0, 0, 1])
    assert logits is not None
    expected = F.cross_entropy(logits, labels) - 0.5 * log_p[rows, coarse].sum() / 6
    torch.testing.assert_close(loss.double(), expected)


def test_a_batch_without_coarse_classes_costs_nothing_and_breaks_nothing() -> None:
    model = make_tiny_model()
    features, _ = make_batch(model)
    classification = make_tiny(model, coarse_weight=1.0)
    labels = torch.full((6,), 2)
    loss, logits = classification(model, features, labels, step=0)
    loss.backward()
    assert logits is not None
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))
    assert classification.coarse is not None
    assert classification.coarse.linear.weight.grad is not None
    assert not classification.coarse.linear.weight.grad.any()


def test_the_coarse_head_comes_from_its_seed_and_not_from_the_global_generator() -> None:
    model = make_tiny_model()
    weights = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        expected = torch.rand(1)
        torch.manual_seed(seed)
        coarse = make_tiny(model, coarse_weight=1.0).coarse
        assert torch.equal(torch.rand(1), expected)
        assert coarse is not None
        weights.append(coarse.linear.weight)
    assert torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("head", [LinearConfig(), ArcFaceConfig()], ids=lambda head: head.name)
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_shared_labels_are_the_shares_of_two_losses(head: HeadConfig, share: float) -> None:
    model = make_tiny_model(head)
    features, labels = make_batch(model)
    classification = make_tiny(model, head=head, coarse_weight=1.0)
    targets = ((labels, share), (labels.flip(0), 1 - share))
    losses = [classification(model, features, given, step=0)[0] for given, _ in targets]
    expected = share * losses[0] + (1 - share) * losses[1]
    wanted = gradients(expected, model)
    mixed, logits = classification.mixed(model, features, targets, step=0)
    torch.testing.assert_close(mixed, expected)
    torch.testing.assert_close(gradients(mixed, model), wanted)
    assert logits is not None
    assert torch.equal(logits, model.logits(features))


def test_shared_labels_are_all_among_the_sampled_classes() -> None:
    model = make_tiny_model()
    features, labels = make_batch(model)
    classification = make_tiny(model, sampled_classes=0.01)
    loss, _ = classification.mixed(model, features, ((labels, 0.5), (labels + 8, 0.5)), step=0)
    touched = gradients(loss, model)["weight"].abs().sum(dim=1) > 0
    assert {0, 1, 2, 3, 8, 9, 10, 11} <= set(touched.nonzero().flatten().tolist())
