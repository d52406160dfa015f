"""Two processes on this machine's CPU that share each batch (gloo): the same phase as one process alone."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from catalog.ingest.preparation import prepare_photo
from tests.training.conftest import MakeJob, broken_photo, draw_photo, write_job, write_store
from tests.training.test_job import OUTS, digests
from training.config.optimizers import SgdConfig
from training.config.samplers import SamplerConfig
from training.job import run_job
from training.launch import launch_job
from training.progress import EpochMetrics
from training.signals import Preempted
from training.trainer import TrainingError

PHASE: dict[str, Any] = {
    "num_photos": 21,
    "num_val": 7,
    "epochs": 12,
    "backbone": "test_convnext",  # no batch norm: a CPU's would see half a batch
    "sampler": SamplerConfig(name="progressive", positives=1),
    "optimizer": SgdConfig(lr=0.003),
    "ema_decay": 0.5,
    "keep_weights": "best",
    "clip_norm": 5.0,
    "coarse_weight": 0.5,
    "coarse_names": ("fruit", "nut", None, None),  # as many with a coarse class as chance gives a process
    "checkpoint_steps": 2,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpochMetrics]]:
    """The folder of a phase that two processes ran without interruption, and the epochs it reported."""
    job_dir = write_job(tmp_path_factory.mktemp("two") / "job", **PHASE, num_processes=2)
    seen: list[EpochMetrics] = []
    assert launch_job(job_dir, num_processes=2, on_epoch=seen.append).history == seen
    return job_dir, seen


def test_two_processes_learn_what_one_does(
    finished: tuple[Path, list[EpochMetrics]], make_job: MakeJob
) -> None:
    two, seen = finished
    one = make_job(**PHASE)
    history = run_job(one).history
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert [m.to_dict() for m in seen] == [pytest.approx(m.to_dict(), rel=1e-3) for m in history]
    first, second = (pq.read_table(folder / "loss_log.parquet").to_pydict() for folder in (one, two))
    assert sum(second["num_seen"]) == 2 * 21 * PHASE["epochs"]  # a positive beside each photo
    assert first["num_seen"] == second["num_seen"]
    assert first["mean_loss"] == pytest.approx(second["mean_loss"], rel=1e-3)
    weights = [load_file(folder / "bundle/weights.safetensors") for folder in (one, two)]
    assert all(torch.allclose(t, weights[1][name], atol=1e-5) for name, t in weights[0].items())


def test_two_processes_that_are_stopped_go_on_bit_for_bit(
    finished: tuple[Path, list[EpochMetrics]], make_job: MakeJob
) -> None:
    job_dir = make_job(**PHASE, num_processes=2)
    thread = threading.Thread(target=_stop_after, args=(job_dir / "checkpoint", 2))
    thread.start()
    with pytest.raises(Preempted, match=r"checkpoint at step \d+ written") as caught:
        launch_job(job_dir, num_processes=2)
    thread.join()
    (checkpoint,) = (job_dir / "checkpoint").iterdir()
    assert checkpoint.name == f"step-{caught.value.step:09d}"
    launch_job(job_dir, num_processes=2)
    assert digests(job_dir) == digests(finished[0])


def _stop_after(checkpoint_dir: Path, step: int) -> None:
    while not any(int(path.name.removeprefix("step-")) >= step for path in checkpoint_dir.glob("step-*")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_photo_that_one_process_cannot_read_ends_both_with_one_sentence(
    make_job: MakeJob, capfd: pytest.CaptureFixture[str]
) -> None:
    job_dir = make_job(**PHASE, num_processes=2)
    shutil.rmtree(job_dir / "photos")
    (job_dir / "photos").mkdir()
    photos = [prepare_photo(f"shelf/{number}.jpg", draw_photo(number)) for number in range(28)]
    write_store(job_dir / "photos", [*photos[:5], broken_photo("shelf/5.jpg"), *photos[6:]])
    with pytest.raises(TrainingError, match=r"^Photo 'shelf/5\.jpg' of list\.parquet cannot be read"):
        launch_job(job_dir, num_processes=2)
    assert "Traceback" not in capfd.readouterr().err
    assert not any((job_dir / name).exists() for name in OUTS[:3])


def test_one_process_refuses_a_phase_of_two(make_job: MakeJob) -> None:
    with pytest.raises(ValueError, match=r"num_processes: expected 2 processes, received 1\. Start torchrun"):
        run_job(make_job(num_processes=2))
