"""Training heads give the logits of the linear head that they export, and start from what they are given."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recognition.backbones import Model, make_model
from training.config.heads import (
    ArcFaceConfig,
    ASoftmaxConfig,
    HeadConfig,
    LinearConfig,
    LwsConfig,
    NearestMeanConfig,
    NormalizedConfig,
    TauNormalizedConfig,
)
from training.heads import (
    NO_PHOTO_BIAS,
    BranchHead,
    ClassMeans,
    class_means,
    export_head,
    finish_head,
    logits_of_classes,
    make_head,
    make_linear,
    nearest_mean,
    tau_normalized,
)

NUM_CLASSES, NUM_FEATURES = 7, 12
TRAINED: list[HeadConfig] = [
    LinearConfig(),
    NormalizedConfig(scale=9.0),
    NormalizedConfig(scale=9.0, learn_scale=False),
    ArcFaceConfig(),
    ASoftmaxConfig(),
    LwsConfig(),
]


def make_start(num_classes: int = NUM_CLASSES, num_features: int = NUM_FEATURES) -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(num_features, num_classes)


def make_tiny_model(num_classes: int = 3) -> Model:
    return make_model("test_resnet", num_classes=num_classes, initial_weights="random", seed=1)


def exported_logits(head: nn.Module, features: Tensor) -> Tensor:
    linear, normalizes = export_head(head)
    return linear(F.normalize(features) if normalizes else features)


@pytest.mark.parametrize(
    ("config", "branches"), [*((config, False) for config in TRAINED), (LinearConfig(), True)]
)
def test_after_training_steps_the_exported_head_gives_the_training_heads_logits(
    config: HeadConfig, branches: bool
) -> None:
    head = make_head(config, head=make_start(), branches=branches)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    features = torch.randn(5, NUM_FEATURES)
    before = head(features).detach()
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(head(features), torch.arange(5)).backward()
        optimizer.step()
    assert not torch.allclose(head(features), before, atol=1e-2)
    torch.testing.assert_close(exported_logits(head, features), head(features), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", TRAINED, ids=lambda config: config.name)
def test_gradients_of_a_head_equal_those_of_its_formula_in_float64(config: HeadConfig) -> None:
    start, features = make_start(), torch.randn(5, NUM_FEATURES)
    head = make_head(config, head=start)
    head(features).sin().sum().backward()
    leaves = {name: p.detach().double().requires_grad_() for name, p in head.named_parameters()}
    naive_logits(config, leaves, features=features.double(), start=start).sin().sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-4, atol=1e-4, check_dtype=False)


@pytest.mark.parametrize("frozen", ["features", "weight"])
def test_a_head_of_cosines_passes_gradients_beside_what_is_frozen(frozen: str) -> None:
    torch.manual_seed(0)
    features = torch.randn(3, NUM_FEATURES, requires_grad=frozen != "features")
    head = make_head(ASoftmaxConfig(), head=make_start())
    head.requires_grad_(frozen != "weight")
    head(features).sum().backward()
    directions = F.normalize(head.weight.detach())
    if frozen == "weight":
        torch.testing.assert_close(features.grad, directions.sum(dim=0).expand(3, -1))
    else:
        total = features.sum(dim=0).expand(NUM_CLASSES, -1)
        expected = total - directions * (directions * total).sum(dim=1, keepdim=True)
        torch.testing.assert_close(head.weight.grad, expected)


def naive_logits(
    config: HeadConfig, leaves: dict[str, Tensor], *, features: Tensor, start: nn.Linear
) -> Tensor:
    if isinstance(config, LinearConfig):
        return features @ leaves["weight"].T + leaves["bias"]
    if isinstance(config, LwsConfig):
        return leaves["factors"] * (features @ start.weight.double().T + start.bias.double())
    weight = leaves["weight"]
    cosines = features @ weight.T / (features.norm(dim=1)[:, None] * weight.norm(dim=1))
    if isinstance(config, ASoftmaxConfig):
        return features.norm(dim=1)[:, None] * cosines
    assert isinstance(config, NormalizedConfig | ArcFaceConfig)
    return leaves.get("scale", torch.tensor(config.scale)) * cosines


def test_a_head_of_cosines_starts_from_the_directions_of_the_weights_it_is_given() -> None:
    head = make_head(NormalizedConfig(scale=2.0), head=make_linear(torch.tensor([[3.0, 4.0], [0.0, 5.0]])))
    torch.testing.assert_close(head(torch.tensor([[0.0, 7.0]])), torch.tensor([[1.6, 2.0]]))


def test_a_head_of_cosines_refuses_weights_without_a_direction() -> None:
    with pytest.raises(ValueError, match=r"1 of 2 classes, the first is class 1.*reset_head"):
        make_head(ArcFaceConfig(), head=make_linear(torch.tensor([[3.0, 4.0], [0.0, 0.0]])))


def test_lws_learns_factors_alone_and_starts_as_the_initial_head() -> None:
    start, features = make_start(), torch.randn(4, NUM_FEATURES)
    head = make_head(LwsConfig(), head=start)
    assert [name for name, _ in head.named_parameters()] == ["factors"]
    torch.testing.assert_close(head(features), start(features))
    assert {"weight", "bias", "factors"} <= set(head.state_dict())  # the checkpoint keeps what rests, too


def test_the_branches_start_alike_and_answer_with_their_mean() -> None:
    head = make_head(LinearConfig(), head=make_linear(torch.tensor([[1.0]])), branches=True)
    assert isinstance(head, BranchHead)
    with torch.no_grad():
        head.rebalancing.weight.fill_(4.0)
        head.rebalancing.bias.fill_(1.0)
    assert head(torch.tensor([[2.0]])).item() == 5.5  # (1 * 2 + 4 * 2 + 1) / 2


@pytest.mark.parametrize("config", [LinearConfig(), NormalizedConfig(), ASoftmaxConfig()])
def test_logits_of_some_classes_are_those_columns_of_all(config: HeadConfig) -> None:
    head, features = make_head(config, head=make_start()), torch.randn(4, NUM_FEATURES)
    classes = torch.tensor([1, 4, 5])
    some = logits_of_classes(head, features, classes=classes)
    torch.testing.assert_close(some, head(features)[:, classes])


def test_a_head_that_cannot_leave_classes_out_says_so() -> None:
    with pytest.raises(ValueError, match="received LwsHead"):
        logits_of_classes(
            make_head(LwsConfig(), head=make_start()), torch.ones(1, 12), classes=torch.arange(2)
        )


def test_tau_normalization_divides_weights_by_a_power_of_their_length_and_drops_the_bias() -> None:
    start = make_linear(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), bias=torch.tensor([9.0, 9.0]))
    full, half = tau_normalized(start, tau=1.0), tau_normalized(start, tau=0.5)
    torch.testing.assert_close(full.weight.detach(), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    torch.testing.assert_close(half.weight.detach()[0], torch.tensor([3.0, 4.0]) / math.sqrt(5))
    assert full.bias.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_mean_is_what_distances_say(metric: Any) -> None:
    torch.manual_seed(0)
    means, features = torch.randn(6, 4) / 3, F.normalize(torch.randn(50, 4))
    head = nearest_mean(NearestMeanConfig(metric=metric, scale=5.0), ClassMeans(means, torch.ones(6).long()))
    if metric == "cosine":
        expected = 5 * F.cosine_similarity(features[:, None], means[None], dim=2)
    else:
        expected = -5 * (features[:, None] - means[None]).square().sum(dim=2)
    torch.testing.assert_close(head(features).softmax(dim=1), expected.softmax(dim=1))


def test_a_class_without_photos_is_never_the_nearest() -> None:
    computed = ClassMeans(torch.tensor([[-1.0, 0.0], [0.0, 0.0]]), torch.tensor([3, 0]))
    for metric in ("cosine", "euclidean"):
        head = nearest_mean(NearestMeanConfig(metric=metric), computed)
        probabilities = head(torch.tensor([[1.0, 0.0]])).softmax(dim=1)  # as far from class 0 as can be
        assert probabilities.tolist() == [[1.0, 0.0]]
        assert head.bias[1] == NO_PHOTO_BIAS


def test_class_means_read_batch_by_batch_are_the_means_of_unit_features() -> None:
    model = make_tiny_model(num_classes=4)
    photos, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 2, 0, 1, 2, 2])
    batches = [(photos[:4], labels[:4]), (photos[4:], labels[4:])]
    means, counts = class_means(model.train(), batches, num_classes=4)
    with torch.no_grad():
        features = F.normalize(model.eval().features(photos))
    assert counts.tolist() == [2, 1, 3, 0]
    for k in range(3):
        torch.testing.assert_close(means[k], features[labels == k].mean(dim=0))
    assert not means[3].any()


def test_class_means_are_summed_over_processes() -> None:
    model, photo = make_tiny_model(), torch.randn(1, 3, 32, 32)
    _, counts = class_means(model, [(photo, torch.tensor([1]))], num_classes=3, reduce=lambda x: x * 2)
    assert counts.tolist() == [0, 2, 0]
    with pytest.raises(ValueError, match="at least one photo"):
        class_means(model, [], num_classes=3)


def test_a_finished_model_holds_a_linear_head_and_gives_the_same_logits() -> None:
    model, photos = make_tiny_model().eval(), torch.randn(4, 3, 32, 32)
    model.head = make_head(NormalizedConfig(), head=model.head)
    before = model(photos)
    finish_head(NormalizedConfig(), model=model, batches=())
    assert isinstance(model.head, nn.Linear)
    assert model.normalize_features
    torch.testing.assert_close(model(photos), before)


def test_a_finished_head_keeps_the_unit_features_of_the_model_it_started_from() -> None:
    model = make_tiny_model()
    model.normalize_features = True
    finish_head(TauNormalizedConfig(), model=model, batches=())
    assert model.normalize_features
    assert torch.allclose(model.head.weight.norm(dim=1), torch.ones(3))


def test_the_nearest_mean_of_one_photo_a_class_names_each_photo() -> None:
    model, photos = make_tiny_model(), torch.randn(3, 3, 32, 32)
    finish_head(NearestMeanConfig(), model=model, batches=[(photos, torch.arange(3))])
    assert model.normalize_features
    assert model(photos).argmax(dim=1).tolist() == [0, 1, 2]
    torch.testing.assert_close(model(photos).diagonal(), torch.full((3,), 16.0))
