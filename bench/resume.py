"""Does a phase that is killed again and again end with the bits of one that is not?

    python -m bench.resume --kills 20

trains one phase with a progressive sampler, an average of the weights, accumulation, a random crop and a
loss log, once without interruption. Then the same phase again, each run killed by SIGKILL (with its loader
process) at a random moment: while it steps, validates, or writes a checkpoint. Each run is a process of its
own, forked from one that has imported torch, which is most of what a start costs. The table says where each
kill fell. At last all outs are compared byte for byte.

Exit code 1 where one differs.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.console import Console
from rich.table import Table

import training.job  # noqa: F401  here, before the fork: the command imports it when it runs
from bench.drawn_job import make_drawn_job
from catalog.sources.synthetic import SyntheticConfig
from training.__main__ import main as train
from training.config import AugmentationConfig, PhaseConfig
from training.config.optimizers import RangerConfig
from training.config.samplers import SamplerConfig

OUTS = (
    "bundle/weights.safetensors",
    "bundle/config.json",
    "loss_log.parquet",
    "metrics.jsonl",
    "history.csv",
)
PHOTOS = SyntheticConfig(
    num_skus=10, photos_head=30, photos_tail=10, photos_val=4, photos_test=0, width=96, height=96
)
LONGEST_DELAY = 0.4
"""Seconds between a checkpoint and the kill, at most: several steps."""
FORK = multiprocessing.get_context("fork")


def make_phase(*, epochs: int) -> PhaseConfig:
    """A phase whose every part has a state of its own, or draws at random."""
    return PhaseConfig(
        backbone="test_resnet",
        input_size=64,
        resize=64,
        epochs=epochs,
        batch_size=16,
        accumulation=2,
        drop_rate=0.2,
        sampler=SamplerConfig(name="progressive"),
        optimizer=RangerConfig(lr=0.003),
        ema_decay=0.95,
        keep_weights="best",
        clip_norm=5.0,
        augmentation=AugmentationConfig(name="resized_crop", color_jitter=0.4, erasing=0.2),
        precision="float32",
        num_threads=1,
        num_workers=1,
        checkpoint_steps=5,
    )


def start(job_dir: Path) -> BaseProcess:
    """Run the phase's own command in a new process, and process group."""

    def run() -> None:
        os.setsid()
        with (job_dir / "log.txt").open("a") as log:
            os.dup2(log.fileno(), sys.stdout.fileno())
            os.dup2(log.fileno(), sys.stderr.fileno())
            os._exit(train([str(job_dir)]))

    process = FORK.Process(target=run)
    process.start()
    return process


def last_step(job_dir: Path) -> int:
    """The step of the newest checkpoint, 0 without one."""
    return max(
        (int(path.name.removeprefix("step-")) for path in job_dir.glob("checkpoint/step-*")), default=0
    )


def finish(job_dir: Path) -> None:
    """Run the phase to its end."""
    process = start(job_dir)
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"The phase ended with code {process.exitcode}: {(job_dir / 'log.txt').read_text()}")


def kill_after(job_dir: Path, *, step: int, delay: float) -> bool:
    """Start the phase, kill it a moment after a checkpoint of `step` or later; False where it ended first."""
    process = start(job_dir)
    assert process.pid is not None
    while process.is_alive() and (os.getpgid(process.pid) != process.pid or last_step(job_dir) < step):
        time.sleep(0.002)  # until it has a group of its own, and the checkpoint
    time.sleep(delay)
    if not process.is_alive():
        process.join()
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return True


def compare(first: Path, second: Path) -> bool:
    """Print which outs are equal; whether all are."""
    table = Table("out", "sha256", "equal")
    equal = True
    for name in OUTS:
        digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder in (first, second)]
        equal &= digests[0] == digests[1]
        table.add_row(name, digests[0][:16], "yes" if digests[0] == digests[1] else "NO")
    Console().print(table)
    return equal


def main() -> int:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="how often the second run is killed")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of the phase")
    parser.add_argument("--seed", type=int, default=0, help="fixes the moments")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        phase = make_phase(epochs=arguments.epochs)
        maker = FORK.Process(target=make_drawn_job, args=(whole,), kwargs={"phase": phase, "photos": PHOTOS})
        maker.start()  # not here: a process that has computed may not be forked
        maker.join()
        shutil.copytree(whole, killed)
        started = time.perf_counter()
        finish(whole)
        num_steps = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])["step"]
        print(f"{num_steps} steps without interruption: {time.perf_counter() - started:.1f} s")
        table = Table("kill", "at the earliest after step", "newest checkpoint then", "seconds")
        steps = sorted(moments.randrange(1, round(0.8 * num_steps)) for _ in range(arguments.kills))
        num_kills = 0
        for step in steps:
            started = time.perf_counter()
            hit = kill_after(killed, step=step, delay=moments.uniform(0, LONGEST_DELAY))
            num_kills += hit
            seconds = f"{time.perf_counter() - started:.1f}"
            table.add_row(
                str(num_kills) if hit else "ended first", str(step), str(last_step(killed)), seconds
            )
        finish(killed)
        Console().print(table)
        equal = compare(whole, killed)
    print(f"{num_kills} kills: the outs are {'the same' if equal else 'NOT the same'}, byte for byte")
    return 0 if equal and num_kills == arguments.kills else 1


if __name__ == "__main__":
    raise SystemExit(main())
