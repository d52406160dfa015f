"""Distillation: the divergence by its definition, and teachers that see photos as they were trained to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recognition.backbones import Model, make_model
from recognition.bundle import MemberConfig, Merge, make_ensemble, save_member
from recognition.preprocessing import Preprocessing, normalize
from tests.training.conftest import CLASS_NAMES, TINY_PHASE
from training.classification import make_classification
from training.config.objectives import DistillationConfig
from training.objectives.distillation import DistillationObjective, distilled_divergence
from training.objectives.objective import Batch
from training.teacher import Teacher, adapt_photos, load_teacher

STUDENT = Preprocessing(input_size=32, resize=32)
OTHER = Preprocessing(input_size=48, resize=48, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))


def save_teacher(
    folder: Path, *, seed: int, preprocessing: Preprocessing = STUDENT, normalize_features: bool = False
) -> Model:
    model = make_model("test_resnet", num_classes=4, initial_weights="random", seed=seed).eval()
    model.normalize_features = normalize_features
    torch.nn.init.normal_(model.head.weight, std=3.0)
    config = MemberConfig(
        name=folder.name,
        backbone="test_resnet",
        num_classes=4,
        num_features=model.head.in_features,
        class_names=CLASS_NAMES,
        preprocessing=preprocessing,
        initial_weights="random",
        fingerprint="f00d",
        normalize_features=normalize_features,
    )
    save_member(folder, model=model, config=config)
    return model


def load_tiny(folder: Path, *, class_names: tuple[str, ...] = CLASS_NAMES) -> Teacher:
    return load_teacher(folder, device="cpu", dtype=torch.float32, student=STUDENT, class_names=class_names)


def make_photos(size: int = 3) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(size, 3, 32, 32)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_and_gradient_equal_the_definition_in_float64(temperature: float) -> None:
    torch.manual_seed(0)
    logits, taught = (5 * torch.randn(9, 40_000) for _ in range(2))  # more than one slice of rows
    logits.requires_grad_()
    value = distilled_divergence(logits, taught, temperature=temperature)
    (2 * value).backward()
    leaf = logits.detach().double().requires_grad_()
    p, q = (taught.double() / temperature).softmax(dim=1), (leaf / temperature).softmax(dim=1)
    expected = (p * (p / q).log()).sum(dim=1).mean()
    (2 * expected).backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.double(), leaf.grad, rtol=1e-4, atol=1e-8)


def test_divergence_of_two_classes_by_hand() -> None:
    taught, logits = torch.tensor([[0.0, 0.0]]), torch.tensor([[torch.log(torch.tensor(3.0)), 0.0]])
    value = distilled_divergence(logits, taught, temperature=1.0)  # p = (1/2, 1/2), q = (3/4, 1/4)
    assert value.item() == pytest.approx(0.5 * torch.log(torch.tensor(4 / 3)).item(), abs=1e-6)
    assert distilled_divergence(taught, taught, temperature=2.0).item() == 0


def test_a_certain_teacher_gives_no_nan() -> None:
    logits = torch.tensor([[0.0, 50.0, -1e4]], requires_grad=True)
    value = distilled_divergence(logits, torch.tensor([[1e4, 0.0, -1e4]]), temperature=1.0)
    value.backward()
    assert value.item() == pytest.approx(50.0)
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0, 0.0]]))


def test_a_second_backward_raises_instead_of_giving_other_numbers() -> None:
    value = distilled_divergence(torch.ones(1, 3, requires_grad=True), torch.eye(1, 3), temperature=1.0)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_the_objective_weighs_divergence_and_loss_and_trains_the_student_alone(tmp_path: Path) -> None:
    taught_by = save_teacher(tmp_path / "teacher", seed=7)
    student = make_model("test_resnet", num_classes=4, initial_weights="random", seed=1).eval()
    config = DistillationConfig(temperature=2.0, weight=0.25)
    phase = TINY_PHASE.replace(objective=config)
    classification = make_classification(
        phase, class_counts=torch.ones(4).long(), coarse_names=(), num_features=1, seed=0
    )
    objective = DistillationObjective(config, classification, load_tiny(tmp_path / "teacher"))
    photos, labels = make_photos(), torch.tensor([0, 1, 3])
    batch = Batch(photos=photos, labels=labels, positions=labels, num_anchors=3, step=0, progress=0.0)
    output = objective(student, batch)
    log_q, log_p = ((model(photos) / 2).log_softmax(dim=1) for model in (student, taught_by))
    divergence = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    expected = 0.25 * 4 * divergence + 0.75 * F.cross_entropy(student(photos), labels)
    torch.testing.assert_close(output["loss"], expected)
    assert output["logits"] is not None
    torch.testing.assert_close(output["logits"], student(photos))
    assert not list(objective.parameters())
    assert not objective.state_dict()


@pytest.mark.parametrize("normalize_features", [False, True])
def test_a_members_teacher_answers_as_its_model(tmp_path: Path, normalize_features: bool) -> None:
    model = save_teacher(tmp_path / "one", seed=1, normalize_features=normalize_features)
    answer = load_tiny(tmp_path / "one")(make_photos())
    assert not answer.requires_grad
    torch.testing.assert_close(answer, model(make_photos()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merge", ["logits", "probabilities", "vote"])
def test_an_ensemble_teaches_what_it_answers(tmp_path: Path, merge: Merge) -> None:
    models = [save_teacher(tmp_path / name, seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    members = {name: tmp_path / name for name in ("one", "two", "three")}
    make_ensemble(tmp_path / "all", members=members, recipe="r", merge=merge, views=("center",))
    logits = torch.stack([model(make_photos()) for model in models]).detach()
    expected = logits.mean(dim=0) if merge == "logits" else logits.softmax(dim=2).mean(dim=0).log()
    torch.testing.assert_close(load_tiny(tmp_path / "all")(make_photos()), expected, rtol=1e-4, atol=1e-4)


def test_photos_are_normalised_anew_for_the_teacher() -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    same_size = replace(OTHER, input_size=32)
    adapted = adapt_photos(normalize(pixels, STUDENT), of=STUDENT, to=same_size)
    torch.testing.assert_close(adapted, normalize(pixels, same_size), rtol=1e-5, atol=1e-5)


def test_photos_are_resized_to_what_the_teacher_sees(tmp_path: Path) -> None:
    model = save_teacher(tmp_path / "large", seed=1, preprocessing=OTHER)
    grey = torch.full((1, 3, 32, 32), 51, dtype=torch.uint8)
    seen = normalize(torch.full((1, 3, 48, 48), 51, dtype=torch.uint8), OTHER)
    answer = load_tiny(tmp_path / "large")(normalize(grey, STUDENT))
    torch.testing.assert_close(answer, model(seen), rtol=1e-3, atol=1e-3)


def test_a_teacher_of_other_classes_is_refused_by_the_first_difference(tmp_path: Path) -> None:
    save_teacher(tmp_path / "one", seed=1)
    with pytest.raises(ValueError, match="'pear' as class 1 instead of 'kiwi'"):
        load_tiny(tmp_path / "one", class_names=("apple", "kiwi", "plum", "lime"))
    with pytest.raises(ValueError, match="5 classes in their order, received 4"):
        load_tiny(tmp_path / "one", class_names=(*CLASS_NAMES, "lime"))
