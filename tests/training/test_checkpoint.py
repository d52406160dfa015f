"""Checkpoints: whole or absent, resumed only where the bits would be the same."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from recognition.backbones import make_model
from training.checkpoint import Checkpoints, Learner
from training.config import OptimizerConfig
from training.loss_log import LossLog
from training.optimizers import make_optimizer

IDENTITY = {"fingerprint": "f00d", "num_threads": "2"}


def make_learner(*, seed: int, steps: int, optimizer: str = "sgd") -> Learner:
    """A channels-last model after some steps on random photos."""
    model = make_model("resnet10t", num_classes=3, initial_weights="random", seed=seed)
    model.to(memory_format=torch.channels_last)
    config = OptimizerConfig(name=optimizer, lr=0.01)
    learner = Learner(model=model, optimizer=make_optimizer(model, config=config), loss_log=LossLog(5))
    for step in range(steps):
        train_step(learner, step)
    return learner


def train_step(learner: Learner, step: int) -> None:
    photos = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
    learner.model(photos.contiguous(memory_format=torch.channels_last)).square().mean().backward()
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    learner.loss_log.record(torch.full((5, 5), float(step)), positions=torch.arange(5))


@pytest.mark.parametrize("optimizer", ["sgd", "ranger"])
def test_a_restored_learner_goes_on_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    first = make_learner(seed=1, steps=4, optimizer=optimizer)
    checkpoints = Checkpoints(tmp_path, identity=IDENTITY)
    checkpoints.save(first, step=4, progress={"loss_sum": 0.1})
    second = make_learner(seed=2, steps=0, optimizer=optimizer)
    assert checkpoints.restore(second) == (4, {"loss_sum": 0.1})
    for step in range(4, 7):  # over Lookahead's sixth step
        train_step(first, step)
        train_step(second, step)
    left, right = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
    logs = first.loss_log.state(), second.loss_log.state()
    assert all(torch.equal(logs[0][name], logs[1][name]) for name in logs[0])


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
    assert list(tmp_path.iterdir()) == []


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
