"""Does a tracking server that is slow, dies or was never there cost training time, or a metric?

    python -m bench.outage

trains one small phase again and again as a stage does, with its run recorded beside it: without tracking,
with a real `mlflow server`, with one that is killed for the middle third of the epochs and started again,
with none, and with one whose every answer takes two seconds (by a proxy). All are in each round, so that a
busy minute slows all; the table has medians over the rounds. Then what is left in the spools is sent, and
each server is asked for the history of each metric.

Exit code 1 where a training took over 2 % more than without tracking, the end of a run took longer than it
may, or a value is missing, double or in another order. Needs a quiet machine with two cores, and 10 minutes.
"""

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.drawn_job import make_drawn_job
from bench.slow_proxy import slow_proxy
from catalog.sources.synthetic import SyntheticConfig
from tracking.project_store import sqlite_uri
from tracking.runs.run_log import start_run, sync
from tracking.store import Store
from training.config import PhaseConfig
from training.job import run_job
from training.trainer import EpochMetrics

MODES = ("no tracking", "healthy", "killed for the middle third", "never started", "answers after 2 s")
LIMIT = 1.02
SECONDS_AT_END = 31.0
"""What `RunLog.end` may wait, and a second."""
SECONDS_TO_START = 120
PHOTOS = SyntheticConfig(
    num_skus=10, photos_head=30, photos_tail=10, photos_val=4, photos_test=0, width=96, height=96
)


def make_phase(*, epochs: int) -> PhaseConfig:
    """A small phase on one core: the other one is the server's."""
    return PhaseConfig(
        backbone="test_resnet",
        input_size=64,
        resize=64,
        epochs=epochs,
        batch_size=16,
        precision="float32",
        num_threads=1,
        num_workers=0,
    )


