"""What the loop decides: parts of a batch, which weights are kept, when to stop, what is logged."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from recognition.backbones import Model
from recognition.bundle import load_member
from tests.training.conftest import MakeJob, write_list
from tests.training.test_job import EVERYTHING, digests, interrupt_after
from training.config.heads import NearestMeanConfig, NormalizedConfig, TauNormalizedConfig
from training.config.optimizers import SgdConfig
from training.config.schedules import ConstantConfig, ManualConfig, PlateauConfig
from training.job import JobResult, run_job
from training.progress import EpochMetrics
from training.signals import Preempted
from training.trainer import TrainingError

WRECKED_AT_THE_END: dict[str, Any] = {
    "num_photos": 16,
    "num_val": 8,
    "epochs": 4,
    "schedule": ManualConfig(shares=((2, 1e4),)),
    "optimizer": SgdConfig(lr=0.01),
}


def weights(result: JobResult) -> dict[str, np.ndarray]:
    state = load_file(result.bundle_dir / "weights.safetensors")
    return {name: t.numpy() for name, t in state.items() if "running" not in name and "num_" not in name}


def largest_difference(first: JobResult, second: JobResult) -> float:
    """Of all parameters; batch norm's statistics move also where nothing is learnt."""
    left, right = weights(first), weights(second)
    return max(float(np.abs(left[name] - right[name]).max()) for name in left)


def errors(result: JobResult) -> list[float]:
    return [metrics.values["val/mean_top1_error"] for metrics in result.history]


def val_losses(result: JobResult) -> list[float]:
    return [metrics.values["val/loss"] for metrics in result.history]


def test_parts_of_a_batch_add_up_to_the_whole_batch(make_job: MakeJob) -> None:
    options = {"num_photos": 23, "backbone": "test_convnext", "optimizer": SgdConfig(lr=0.01)}
    whole = run_job(make_job("whole", **options))
    parts = run_job(make_job("parts", **options, accumulation=3))
    assert 0 < largest_difference(whole, parts) < 1e-6
    assert [m.values["train/loss"] for m in parts.history] == pytest.approx(
        [m.values["train/loss"] for m in whole.history], rel=1e-5
    )


def test_a_short_gradient_limit_shortens_the_first_step(make_job: MakeJob) -> None:
    options = {"num_photos": 8, "epochs": 1, "num_val": 0, "optimizer": SgdConfig(lr=1.0, weight_decay=0)}
    start = run_job(make_job("still", **options | {"optimizer": SgdConfig(lr=1e-12, weight_decay=0)}))
    moved = run_job(make_job("moved", **options, clip_norm=1e-3))
    squares = sum(
        float(np.square(array - weights(start)[name]).sum()) for name, array in weights(moved).items()
    )
    assert math.sqrt(squares) == pytest.approx(1e-3, rel=1e-2)


def test_the_average_is_validated_and_kept(make_job: MakeJob) -> None:
    options = {"num_photos": 8, "num_val": 8, "epochs": 3}
    plain = run_job(make_job("plain", **options))
    follows = run_job(make_job("follows", **options, ema_decay=0.0))
    assert largest_difference(plain, follows) == 0
    assert errors(plain) == errors(follows)
    rests = run_job(make_job("rests", **options, ema_decay=0.999999))
    still = run_job(make_job("still", **options | {"optimizer": SgdConfig(lr=1e-12)}))
    assert [m.values["train/loss"] for m in rests.history] == [m.values["train/loss"] for m in plain.history]
    assert largest_difference(rests, still) < 1e-4 < largest_difference(rests, plain)
    assert val_losses(rests) == pytest.approx([val_losses(rests)[0]] * 3, rel=1e-3)
    assert val_losses(plain) != pytest.approx([val_losses(plain)[0]] * 3, rel=1e-3)


def test_looking_at_validation_and_list_changes_no_step(make_job: MakeJob) -> None:
    seen = run_job(make_job("seen", drop_rate=0.3, loss_log="eval"))
    unseen = run_job(make_job("unseen", drop_rate=0.3, num_val=0))
    for key in ("train/loss", "train/top1_error"):
        assert [m.values[key] for m in seen.history] == [m.values[key] for m in unseen.history]


