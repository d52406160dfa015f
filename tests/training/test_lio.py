"""Look-into-object: extents, polar coordinates, and the loss against loops over its formula."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recognition.backbones import Model, make_model
from tests.training.conftest import TINY_PHASE
from training.classification import make_classification
from training.config.objectives import LioConfig
from training.objectives.factory import make_objective
from training.objectives.lio import LioObjective, coordinate_loss, polar_coordinates, pseudo_masks
from training.objectives.objective import Batch

NUM_CLASSES = 3
LABELS = torch.tensor([2, 0, 2, 0, 2, 0])  # 2 anchors, then each one's first, then second companion


def make_lio(backbone: str = "test_resnet", *, seed: int = 1, **config: float) -> tuple[Model, LioObjective]:
    """Build a model with random weights and the objective for it: 2 positives, grid 3."""
    model = make_model(backbone, num_classes=NUM_CLASSES, initial_weights="random", seed=0)
    phase = TINY_PHASE.replace(objective=LioConfig(**{"positives": 2, "grid": 3, **config}))
    counts = torch.ones(NUM_CLASSES, dtype=torch.int64)
    classification = make_classification(
        phase, class_counts=counts, coarse_names=(), num_features=model.head.in_features, seed=0
    )
    objective = make_objective(phase, model=model, classification=classification, teacher=None, seed=seed)
    assert isinstance(objective, LioObjective)
    return model, objective


def make_batch(input_size: int = 96) -> Batch:
    """Six photos of noise, from a generator of their own."""
    photos = torch.randn(6, 3, input_size, input_size, generator=torch.Generator().manual_seed(3))
    return Batch(photos, LABELS, torch.arange(6), 2, step=0, progress=0.0)


def coordinate_loss_by_loops(distance: Tensor, angle: Tensor, masks: Tensor, grid: int) -> Tensor:
    """Go through the locations of every photo, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for a, mask in enumerate(masks):
        strongest = max(range(grid * grid), key=lambda s, mask=mask: mask[s].item())
        inside = [s for s in range(grid * grid) if mask[s] > mask.sum() / grid**2]
        stretches, gaps = [], []
        for s in inside:
            down, right = (s // grid - strongest // grid, s % grid - strongest % grid)
            stretches.append((distance[a, s] - math.sqrt(down**2 + right**2) / grid) ** 2)
            gap = angle[a, s] - (math.atan2(right, down) / math.pi + 1) / 2
            while gap > 0.5:
                gap = gap - 1
            while gap < -0.5:
                gap = gap + 1
            if s != strongest:
                gaps.append(gap)
        total = total + (sum(stretches) / len(stretches) if stretches else 0)
        total = total + (sum((gap - sum(gaps) / len(gaps)) ** 2 for gap in gaps) / len(gaps) if gaps else 0)
    return total / len(masks)


def loss_by_loops(model: Model, objective: LioObjective, batch: Batch) -> Tensor:
    """Sum the four terms in float64, photo by photo and location by location."""
    maps = model.feature_maps(batch.photos)
    features, cells = model.pool(maps).double(), maps.double().flatten(2)
    channels, places = cells.shape[1:]
    logits = features @ model.head.weight.double().T + model.head.bias.double()
    naming = [row.exp().sum().log() - row[label] for row, label in zip(logits, LABELS, strict=True)]
    masks = torch.zeros(2, places, dtype=torch.float64)
    for a in range(2):
        for s in range(places):
            found = [
                max((cells[a, :, s] @ cells[p, :, t]).item() for t in range(places)) for p in (2 + a, 4 + a)
            ]
            masks[a, s] = sum(found) / 2 / channels
    heads = {name: value.double().squeeze(-1) for name, value in objective.named_parameters()}
    mask_errors, distance, angle = [], [], []
    for a in range(2):
        context = [
            (heads["context.weight"] @ cells[a, :, s] + heads["context.bias"]).clamp(min=0)
            for s in range(places)
        ]
        seen_from = context[int(masks[a].argmax())]
        for s in range(places):
            predicted = (heads["mask.weight"] @ cells[a, :, s] + heads["mask.bias"]).squeeze()
            mask_errors.append((predicted - masks[a, s]) ** 2)
            pair = (
                heads["coordinates.weight"] @ torch.cat((seen_from, context[s])) + heads["coordinates.bias"]
            )
            distance.append(pair[0])
            angle.append(pair[1])
    coordinates = coordinate_loss_by_loops(
        torch.stack(distance).view(2, -1), torch.stack(angle).view(2, -1), masks, objective.config.grid
    )
    return (
        sum(naming[:2]) / 2
        + sum(naming[2:]) / 4
        + objective.config.coordinate_weight * coordinates
        + objective.config.mask_weight * sum(mask_errors) / len(mask_errors)
    )


def test_an_extent_is_the_mean_over_positives_of_the_best_match() -> None:
    anchor = torch.tensor([[[1.0, 2.0, 0.0, -1.0], [0.0, 2.0, 4.0, 1.0]]])
    first = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]])
    second = torch.tensor([[[0.0, 3.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    # best matches with the first positive 1, 2, 4, 1 and with the second 3, 6, 0, 0; 2 channels
    expected = [(1 + 3) / 4, (2 + 6) / 4, (4 + 0) / 4, (1 + 0) / 4]
    assert pseudo_masks(anchor, torch.stack((first, second))).tolist() == [expected]


def test_coordinates_are_polar_and_in_turns() -> None:
    distance, angle = polar_coordinates(torch.tensor([[0], [3]]), grid=2)
    assert distance[0].tolist() == pytest.approx([0, 0.5, 0.5, math.sqrt(0.5)])
    assert angle[0].tolist() == pytest.approx([0.5, 0.75, 0.5, 0.625])
    assert angle[1].tolist() == pytest.approx([0.125, 1.0, 0.25, 0.5])


def test_coordinates_cost_what_a_hand_computes() -> None:
    masks = torch.tensor([[3.0, 3.0, 4.0, 0.0]])  # inside: 0, 1, 2; strongest: 2
    distance = torch.tensor([[0.5, 0.0, 0.1, 9.0]])  # true: 1/2, sqrt(1/2), 0
    angle = torch.tensor([[0.9, 1.175, 7.0, 9.0]])  # true: 1, 7/8, none; gaps -.1, .3, around .1
    expected = (0 + 0.5 + 0.01) / 3 + 0.2**2
    assert coordinate_loss(distance, angle, masks=masks).item() == pytest.approx(expected, rel=1e-5)
    assert coordinate_loss(distance, angle + 2, masks=masks).item() == pytest.approx(expected, rel=1e-5)


def test_an_object_may_lie_at_any_turn() -> None:
    masks = torch.tensor([[2.0, 2.0, 3.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0]])
    distance, angle = polar_coordinates(torch.tensor([[2]]), grid=3)
    assert coordinate_loss(distance, angle + 0.3, masks=masks).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_coordinate_loss_and_gradients_equal_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    distance, angle = (torch.randn(4, 9, generator=generator).requires_grad_() for _ in range(2))
    masks = torch.rand(4, 9, generator=generator)
    received = coordinate_loss(distance, angle, masks=masks)
    expected = coordinate_loss_by_loops(distance.double(), angle.double(), masks.double(), 3)
    assert received.item() == pytest.approx(expected.item(), rel=1e-5)
    for wanted in (distance, angle):
        ours, theirs = (
            torch.autograd.grad(loss, wanted, retain_graph=True)[0] for loss in (received, expected)
        )
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask", [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [float(2**24)] * 4])
def test_an_extent_of_nothing_or_of_one_place_costs_no_angle_and_is_never_nan(mask: list[float]) -> None:
    distance, angle = (torch.full((1, 4), 0.0, requires_grad=True) for _ in range(2))
    loss = coordinate_loss(distance, angle, masks=torch.tensor([mask]))
    loss.backward()
    assert loss.item() == 0
    assert not distance.grad.any()
    assert not angle.grad.any()


def test_loss_and_gradients_equal_loops_over_the_formula() -> None:
    model, objective = make_lio(mask_weight=0.3, coordinate_weight=0.7)
    batch = make_batch()
    wanted = (batch.photos.requires_grad_(), *objective.parameters())
    received, expected = objective(model, batch)["loss"], loss_by_loops(model, objective, batch)
    assert received.item() == pytest.approx(expected.item(), rel=1e-6)
    for parameter in wanted:
        ours, theirs = (
            torch.autograd.grad(loss, parameter, retain_graph=True)[0] for loss in (received, expected)
        )
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_logits_are_those_of_anchors_and_companions_in_their_order() -> None:
    model, objective = make_lio()
    model.eval()
    batch = make_batch()
    assert torch.allclose(objective(model, batch)["logits"], model(batch.photos), atol=1e-6)


def test_black_photos_give_a_finite_loss_and_gradient() -> None:
    model, objective = make_lio(grid=7)
    batch = replace(make_batch(), photos=torch.zeros(6, 3, 96, 96))
    loss = objective(model, batch)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(
        p.grad.isfinite().all() for p in (*objective.parameters(), *model.parameters()) if p.grad is not None
    )


@pytest.mark.parametrize(
    ("backbone", "input_size"),
    [("test_resnet", 64), ("test_efficientnet", 64), ("test_convnext", 64), ("test_mambaout", 64)],
)
def test_any_backbone_with_maps_learns_in_all_its_heads(backbone: str, input_size: int) -> None:
    model, objective = make_lio(backbone, grid=7)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=backbone == "test_resnet"):
        output = objective(model, make_batch(input_size))
    output["loss"].backward()
    assert output["loss"].dtype == output["logits"].dtype == torch.float32
    for parameter in (*objective.parameters(), *model.head.parameters()):
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_heads_depend_on_the_seed_alone_and_leave_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    same, again, other = (make_lio(seed=seed)[1] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(same.context.weight, again.context.weight)
    assert not torch.equal(same.mask.weight, other.mask.weight)