class Server:
    """`mlflow server` on a SQLite file, that may be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and do not wait until it answers."""
        backend = sqlite_uri(self.folder / "server.db")
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--backend-store-uri", backend]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, start_new_session=True, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).read()
                return
            except OSError:
                time.sleep(0.2)
        raise SystemExit(f"The server does not answer: {(self.folder / 'server.log').read_text()}")

    def kill(self) -> None:
        """End it by SIGKILL, with the processes that it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@dataclass
class Trained:
    """One training: its times in seconds, and what was recorded."""

    training: float
    end: float = 0.0
    recorded: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def train(job_dir: Path, *, store: Store | None, name: str, at_epoch: Callable[[int], None]) -> Trained:
    """Train the job, as the stage `train` does; `at_epoch` is called after each epoch."""
    started = time.perf_counter()
    if store is None:
        run_job(job_dir, on_epoch=lambda metrics: at_epoch(metrics.epoch))
        return Trained(time.perf_counter() - started)
    recorded: dict[str, list[tuple[int, float]]] = {}
    run = start_run(
        store,
        experiment="aisle-bench",
        name=name,
        fingerprint=name.replace(" ", "-"),
        params={"epochs": 1},
        tags={"aisle.kind": "phase"},
    )

    def log(metrics: EpochMetrics) -> None:
        run.log_metrics(metrics.values, step=metrics.epoch)
        for key, value in metrics.values.items():
            recorded.setdefault(key, []).append((metrics.epoch, float(value)))
        at_epoch(metrics.epoch)

    run_job(job_dir, on_epoch=log)
    trained = time.perf_counter()
    run.end()
    return Trained(trained - started, time.perf_counter() - trained, recorded)


def faults(store: Store, *, name: str, recorded: dict[str, list[tuple[int, float]]]) -> list[str]:
    """What the server has otherwise than it was recorded, in sentences."""
    client: Any = store.client
    experiment = client.get_experiment_by_name("aisle-bench")
    tag = f"tags.`aisle.fingerprint` = '{name.replace(' ', '-')}'"
    runs = client.search_runs([experiment.experiment_id], filter_string=tag)
    if [run.info.status for run in runs] != ["FINISHED"]:
        return [f"{name}: expected one finished run, found {[run.info.status for run in runs]}"]
    return [
        f"{name}: expected {len(values)} values of {key} once and in order, found {len(found)}"
        for key, values in recorded.items()
        if (found := [(m.step, m.value) for m in client.get_metric_history(runs[0].info.run_id, key)])
        != values
    ]


class Bench:
    """The servers, the job, and one training of each mode a round."""

    def __init__(self, folder: Path, *, epochs: int, stack: ExitStack) -> None:
        self.folder, self.epochs = folder, epochs
        self.steady, self.mortal = Server(folder / "steady"), Server(folder / "mortal")
        for server in (self.steady, self.mortal):
            stack.callback(server.kill)
            server.start()
            server.wait()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}"
        slow = stack.enter_context(slow_proxy(self.steady.uri, seconds=2.0))
        self.uris = dict(zip(MODES[1:], (self.steady.uri, self.mortal.uri, nowhere, slow), strict=True))
        make_drawn_job(folder / "job", phase=make_phase(epochs=epochs), photos=PHOTOS)

    def run(self, mode: str, *, name: str) -> Trained:
        """Train once in a mode."""
        job_dir = self.folder / "jobs" / name
        shutil.copytree(self.folder / "job", job_dir)

        def at_epoch(epoch: int) -> None:
            if mode == MODES[2] and epoch == self.epochs // 3:
                self.mortal.kill()
            elif mode == MODES[2] and epoch == 2 * self.epochs // 3:
                self.mortal.start()

        root = self.folder / "roots" / name
        root.mkdir(parents=True)
        store = Store(root, self.uris[mode]) if mode in self.uris else None
        trained = train(job_dir, store=store, name=name, at_epoch=at_epoch)
        shutil.rmtree(job_dir)
        return trained

    def faults(self, mode: str, *, name: str, trained: Trained) -> list[str]:
        """Send what is left, and compare. A server that was never there is one that comes at last."""
        uri = self.mortal.uri if mode == MODES[2] else self.steady.uri
        store = Store(self.folder / "roots" / name, uri)
        deadline = time.monotonic() + 60
        while list(store.spools.glob("*.jsonl")) and time.monotonic() < deadline:
            sync(store)  # a thread that was late may still hold its own
            time.sleep(0.2)
        return faults(store, name=name, recorded=trained.recorded)


def show(results: dict[str, list[Trained]]) -> bool:
    """Print the table; whether all is within its limit."""
    table = Table("server", "training, s", "to no tracking", "to healthy", "end of the run, s")
    good = True
    for mode, trained in results.items():
        seconds = statistics.median(each.training for each in trained)
        ratios = [
            statistics.median(
                each.training / other.training for each, other in zip(trained, results[base], strict=True)
            )
            for base in MODES[:2]
        ]
        longest = max(each.end for each in trained)
        good &= ratios[0] <= LIMIT and longest <= SECONDS_AT_END
        table.add_row(mode, f"{seconds:.2f}", *(f"{ratio:.3f}" for ratio in ratios), f"at most {longest:.1f}")
    Console().print(table)
    return good


def main() -> int:
    """Train, count, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="trainings in each mode")
    parser.add_argument("--epochs", type=int, default=40, help="epochs of the phase")
    arguments = parser.parse_args()
    results: dict[str, list[Trained]] = {mode: [] for mode in MODES}
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bench = Bench(Path(folder), epochs=arguments.epochs, stack=stack)
        bench.run(MODES[1], name="warm up")
        for number in range(arguments.rounds):
            for mode in MODES:
                name = f"{mode} {number}"
                trained = bench.run(mode, name=name)
                results[mode].append(trained)
                if mode != MODES[0]:
                    if mode == MODES[2]:
                        bench.mortal.wait()
                    problems += bench.faults(mode, name=name, trained=trained)
    within = show(results)
    values = [each.recorded for trained in results.values() for each in trained]
    num_values = sum(len(series) for recorded in values for series in recorded.values())
    for problem in problems:
        print(problem)
    print(
        f"{num_values:,} values recorded: {'all there once, in order' if not problems else 'NOT all right'}"
    )
    print(f"ratios {'within' if within else 'NOT within'} {LIMIT}")
    return 0 if within and not problems else 1


if __name__ == "__main__":
    raise SystemExit(main())
