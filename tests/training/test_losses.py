"""Losses against numbers worked by hand, and against their formulas written out in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from training.config.losses import (
    AccuracyConfig,
    BalancedSoftmaxConfig,
    BiTemperedConfig,
    CrossEntropyConfig,
    FocalConfig,
    LogitAdjustedConfig,
    LossConfig,
    SymmetricConfig,
)
from training.losses.bi_tempered import tempered_log_softmax
from training.losses.factory import make_loss
from training.losses.log_probability import log_p_beside_largest, log_probability

COUNTS = torch.tensor([9, 3, 1, 40, 7])
HALF_QUARTER_QUARTER = torch.tensor([[math.log(2.0), 0.0, 0.0]])
LN2 = math.log(2)


def one_photo(config: LossConfig, *, label: int = 0, counts: tuple[int, ...] = (2, 1, 1)) -> float:
    """The loss of a photo with p = 1/2, 1/4, 1/4."""
    loss = make_loss(config, class_counts=torch.tensor(counts))
    value: float = loss(HALF_QUARTER_QUARTER, torch.tensor([label])).item()
    return value


@pytest.mark.parametrize(
    ("smoothing", "convention", "expected"),
    [
        (0.0, "others", LN2),
        (0.2, "others", 0.8 * LN2 + 0.2 * math.log(4)),
        (0.3, "uniform", 0.8 * LN2 + 0.2 * math.log(4)),
    ],
)
def test_cross_entropy_by_hand(smoothing: float, convention: str, expected: float) -> None:
    config = CrossEntropyConfig(smoothing=smoothing, smoothing_convention=convention)
    assert one_photo(config) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("config", "label", "expected"),
    [
        (CrossEntropyConfig(class_weights="inverse"), 0, 4 / (3 * 2) * LN2),  # N = 4, K = 3, n_0 = 2
        (SymmetricConfig(log_zero=-4), 0, 0.4 * LN2 + 0.7 * 4 / 2),
        (SymmetricConfig(log_zero=-4, class_weights="inverse"), 1, 0.4 * 4 / 3 * 2 * LN2 + 0.7 * 4 * 3 / 4),
        (AccuracyConfig(), 1, 3 / 4),
        (FocalConfig(gamma=2), 1, (3 / 4) ** 2 * 2 * LN2),
        (BalancedSoftmaxConfig(), 0, math.log(6 / 4)),  # n e^z = 4, 1, 1
        (LogitAdjustedConfig(tau=2), 1, math.log(10)),  # n^2 e^z = 8, 1, 1
        (BiTemperedConfig(t1=0.5, t2=1), 0, 2 - math.sqrt(2) - 2 / 3 * (1 - 0.125**0.5 - 2 * 0.125)),
    ],
)
def test_losses_by_hand(config: LossConfig, label: int, expected: float) -> None:
    assert one_photo(config, label=label) == pytest.approx(expected, rel=1e-6)


def test_precision_by_hand() -> None:
    # p = (1/2, 1/4, 1/4) and (1/4, 1/2, 1/4): precision of class 0 is (1/2) / (3/4), that of class 1 as well
    logits = torch.tensor([[LN2, 0.0, 0.0], [0.0, LN2, 0.0]])
    loss = make_loss(AccuracyConfig(reading="precision"), class_counts=torch.ones(3, dtype=torch.int64))
    assert loss(logits, torch.tensor([0, 1])).item() == pytest.approx(1 / 3)
    # both photos of class 0: (1/2 + 1/4) of 3/4
    assert loss(logits, torch.tensor([0, 0])).item() == pytest.approx(0, abs=1e-6)


def naive_cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float, convention: str) -> Tensor:
    num_classes = logits.shape[1]
    if convention == "others":
        targets = torch.full_like(logits, smoothing / (num_classes - 1))
        targets[range(len(labels)), labels] = 1 - smoothing
    else:
        targets = torch.full_like(logits, smoothing / num_classes)
        targets[range(len(labels)), labels] += 1 - smoothing
    return -(targets * logits.softmax(1).log()).sum(1)


def naive_reverse(logits: Tensor, labels: Tensor, *, log_zero: float) -> Tensor:
    log_q = torch.full_like(logits, log_zero)
    log_q[range(len(labels)), labels] = 0
    return -(logits.softmax(1) * log_q).sum(1)


def naive_precision(logits: Tensor, labels: Tensor) -> Tensor:
    p = logits.softmax(1)
    precisions = [p[labels == k, k].sum() / p[:, k].sum() for k in sorted(set(labels.tolist()))]
    return 1 - torch.stack(precisions).mean()


def naive_bi_tempered(logits: Tensor, labels: Tensor, *, t1: float, t2: float, smoothing: float) -> Tensor:
    """As the paper has it: one-hot labels, and its fixed point, through whose iterations autograd goes."""
    top = logits.amax(1, keepdim=True)
    scaled = logits - top
    for _ in range(100):
        total = (1 + (1 - t2) * scaled).pow(1 / (1 - t2)).sum(1, keepdim=True)
        scaled = total.pow(1 - t2) * (logits - top)
    total = (1 + (1 - t2) * scaled).pow(1 / (1 - t2)).sum(1, keepdim=True)
    normaliser = -(total.pow(t2 - 1) - 1) / (1 - t2) + top
    p = (1 + (1 - t2) * (logits - normaliser)).pow(1 / (1 - t2))
    q = torch.full_like(logits, smoothing / (logits.shape[1] - 1))
    q[range(len(labels)), labels] = 1 - smoothing
    log_ratio = (q.pow(1 - t1) - p.pow(1 - t1)) / (1 - t1)
    return (q * log_ratio - (q.pow(2 - t1) - p.pow(2 - t1)) / (2 - t1)).sum(1)


def smoothed(smoothing: float, convention: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda z, y: naive_cross_entropy(z, y, smoothing=smoothing, convention=convention)


def probability(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.softmax(1)[range(len(labels)), labels]


ce = smoothed(0.0, "others")
INVERSE = 60 / (5 * COUNTS.double())
EFFECTIVE = torch.tensor([(1 - 0.99) / (1 - 0.99**n) for n in COUNTS.tolist()], dtype=torch.double)
EFFECTIVE = EFFECTIVE * 5 / EFFECTIVE.sum()
NAIVE: dict[str, tuple[LossConfig, Callable[[Tensor, Tensor], Tensor]]] = {
    "ce": (CrossEntropyConfig(), ce),
    "others": (CrossEntropyConfig(smoothing=0.2), smoothed(0.2, "others")),
    "uniform": (
        CrossEntropyConfig(smoothing=0.2, smoothing_convention="uniform"),
        smoothed(0.2, "uniform"),
    ),
    "bce": (CrossEntropyConfig(class_weights="inverse"), lambda z, y: INVERSE[y] * ce(z, y)),
    "effective": (
        CrossEntropyConfig(class_weights="effective_number", effective_beta=0.99, smoothing=0.1),
        lambda z, y: EFFECTIVE[y] * smoothed(0.1, "others")(z, y),
    ),
    "sce": (
        SymmetricConfig(),
        lambda z, y: 0.4 * ce(z, y) + 0.7 * naive_reverse(z, y, log_zero=math.log(1e-4)),
    ),
    "bsce": (
        SymmetricConfig(class_weights="inverse", log_zero=-4),
        lambda z, y: 0.4 * INVERSE[y] * ce(z, y) + 0.7 * naive_reverse(z, y, log_zero=-4),
    ),
    "probability": (AccuracyConfig(), lambda z, y: 1 - probability(z, y)),
    "precision": (AccuracyConfig(reading="precision"), naive_precision),
    "focal": (FocalConfig(), lambda z, y: (1 - probability(z, y)) ** 2 * ce(z, y)),
    "focal, gamma 0.5": (FocalConfig(gamma=0.5), lambda z, y: (1 - probability(z, y)).sqrt() * ce(z, y)),
    "logit adjusted": (LogitAdjustedConfig(tau=1.5), lambda z, y: ce(z + 1.5 * (COUNTS / 60).log(), y)),
    "balanced softmax": (BalancedSoftmaxConfig(), lambda z, y: ce(z + COUNTS.log(), y)),
    "bi-tempered": (BiTemperedConfig(), lambda z, y: naive_bi_tempered(z, y, t1=0.8, t2=1.2, smoothing=0)),
    "bi-tempered, smoothed": (
        BiTemperedConfig(t1=0.3, t2=2.5, smoothing=0.2),
        lambda z, y: naive_bi_tempered(z, y, t1=0.3, t2=2.5, smoothing=0.2),
    ),
    "bi-tempered, t2 1": (
        BiTemperedConfig(t1=0.7, t2=1),
        lambda z, y: naive_bi_tempered(z, y, t1=0.7, t2=1 + 1e-9, smoothing=0),
    ),
    "bi-tempered, t1 1": (
        BiTemperedConfig(t1=1, t2=1.4, smoothing=0.1),
        lambda z, y: naive_bi_tempered(z, y, t1=1 - 1e-9, t2=1.4, smoothing=0.1),
    ),
    "bi-tempered, both 1": (BiTemperedConfig(t1=1, t2=1), ce),
}


def value_and_gradient(
    loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor
) -> tuple[float, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, labels).mean()
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAIVE)
def test_value_and_gradient_equal_the_formula_in_float64(name: str, dtype: torch.dtype) -> None:
    config, naive = NAIVE[name]
    logits = (3 * torch.randn(6, 5, generator=torch.Generator().manual_seed(1))).to(dtype)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    value, gradient = value_and_gradient(make_loss(config, class_counts=COUNTS).to(dtype), logits, labels)
    expected, exact = value_and_gradient(naive, logits.double(), labels)
    tolerance = 1e-6 if dtype == torch.float32 or "1" in name or "bi" in name else 1e-7
    assert value == pytest.approx(expected, rel=tolerance)
    assert torch.allclose(gradient.double(), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("p", [0.5, 1e-2, 1e-4, 1e-6, 1e-8, 1e-12])
@pytest.mark.parametrize("name", ["probability", "rce", "focal"])
def test_a_photo_that_is_far_off_keeps_every_digit_of_its_gradient(name: str, p: float) -> None:
    """The losses of 1 - p_y have gradients of the size of p_y, which float32 loses beside 1."""
    rce = (SymmetricConfig(alpha=0), lambda z, y: 0.7 * math.log(1e4) * (1 - probability(z, y)))
    config, naive = NAIVE.get(name, rce)
    labels = torch.tensor([0, 1, 2, 0])
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    others = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1, keepdim=True)
    logits.scatter_(1, labels[:, None], others + math.log(p / (1 - p)))
    value, gradient = value_and_gradient(make_loss(config, class_counts=COUNTS), logits, labels)
    expected, exact = value_and_gradient(naive, logits.double(), labels)
    assert value == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", NAIVE)
def test_the_logits_stay_as_they_are_and_a_second_backward_pass_is_refused(name: str) -> None:
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(2)).requires_grad_()
    before = logits.detach().clone()
    loss = make_loss(NAIVE[name][0], class_counts=COUNTS)(logits, torch.tensor([0, 1, 2, 3, 4, 0]))
    loss.backward(retain_graph=True)
    assert torch.equal(logits, before)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_buffer_of_the_forward_pass_becomes_the_gradient() -> None:
    logits = torch.randn(6, 5).requires_grad_()
    log_p = log_probability(logits, torch.tensor([0, 1, 2, 3, 4, 0]))
    address = log_p.grad_fn.saved_tensors[0].data_ptr()
    log_p.sum().backward()
    assert logits.grad.data_ptr() == address


@pytest.mark.parametrize("name", NAIVE)
def test_far_logits_give_finite_losses_and_gradients(name: str) -> None:
    loss = make_loss(NAIVE[name][0], class_counts=COUNTS[:2] if "prec" in name else COUNTS)
    right = torch.tensor([[1e4, -1e4, 0, 0, 0], [-1e4, 1e4, 0, 0, 0], [200, 0, 0, 0, 0]])
    for labels in ([0, 1, 0], [1, 0, 2], [2, 3, 1]):
        value, gradient = value_and_gradient(loss, right, torch.tensor(labels))
        assert math.isfinite(value)
        assert gradient.isfinite().all()


def test_cross_entropy_of_far_logits_is_their_distance() -> None:
    loss = make_loss(CrossEntropyConfig(), class_counts=torch.tensor([1, 1]))
    value, gradient = value_and_gradient(loss, torch.tensor([[1e4, -1e4]]), torch.tensor([1]))
    assert value == 2e4
    assert gradient.tolist() == [[1, -1]]


def test_log_p_is_exact_on_both_sides_of_the_smallest_float() -> None:
    distances = torch.tensor([0.0, 1.0, 40.0, 80.0, 87.0, 87.4, 88.0, 95.0, 104.0, 300.0])
    logits = torch.zeros(len(distances), 7)
    logits[:, 2] = distances
    labels = torch.zeros(len(distances), dtype=torch.int64)
    expected = logits.double().log_softmax(dim=1)[:, 0]
    log_p = log_probability(logits, labels)
    for_a_gpu = log_p_beside_largest(logits, logits.softmax(dim=1), labels[:, None]).squeeze(1)
    assert torch.allclose(log_p.double(), expected, rtol=1e-6)
    assert torch.allclose(for_a_gpu.double(), expected, rtol=1e-6)


@pytest.mark.parametrize("t2", [1.0, 1.2, 3.0])
def test_the_tempered_softmax_sums_to_one_over_very_many_classes(t2: float) -> None:
    logits = torch.randn(3, 50_030, generator=torch.Generator().manual_seed(3)) * torch.tensor(
        [[0], [3], [500]]
    )
    p = tempered_log_softmax(logits, t=t2, num_iterations=20).double().exp()
    assert (p.sum(1) - 1).abs().max() < 1e-5


def test_a_high_temperature_keeps_a_gradient_over_very_many_classes() -> None:
    loss = make_loss(BiTemperedConfig(t2=7.3), class_counts=torch.ones(50_030, dtype=torch.int64))
    _, gradient = value_and_gradient(loss, torch.zeros(1, 50_030), torch.tensor([0]))
    assert gradient.isfinite().all()
    assert gradient[0, 0] < 0


@pytest.mark.parametrize("name", ["balanced softmax", "bi-tempered, smoothed"])
def test_a_batch_in_pieces_has_the_gradient_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    loss = make_loss(NAIVE[name][0], class_counts=COUNTS)
    value, gradient = value_and_gradient(loss, logits, labels)
    monkeypatch.setattr("training.row_slices._CPU_ELEMENTS", 10)  # two rows at a time
    pieces_value, pieces_gradient = value_and_gradient(loss, logits, labels)
    assert pieces_value == pytest.approx(value, rel=1e-6)
    assert torch.allclose(pieces_gradient, gradient, atol=1e-7)


@pytest.mark.parametrize("kind", ["inverse", "effective_number"])
def test_a_class_without_photos_weighs_nothing_and_does_not_count(kind: str) -> None:
    config = CrossEntropyConfig(class_weights=kind, effective_beta=0.5)
    weights = make_loss(config, class_counts=torch.tensor([1, 0, 2])).class_weights
    # inverse: 3 / (2 * 1), 3 / (2 * 2); effective: 1 and 2/3, of which the mean is 5/6
    expected = [1.5, 0, 0.75] if kind == "inverse" else [1.2, 0, 0.8]
    assert weights.tolist() == pytest.approx(expected)


def test_effective_numbers_of_large_classes_are_exact() -> None:
    config = CrossEntropyConfig(class_weights="effective_number", effective_beta=0.9999)
    weights = make_loss(config, class_counts=torch.tensor([5, 8000])).class_weights.double()
    expected = (1 - 0.9999**8000) / (1 - 0.9999**5)  # 1101.4
    assert (weights[0] / weights[1]).item() == pytest.approx(expected, rel=1e-6)


def test_a_beta_of_zero_weighs_all_classes_alike() -> None:
    config = CrossEntropyConfig(class_weights="effective_number", effective_beta=0)
    assert make_loss(config, class_counts=torch.tensor([1, 0, 9])).class_weights.tolist() == [1, 0, 1]


@pytest.mark.parametrize("config", [BalancedSoftmaxConfig(), LogitAdjustedConfig(tau=0.5)])
def test_a_class_without_photos_has_no_part_in_the_prior(config: LossConfig) -> None:
    loss = make_loss(config, class_counts=torch.tensor([4, 0, 4]))
    value, gradient = value_and_gradient(loss, torch.tensor([[0.0, 99.0, 0.0]]), torch.tensor([0]))
    assert value == pytest.approx(LN2)
    assert gradient.tolist() == [[-0.5, 0, 0.5]]
    assert loss(torch.zeros(2, 3), torch.tensor([0, 1])).item() == torch.inf


def test_weights_are_not_divided_by_their_sum() -> None:
    loss = make_loss(CrossEntropyConfig(class_weights="inverse"), class_counts=torch.tensor([1, 3]))
    value = loss(torch.zeros(2, 2), torch.tensor([0, 0])).item()  # w = 4 / (2 * 1)
    assert value == pytest.approx(2 * LN2)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (CrossEntropyConfig(smoothing=0.6), r"loss.smoothing: expected at most 0\.5 for 2 classes"),
        (BiTemperedConfig(smoothing=0.6), r"loss.smoothing: expected a number from 0 to 0\.5"),
    ],
)
def test_a_smoothing_that_favours_other_classes_is_refused(config: LossConfig, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_loss(config, class_counts=torch.tensor([1, 1]))


def test_a_temperature_whose_powers_of_the_classes_overflow_is_refused() -> None:
    with pytest.raises(ValueError, match=r"loss.t2: expected a number from 1 to 7\.39"):
        make_loss(BiTemperedConfig(t2=9), class_counts=torch.ones(50_030, dtype=torch.int64))


@pytest.mark.parametrize("name", ["ce", "precision", "bi-tempered"])
def test_logits_below_float32_are_refused(name: str) -> None:
    loss = make_loss(NAIVE[name][0], class_counts=COUNTS)
    with pytest.raises(TypeError, match=r"Expected float32 logits .* received torch\.bfloat16"):
        loss(torch.zeros(2, 5, dtype=torch.bfloat16), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", NAIVE)
def test_a_loss_has_nothing_that_a_checkpoint_would_keep(name: str) -> None:
    loss: nn.Module = make_loss(NAIVE[name][0], class_counts=COUNTS)
    assert loss.state_dict() == {}


def test_two_losses_of_the_same_logits_add_their_gradients() -> None:
    logits = torch.tensor([[LN2, 0.0, 0.0]])
    loss = make_loss(CrossEntropyConfig(), class_counts=torch.tensor([1, 1, 1]))
    _, gradient = value_and_gradient(
        lambda z, _: 0.25 * loss(z, torch.tensor([0])) + 0.75 * loss(z, torch.tensor([1])),
        logits,
        torch.tensor([0]),
    )
    assert gradient[0].tolist() == pytest.approx([0.5 - 0.25, 0.25 - 0.75, 0.25])
