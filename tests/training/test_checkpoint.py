"""Checkpoints: whole or absent, resumed only where the bits would be the same."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import Tensor

from imaging.atomic_write import DiskFullError
from recognition.backbones import make_model
from tests.training.conftest import TINY_PHASE
from training.checkpoint import Checkpoints
from training.classification import make_classification
from training.config.optimizers import OptimizerConfig, RangerConfig, SgdConfig
from training.learner import Learner
from training.loss_log import LossLog
from training.objectives.objective import Batch
from training.objectives.plain import PlainObjective
from training.optimizers import make_optimizer

IDENTITY = {"fingerprint": "f00d", "num_threads": "2"}


def make_learner(*, seed: int, steps: int, optimizer: OptimizerConfig = SgdConfig(lr=0.01)) -> Learner:  # noqa: B008
    """A channels-last model, an objective with a head of its own and an average, after some steps."""
    model = make_model("test_resnet", num_classes=3, initial_weights="random", seed=seed)
    model.to(memory_format=torch.channels_last)
    classification = make_classification(
        TINY_PHASE.replace(coarse_weight=0.5),
        class_counts=torch.ones(3, dtype=torch.int64),
        coarse_names=("fruit", "fruit", "nut"),
        num_features=model.head.in_features,
        seed=seed,
    )
    objective = PlainObjective(classification)
    learner = Learner(
        model=model,
        objective=objective,
        optimizer=make_optimizer(model, objective, config=optimizer, lr_multipliers={}),
        ema=ModelEmaV3(model, decay=0.9),
        loss_log=LossLog(5),
    )
    for step in range(steps):
        train_step(learner, step)
    return learner


def train_step(learner: Learner, step: int) -> None:
    photos = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
    labels = torch.tensor([0, 1, 2, 1])
    batch = Batch(
        photos=photos.contiguous(memory_format=torch.channels_last),
        labels=labels,
        positions=labels,
        num_anchors=4,
        step=step,
        progress=0.0,
    )
    learner.objective(learner.model, batch)["loss"].backward()
    assert learner.optimizer is not None
    assert learner.ema is not None
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    learner.ema.update(learner.model)
    learner.loss_log.record(torch.full((5, 5), float(step)), positions=torch.arange(5))


def everything(learner: Learner) -> dict[str, Tensor]:
    assert learner.ema is not None
    states = [learner.model.state_dict(), learner.objective.state_dict(), learner.ema.module.state_dict()]
    states.append(learner.loss_log.state())
    return {f"{number}.{name}": t for number, state in enumerate(states) for name, t in state.items()}


@pytest.mark.parametrize("optimizer", [SgdConfig(lr=0.01), RangerConfig(lr=0.01)])
def test_a_restored_learner_goes_on_bit_for_bit(tmp_path: Path, optimizer: OptimizerConfig) -> None:
    first = make_learner(seed=1, steps=4, optimizer=optimizer)
    checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
    checkpoints.save(first, step=4, progress={"loss_sum": 0.1})
    second = make_learner(seed=2, steps=0, optimizer=optimizer)
    assert checkpoints.restore(second) == (4, {"loss_sum": 0.1})
    for step in range(4, 7):  # over Lookahead's sixth step
        train_step(first, step)
        train_step(second, step)
    left, right = everything(first), everything(second)
    assert any("coarse" in name for name in left)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_checkpoint_is_one_tensor_file_and_one_json_and_only_the_newest_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint", identity=IDENTITY)
    learner = make_learner(seed=1, steps=1)
    checkpoints.save(learner, step=1, progress={})
    checkpoints.save(learner, step=2, progress={})
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    folder = "checkpoint/step-000000002"
    assert files == [f"{folder}/state.json", f"{folder}/state.safetensors"]
    checkpoints.remove()
    assert not (tmp_path / "checkpoint").exists()


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        learner = make_learner(seed=1, steps=2)
        Checkpoints(tmp_path / name, identity=IDENTITY).save(learner, step=2, progress={"x": 1})
    for path in (tmp_path / "a").rglob("state.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_another_identity_starts_afresh_after_one_line_that_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    learner = make_learner(seed=1, steps=1)
    Checkpoints(tmp_path, identity=IDENTITY).save(learner, step=1, progress={})
    with caplog.at_level(logging.WARNING):
        assert Checkpoints(tmp_path, identity=IDENTITY | {"num_threads": "4"}).restore(learner) is None
    (line,) = caplog.messages
    assert "its num_threads is '2' and this run's is '4': starting afresh" in line


def test_a_checkpoint_that_was_not_resumed_goes_with_the_next_one_and_so_do_its_best_weights(
    tmp_path: Path,
) -> None:
    learner = make_learner(seed=1, steps=1)
    Checkpoints(tmp_path, identity=IDENTITY).save(learner, step=9, progress={}, best=learner.kept)
    other = Checkpoints(tmp_path, identity=IDENTITY | {"num_threads": "4"})
    assert other.restore(learner) is None
    other.save(learner, step=1, progress={})
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    assert files == ["step-000000001/state.json", "step-000000001/state.safetensors"]


def test_the_best_weights_go_from_checkpoint_to_checkpoint_until_there_are_better_ones(
    tmp_path: Path,
) -> None:
    learner = make_learner(seed=1, steps=1)
    first = Checkpoints(tmp_path, identity=IDENTITY)
    first.save(learner, step=1, progress={}, best=learner.kept)
    best = {name: tensor.clone() for name, tensor in learner.kept.state_dict().items()}
    train_step(learner, 1)
    second = Checkpoints(tmp_path, identity=IDENTITY)
    second.restore(make_learner(seed=2, steps=0))
    second.save(learner, step=2, progress={})
    second.load_best(learner.kept)
    assert all(torch.equal(tensor, best[name]) for name, tensor in learner.kept.state_dict().items())
    train_step(learner, 2)
    second.save(learner, step=3, progress={}, best=learner.model)
    second.load_best(learner.kept)
    left, right = learner.kept.state_dict(), learner.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_half_written_checkpoint_is_passed_over_for_the_last_good_one(tmp_path: Path) -> None:
    learner = make_learner(seed=1, steps=1)
    checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
    checkpoints.save(learner, step=1, progress={})
    (tmp_path / "half-written").mkdir()
    (tmp_path / "half-written" / "state.json").write_text('{"step": 2')
    assert checkpoints.restore(learner) == (1, {})
    checkpoints.save(learner, step=2, progress={})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000002"]


def test_a_damaged_checkpoint_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learner = make_learner(seed=1, steps=1)
    checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
    checkpoints.save(learner, step=1, progress={})
    tensors = tmp_path / "step-000000001" / "state.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    assert checkpoints.restore(learner) is None
    assert "cannot be read" in caplog.text


def test_a_full_disk_leaves_the_checkpoint_before_and_says_so(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
    checkpoints.save(make_learner(seed=1, steps=1), step=1, progress={})
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # a file of more meets what a full disk is, too
    try:
        with pytest.raises(DiskFullError, match=r"disk is full: .*step-000000002 .* free space there"):
            checkpoints.save(make_learner(seed=1, steps=2), step=2, progress={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
