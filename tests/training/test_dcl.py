"""Destruction and construction learning: the jigsaws, and the loss against loops over its formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from recognition.backbones import Model, make_model
from tests.training.conftest import TINY_PHASE
from training.classification import make_classification
from training.config.objectives import DclConfig
from training.objectives.dcl import DclObjective, destruct, draw_jigsaws, locations
from training.objectives.factory import make_objective
from training.objectives.objective import Batch

CPU = torch.device("cpu")
NUM_CLASSES = 3
LABELS = torch.tensor([2, 0])


def make_dcl(
    backbone: str = "test_resnet", *, input_size: int = 64, seed: int = 1, **config: float
) -> tuple[Model, DclObjective]:
    """Build a model with random weights and the objective for it, grid 2 unless told otherwise."""
    model = make_model(backbone, num_classes=NUM_CLASSES, initial_weights="random", seed=0)
    settings = {"grid": 2, "neighborhood": 1, **config}
    phase = TINY_PHASE.replace(input_size=input_size, resize=input_size, objective=DclConfig(**settings))
    counts = torch.ones(NUM_CLASSES, dtype=torch.int64)
    classification = make_classification(
        phase, class_counts=counts, coarse_names=(), num_features=model.head.in_features, seed=0
    )
    objective = make_objective(phase, model=model, classification=classification, teacher=None, seed=seed)
    assert isinstance(objective, DclObjective)
    return model, objective


def make_batch(input_size: int = 64) -> Batch:
    """Two photos of noise, from a generator of their own."""
    generator = torch.Generator().manual_seed(3)
    photos = torch.randn(2, 3, input_size, input_size, generator=generator)
    return Batch(
        photos.contiguous(memory_format=torch.channels_last), LABELS, torch.arange(2), 2, step=0, progress=0.0
    )


def draw_by_loops(num_photos: int, grid: int, neighborhood: int) -> list[list[list[int]]]:
    """Follow the paper's sentence: every row sorts its columns by q_i, then every column its rows."""
    jitter = [(2 * torch.rand(num_photos, grid, grid) - 1) * neighborhood for _ in range(2)]
    jigsaws = []
    for by_row, by_column in zip(*jitter, strict=True):
        cells = [[row * grid + column for column in range(grid)] for row in range(grid)]
        for row in range(grid):
            order = sorted(range(grid), key=lambda i, q=by_row[row]: i + q[i].item())
            cells[row] = [cells[row][i] for i in order]
        for column in range(grid):
            order = sorted(range(grid), key=lambda i, q=by_column[column]: i + q[i].item())
            moved = [cells[i][column] for i in order]
            for row in range(grid):
                cells[row][column] = moved[row]
        jigsaws.append(cells)
    return jigsaws


