"""How much slower does a phase train beside one busy process, and what helps?

    python -m bench.busy_neighbour

trains the demo's network on synthetic images, alone and beside a process that computes without end, and
prints photos a second and the ratio for: two threads that spin while they wait for each other (libgomp's
default), two threads that sleep (OMP_WAIT_POLICY=PASSIVE, what `training` sets), and one thread. Exit code 1
where what `training` sets slows down by more than PROMISED.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.drawn_job import make_drawn_job
from catalog.sources.synthetic import SyntheticConfig
from training.config import PhaseConfig, load_job, save_job

PROMISED = 2.5
PHOTOS = SyntheticConfig(num_skus=10, photos_head=40, photos_tail=30, photos_val=1, photos_test=0)
PHASE = PhaseConfig(
    backbone="tf_efficientnet_lite0",
    input_size=96,
    resize=96,
    epochs=2,
    batch_size=32,
)
BUSY = "while True: pass"
WAYS = {
    "2 threads, spinning": ({"OMP_WAIT_POLICY": "ACTIVE"}, 2),
    "2 threads, sleeping": ({"OMP_WAIT_POLICY": "PASSIVE"}, 2),
    "1 thread": ({}, 1),
}


def photos_per_second(job_dir: Path, *, environment: dict[str, str], num_threads: int) -> float:
    """Train a copy of the job and return the speed of its last epoch."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "job"
        copy.mkdir()
        for path in job_dir.iterdir():
            (copy / path.name).symlink_to(path.resolve())
        (copy / "job.json").unlink()
        job = load_job(job_dir / "job.json")
        save_job(copy / "job.json", job=job.replace(phase=job.phase.replace(num_threads=num_threads)))
        done = subprocess.run(
            [sys.executable, "-m", "training", str(copy)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
    return float(re.findall(r"([\d.]+) photos/s", done.stderr + done.stdout)[-1])


def main() -> None:
    """Print the table."""
    speeds: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        job_dir = Path(folder)
        make_drawn_job(job_dir, phase=PHASE, photos=PHOTOS)
        for name, (environment, num_threads) in WAYS.items():
            alone = photos_per_second(job_dir, environment=environment, num_threads=num_threads)
            busy = subprocess.Popen([sys.executable, "-c", BUSY])
            try:
                beside = photos_per_second(job_dir, environment=environment, num_threads=num_threads)
            finally:
                busy.kill()
                busy.wait()
            speeds[name] = alone, beside
    table = Table(title=f"Training beside one busy process, {os.cpu_count()} cores")
    for column in ("", "alone, photos/s", "beside it", "slower"):
        table.add_column(column, justify="left" if column == "" else "right")
    for name, (alone, beside) in speeds.items():
        table.add_row(name, f"{alone:.1f}", f"{beside:.1f}", f"{alone / beside:.2f}x")
    Console().print(table)
    alone, beside = speeds["2 threads, sleeping"]
    sys.exit(alone / beside > PROMISED)


if __name__ == "__main__":
    main()
