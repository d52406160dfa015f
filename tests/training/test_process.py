"""A real process on a bare node: no pipeline libraries, stopped and killed half way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.conftest import MakeJob
from tests.training.test_job import EVERYTHING, digests
from training.job import run_job

REPOSITORY = Path(__file__).parents[2]
ABSENT = ("polars", "mlflow", "dvc", "fastapi")
BLOCKER = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


@pytest.fixture
def bare_node(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the pipeline's libraries cannot be imported."""
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / "sitecustomize.py").write_text(BLOCKER)
    return os.environ | {"PYTHONPATH": f"{tmp_path / 'blocker'}:{REPOSITORY}", "HF_HUB_OFFLINE": "1"}


def start(job_dir: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training", str(job_dir)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_step(process: subprocess.Popen[str], checkpoint_dir: Path, step: int) -> None:
    deadline = time.monotonic() + 60
    while not any(int(p.name.removeprefix("step-")) >= step for p in checkpoint_dir.glob("step-*")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_pipelines_libraries_are_out_of_reach_of_a_bare_node(bare_node: dict[str, str]) -> None:
    for name in ABSENT:
        tried = subprocess.run(
            [sys.executable, "-c", f"import {name}"], env=bare_node, capture_output=True, text=True
        )
        assert f"No module named '{name}'" in tried.stderr


def test_a_mistyped_key_of_a_job_is_refused_on_a_bare_node(
    make_job: MakeJob, bare_node: dict[str, str]
) -> None:
    job = make_job() / "job.json"
    job.write_text(job.read_text().replace('"momentum"', '"momentun"'))
    process = start(job.parent, bare_node)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "job.json: phase.optimizer.momentun: no such key; did you mean 'momentum'?" in said


def test_a_phase_stopped_and_killed_half_way_on_a_bare_node_ends_with_the_same_bits(
    make_job: MakeJob, bare_node: dict[str, str]
) -> None:
    options = EVERYTHING | {"epochs": 8, "checkpoint_steps": 4, "num_workers": 1}  # 3 steps an epoch
    whole, cut = make_job("whole", **options), make_job("cut", **options)
    process = start(cut, bare_node)
    wait_for_step(process, cut / "checkpoint", 4)
    os.killpg(process.pid, signal.SIGTERM)  # as Slurm does: the loader process gets it, too
    _, log = process.communicate(timeout=60)
    assert process.returncode == 75, log
    stopped = re.search(r"checkpoint at step (\d+) written; the same command goes on", log)
    assert stopped
    process = start(cut, bare_node)
    wait_for_step(process, cut / "checkpoint", int(stopped[1]) + 4)
    os.killpg(process.pid, signal.SIGKILL)
    _, log = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert f"Resumed after step {stopped[1]} from" in log
    assert not (cut / "bundle").exists()
    resumed = start(cut, bare_node)
    _, log = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, log
    assert "Resumed after step" in log
    run_job(whole)
    assert digests(cut) == digests(whole)