def test_the_best_epochs_weights_are_kept_also_over_interruptions(make_job: MakeJob) -> None:
    job_dir = make_job("best", **WRECKED_AT_THE_END, keep_weights="best")
    for epoch in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            run_job(job_dir, on_epoch=interrupt_after(epoch))
    result = run_job(job_dir)
    best = errors(result).index(min(errors(result))) + 1
    assert best < 4
    alone = run_job(
        make_job(
            "alone", **WRECKED_AT_THE_END | {"epochs": best, "schedule": ManualConfig(shares=((2, 1.0),))}
        )
    )
    assert largest_difference(result, alone) == 0
    assert errors(alone) == errors(result)[:best]


def test_a_phase_stops_where_validation_does_not_improve(make_job: MakeJob) -> None:
    whole = errors(run_job(make_job("whole", **WRECKED_AT_THE_END)))
    stopped = errors(run_job(make_job("stopped", **WRECKED_AT_THE_END, early_stop_epochs=1)))
    first_worse = next(i for i in range(1, 4) if whole[i] >= min(whole[:i]))
    assert stopped == whole[: first_worse + 1]


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("keep_weights: best", {"keep_weights": "best"}),
        ("early_stop_epochs", {"early_stop_epochs": 1}),
        ("schedule plateau", {"schedule": PlateauConfig()}),
    ],
)
def test_what_goes_by_validation_is_refused_without_validation_photos(
    make_job: MakeJob, key: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"val\.parquet has no photos: {key} goes by the error"):
        run_job(make_job(num_val=0, **options))


def test_a_plateau_lowers_the_rate_after_validation(make_job: MakeJob) -> None:
    plateau = PlateauConfig(patience=0, min_improvement=2.0)
    history = run_job(make_job(epochs=3, schedule=plateau)).history
    assert [m.values["train/lr"] for m in history] == pytest.approx([0.05, 0.05, 0.005])


def test_an_eval_loss_log_sees_each_photo_as_validation_does(make_job: MakeJob) -> None:
    job_dir = make_job(num_photos=11, epochs=2, loss_log="eval", batch_size=4)
    write_list(job_dir / "val.parquet", {f"shelf/{i}.jpg": i % 4 for i in range(11)})
    result = run_job(job_dir)
    table = pq.read_table(result.loss_log_path)
    assert table["num_seen"].to_pylist() == [2] * 11
    mean = sum(m.values["val/loss"] for m in result.history) / 2
    assert np.mean(table["mean_loss"].to_pylist()) == pytest.approx(mean, rel=1e-5)
    assert result.history[0].values["train/loss"] != pytest.approx(result.history[0].values["val/loss"])


def test_without_a_loss_log_no_photo_was_seen_but_the_error_is_known(make_job: MakeJob) -> None:
    logged, silent = run_job(make_job("logged")), run_job(make_job("silent", loss_log="none"))
    table = pq.read_table(silent.loss_log_path)
    assert table["num_seen"].to_pylist() == [0] * 16
    assert table["mean_loss"].null_count == 16
    assert silent.history == logged.history


def test_a_head_that_is_computed_needs_no_epoch(make_job: MakeJob) -> None:
    first = run_job(make_job("first", num_val=8, epochs=6))
    options = {"num_val": 8, "epochs": 0}
    for head in (TauNormalizedConfig(), NearestMeanConfig()):
        job_dir = make_job(head.name, **options, head=head)
        first.bundle_dir.rename(job_dir / "init")
        seen: list[EpochMetrics] = []
        result = run_job(job_dir, on_epoch=seen.append)
        (job_dir / "init").rename(first.bundle_dir)
        assert [(m.epoch, m.step, next(iter(m.values))) for m in seen] == [(0, 0, "val/mean_top1_error")]
        assert json.loads((job_dir / "metrics.jsonl").read_text())["epoch"] == 0
        assert pq.read_table(result.loss_log_path)["num_seen"].to_pylist() == [0] * 16
        assert result.history[0].values["val/mean_top1_error"] < 0.5
        model, config = load_member(result.bundle_dir)
        lengths = model.head.weight.norm(dim=1).tolist()
        expected = [1.0] * 4 if head.name == "tau_normalized" else [head.scale] * 4
        assert lengths == pytest.approx(expected, rel=1e-5)
        assert config.normalize_features == (head.name == "nearest_mean")


