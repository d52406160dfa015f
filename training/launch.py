"""Several processes for one phase, started from one: what the train stage calls where num_processes > 1.

torchrun starts and watches them; this process passes on their epochs, a stop signal and their one sentence.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from training.job import STEPS_FILE, JobResult, OnEpoch, OnStep
from training.progress import EpochMetrics, StepMetrics
from training.signals import Preempted, StopSignals
from training.trainer import TrainingError

POLL_SECONDS = 0.1
SHUTDOWN_SECONDS = 60
"""How long the processes may take for a step and a checkpoint after a stop signal."""


def launch_job(
    job_dir: Path, *, num_processes: int, on_epoch: OnEpoch | None = None, on_step: OnStep | None = None
) -> JobResult:
    """Do what `run_job` does, in `num_processes` processes of this machine, one a GPU where there are GPUs.

    TrainingError with the sentence of the process that failed; Preempted after a stop signal.
    """
    metrics_path = job_dir / "metrics.jsonl"
    metrics_path.unlink(missing_ok=True)  # an older one's epochs are not this run's
    steps_path = job_dir / STEPS_FILE
    steps_path.unlink(missing_ok=True)
    history: list[EpochMetrics] = []
    num_points = 0

    def report() -> None:
        nonlocal num_points
        points = _read_lines(steps_path)[num_points:]
        num_points += len(points)
        if on_step is not None:
            for point in points:
                on_step(_to_step_metrics(point))
        for metrics in _read_metrics(metrics_path)[len(history) :]:
            history.append(metrics)
            if on_epoch is not None:
                on_epoch(metrics)

    with StopSignals() as stop, _start(job_dir, num_processes=num_processes) as child:
        listener = _Listener(child)
        listener.start()
        while child.poll() is None:
            if stop.received and not listener.was_told:
                listener.was_told = True
                child.send_signal(signal.SIGTERM)  # torchrun passes it on
            report()
            time.sleep(POLL_SECONDS)
        listener.join()
    if child.returncode != 0:
        raise listener.failure()
    report()
    return JobResult(job_dir / "bundle", job_dir / "loss_log.parquet", history)


@contextmanager
def _start(job_dir: Path, *, num_processes: int) -> Iterator[subprocess.Popen[str]]:
    """Start torchrun, and leave no process behind."""
    root = Path(__file__).parents[1]
    environment = {
        "OMP_NUM_THREADS": "1",  # torchrun's own choice, without its warning
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS),
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", str(num_processes), "-m", "training", str(job_dir)]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()


class _Listener(Thread):
    """Passes on what the processes say, up to the sentence that ends them: torchrun's own report is long."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.child = child
        self.sentence = ""
        self.was_told = False
        """That the child was told to stop."""
        self.preempted: Preempted | None = None

    def run(self) -> None:
        """Read until the last process closes its end."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.preempted = self.preempted or Preempted.from_line(line)
            if not self.sentence and line.startswith("error: "):
                self.sentence = line.removeprefix("error: ").strip()
            if not self.sentence and self.preempted is None and not self.was_told:
                sys.stderr.write(line)

    def failure(self) -> Exception:
        """Return what to raise where the processes did not succeed."""
        if self.preempted is not None:
            return self.preempted
        if self.sentence:
            return TrainingError(self.sentence)
        if self.was_told:
            return Preempted(None)
        return TrainingError(f"The training processes ended with code {self.child.returncode}; see above.")


def _read_metrics(path: Path) -> list[EpochMetrics]:
    """Read the epochs there are; the file is rewritten after each."""
    return [_to_metrics(values) for values in _read_lines(path)]


def _read_lines(path: Path) -> list[dict[str, float]]:
    """Read the whole lines there are."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def _to_metrics(values: dict[str, float]) -> EpochMetrics:
    epoch, step = int(values.pop("epoch")), int(values.pop("step"))
    return EpochMetrics(epoch, step, values)


def _to_step_metrics(values: dict[str, float]) -> StepMetrics:
    return StepMetrics(int(values.pop("step")), values)