def destruct_by_loops(photos: Tensor, jigsaws: list[list[list[int]]]) -> Tensor:
    """Copy cell by cell."""
    result = torch.empty_like(photos)
    grid, side = len(jigsaws[0]), photos.shape[-1] // len(jigsaws[0])
    for n, cells in enumerate(jigsaws):
        for row, column in [(r, c) for r in range(grid) for c in range(grid)]:
            top, left = (place * side for place in divmod(cells[row][column], grid))
            cell = photos[n, :, top : top + side, left : left + side]
            result[n, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = cell
    return result


def loss_by_loops(model: Model, objective: DclObjective, photos: Tensor) -> Tensor:
    """Sum the three terms in float64, one photo and one cell after the other."""
    config, grid = objective.config, objective.config.grid
    jigsaws = draw_by_loops(len(photos), grid, config.neighborhood)
    maps = model.feature_maps(torch.cat((photos, destruct_by_loops(photos, jigsaws))))
    features = model.pool(maps).double()
    in_place = [[row * grid + column for column in range(grid)] for row in range(grid)]
    naming, adversarial, location = [], [], []
    for n, cells in enumerate([in_place, in_place, *jigsaws]):
        logits = model.head.weight.double() @ features[n] + model.head.bias.double()
        naming.append(logits.exp().sum().log() - logits[LABELS[n % 2]])
        answers = objective.adversary.weight.double() @ features[n] + objective.adversary.bias.double()
        adversarial.append(answers.exp().sum().log() - answers[n // 2])
        kernel, bias = objective.locator.weight.double().flatten(), objective.locator.bias.double()
        for row, column in [(r, c) for r in range(grid) for c in range(grid)]:
            predicted = torch.tanh(kernel @ maps[n, :, row, column].double() + bias)
            location.append((predicted - (cells[row][column] - grid * grid // 2) / grid**2).abs().squeeze())
    return (
        torch.stack(naming).mean()
        + config.adversarial_weight * torch.stack(adversarial).mean()
        + config.location_weight * torch.stack(location).mean()
    )


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return [gradient.double() for gradient in torch.autograd.grad(loss, of)]


def test_a_jigsaw_is_a_permutation_of_each_photos_own() -> None:
    torch.manual_seed(0)
    jigsaws = draw_jigsaws(50, grid=7, neighborhood=2, device=CPU).flatten(1)
    assert torch.equal(jigsaws.sort(dim=1).values, torch.arange(49).expand(50, 49))
    assert len(jigsaws.unique(dim=0)) == 50


@pytest.mark.parametrize("neighborhood", [1, 2, 3])
def test_no_cell_goes_further_than_the_jitter_allows_and_some_go_that_far(neighborhood: int) -> None:
    torch.manual_seed(0)
    jigsaws = draw_jigsaws(3000, grid=7, neighborhood=neighborhood, device=CPU)
    place = torch.arange(7)
    rows = (jigsaws // 7 - place.view(7, 1)).abs()
    columns = (jigsaws % 7 - place).abs()
    assert rows.max() == columns.max() == 2 * neighborhood - 1


def test_jigsaws_follow_the_papers_sentence() -> None:
    torch.manual_seed(5)
    expected = torch.tensor(draw_by_loops(6, 5, 2))
    torch.manual_seed(5)
    assert torch.equal(draw_jigsaws(6, grid=5, neighborhood=2, device=CPU), expected)


def test_cells_lie_where_the_jigsaw_says() -> None:
    photo = torch.arange(16.0).view(1, 1, 4, 4)
    moved = destruct(photo, torch.tensor([[[3, 0], [1, 2]]]))
    expected = [[10, 11, 0, 1], [14, 15, 4, 5], [2, 3, 8, 9], [6, 7, 12, 13]]
    assert moved[0, 0].tolist() == expected


def test_laying_every_cell_back_gives_the_photo() -> None:
    torch.manual_seed(2)
    photos = torch.randn(4, 3, 21, 21).contiguous(memory_format=torch.channels_last)
    jigsaws = draw_jigsaws(4, grid=7, neighborhood=2, device=CPU)
    moved = destruct(photos, jigsaws)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(moved, photos)
    assert torch.equal(destruct(moved, jigsaws.flatten(1).argsort(dim=1).view_as(jigsaws)), photos)


def test_places_are_numbers_around_zero() -> None:
    assert locations(torch.tensor([[[3, 0], [1, 2]]])).tolist() == [[[0.25, -0.5], [-0.25, 0.0]]]
    of_seven = locations(torch.arange(49).view(1, 7, 7)).flatten()
    assert of_seven[[0, 24, 48]].tolist() == pytest.approx([-24 / 49, 0, 24 / 49])


def test_heads_of_zeros_cost_what_a_hand_computes() -> None:
    model, objective = make_dcl(adversarial_weight=0.5, location_weight=3.0)
    for head in (model.head, objective.adversary, objective.locator):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    output = objective(model, make_batch())
    mean_place = (0.5 + 0.25 + 0 + 0.25) / 4
    assert output["loss"].item() == pytest.approx(math.log(3) + 0.5 * math.log(2) + 3 * mean_place, rel=1e-6)


def test_loss_and_gradients_equal_loops_over_the_formula() -> None:
    model, objective = make_dcl(input_size=96, grid=3, adversarial_weight=0.7, location_weight=1.3)
    batch = make_batch(96)
    wanted = (
        batch.photos.requires_grad_(),
        *objective.adversary.parameters(),
        *objective.locator.parameters(),
    )
    torch.manual_seed(9)
    expected = loss_by_loops(model, objective, batch.photos)
    torch.manual_seed(9)
    received = objective(model, batch)["loss"]
    assert received.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(gradients(received, *wanted), gradients(expected, *wanted), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6 * theirs.abs().max().item())


def test_logits_are_those_of_the_photos_as_they_are() -> None:
    model, objective = make_dcl()
    model.eval()
    batch = make_batch()
    assert torch.allclose(objective(model, batch)["logits"], model(batch.photos), atol=1e-6)


@pytest.mark.parametrize(
    ("backbone", "input_size"),
    [("test_resnet", 70), ("test_efficientnet", 70), ("test_convnext", 70), ("test_mambaout", 70)],
)
def test_any_backbone_with_maps_learns_in_all_its_heads(backbone: str, input_size: int) -> None:
    model, objective = make_dcl(backbone, input_size=input_size, grid=7, neighborhood=2)
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
    same, again, other = (make_dcl(seed=seed)[1] for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(same.locator.weight, again.locator.weight)
    assert not torch.equal(same.adversary.weight, other.adversary.weight)


def test_an_input_size_that_does_not_divide_names_its_neighbours() -> None:
    with pytest.raises(ValueError, match=r"input_size.*grid \(7\).*received 100.*98 and 105"):
        make_dcl(input_size=100, grid=7, neighborhood=2)