def test_a_training_head_leaves_a_linear_one_that_answers_alike(make_job: MakeJob) -> None:
    result = run_job(make_job(num_val=8, epochs=6, head=NormalizedConfig()))
    model, config = load_member(result.bundle_dir)
    assert config.normalize_features
    assert type(model.head).__name__ == "Linear"
    again = make_job("again", num_val=8, epochs=0, head=TauNormalizedConfig(tau=0.0))
    result.bundle_dir.rename(again / "init")
    assert run_job(again).history[0].values["val/loss"] == pytest.approx(
        result.history[-1].values["val/loss"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("checkpoint_steps", "what", "step"),
    [(0, "The loss became (?:nan|inf)", 2), (1, "The weights became infinite or nan", 1)],
)
def test_what_is_not_finite_is_written_down_with_every_photo_and_never_kept(
    make_job: MakeJob, checkpoint_steps: int, what: str, step: int
) -> None:
    job_dir = make_job(
        num_photos=24,
        batch_size=12,
        optimizer=SgdConfig(lr=1e30),
        schedule=ConstantConfig(),
        checkpoint_steps=checkpoint_steps,
    )
    with pytest.raises(
        TrainingError, match=rf"^{what} in epoch 1, step {step}, .* and 2 more \(not_finite"
    ) as e:
        run_job(job_dir)
    report = json.loads((job_dir / "not_finite.json").read_text())
    assert (report["epoch"], report["step"], len(set(report["photo_ids"]))) == (1, step, 12)
    assert all(photo_id in report["photo_ids"] for photo_id in re.findall(r"shelf/\d+\.jpg", str(e.value)))
    assert not (job_dir / "checkpoint").exists()


@pytest.mark.parametrize(("num_photos", "step"), [(21, 4), (8, 2)])  # within an epoch, and at the end of one
def test_a_stop_signal_ends_after_the_step_and_the_same_command_goes_on(
    make_job: MakeJob, num_photos: int, step: int
) -> None:
    options = EVERYTHING | {"num_photos": num_photos, "epochs": 3, "checkpoint_steps": 0}
    whole, stopped = make_job("whole", **options), make_job("stopped", **options)
    run_job(whole)

    def stop(metrics: EpochMetrics) -> None:
        if metrics.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match=f"^checkpoint at step {step} written; the same command goes on$"):
        run_job(stopped, on_epoch=stop)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (stopped / "checkpoint").iterdir()] == [f"step-00000000{step}"]
    run_job(stopped)
    assert digests(stopped) == digests(whole)


@pytest.mark.parametrize("nth_batch", [2, 5])  # while it validates, and while it fills the loss log
def test_a_stop_signal_ends_a_validation_which_is_begun_anew(make_job: MakeJob, nth_batch: int) -> None:
    options = EVERYTHING | {"num_photos": 21, "num_val": 20, "checkpoint_steps": 0, "loss_log": "eval"}
    whole, stopped = make_job("whole", **options), make_job("stopped", **options)
    run_job(whole)
    num_seen = 0

    def stop(module: nn.Module, inputs: Any) -> None:
        nonlocal num_seen
        if isinstance(module, Model) and not module.training:
            num_seen += 1
            if num_seen == nth_batch:
                os.kill(os.getpid(), signal.SIGTERM)

    handle = register_module_forward_pre_hook(stop)
    try:
        with pytest.raises(Preempted):
            run_job(stopped)
    finally:
        handle.remove()
    assert num_seen == nth_batch
    assert not (stopped / "metrics.jsonl").exists()
    run_job(stopped)
    assert digests(stopped) == digests(whole)
