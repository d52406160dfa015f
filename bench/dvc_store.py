"""What does DVC cost on a photo store, and what on the same photos as loose files? One run.

    python -m bench.dvc_store --count 100000

makes three temporary git and DVC repositories, each with one stage whose out is data/photos: one file (DVC's
floor), the photo store of `count` small photos, and those photos as loose files. Prints the median seconds of
`dvc status` and of a `dvc repro` that has nothing to do, once everything is in DVC's cache. Exit code 1 where
the store is more than 0.3 s above the floor, whatever the count.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from catalog.ingest.run import ingest
from catalog.sources import make_source

MAX_ABOVE_FLOOR = 0.3
A_FOLDER = 1000  # photos
STAGE = """stages:
  ingest:
    cmd: python copy_photos.py
    deps: [copy_photos.py]
    outs: [data/photos]
"""
COPY = "import shutil\nshutil.copytree({!r}, 'data/photos')\n"


def run(*command: str, folder: Path) -> float:
    """Run a command in a repository; its seconds."""
    quiet = os.environ | {"DVC_NO_ANALYTICS": "true", "GIT_CONFIG_GLOBAL": os.devnull}
    quiet |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    started = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed: {done.stderr}")
    return time.perf_counter() - started


def draw_photos(folder: Path, count: int) -> None:
    """Write small JPEGs of noise, each another one."""
    rng = np.random.default_rng(0)
    for number in range(count):
        if number % A_FOLDER == 0:
            place = folder / f"{number // A_FOLDER:05d}"
            place.mkdir(parents=True)
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=60)
        (place / f"{number:07d}.jpg").write_bytes(buffer.getvalue())


def make_repository(folder: Path, photos: Path) -> float:
    """A repository whose stage brought the photos in; the seconds of that first `dvc repro`."""
    folder.mkdir()
    (folder / "dvc.yaml").write_text(STAGE)
    (folder / "copy_photos.py").write_text(COPY.format(str(photos)))
    run("git", "init", "-q", folder=folder)
    run("dvc", "init", "-q", folder=folder)
    run("dvc", "config", "core.analytics", "false", folder=folder)
    return run("dvc", "repro", folder=folder)


def main() -> int:
    """Make, measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="photos; 2000 for a small try")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "nothing").mkdir()
        (place / "nothing" / "file.txt").write_text("one file")
        draw_photos(place / "loose", options.count)
        ingest(make_source("image_folder", root=place / "loose"), place / "store", progress=False)
        cases = ("nothing", "store", "loose")
        first = {case: make_repository(place / f"repository-{case}", place / case) for case in cases}
        for case in cases:
            shutil.rmtree(place / case)
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(options.rounds):  # interleaved
            for case in cases:
                for command in ("status", "repro"):
                    taken = run("dvc", command, folder=place / f"repository-{case}")
                    seconds.setdefault((case, command), []).append(taken)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    table = Table(
        "", "first dvc repro", "dvc status", "dvc repro, nothing to do", title=f"{options.count:,} photos"
    )
    names = {"nothing": "one file (DVC's floor)", "store": "photo store", "loose": "loose files"}
    for case, words in names.items():
        table.add_row(
            words,
            *(f"{value:.2f} s" for value in (first[case], medians[case, "status"], medians[case, "repro"])),
        )
    Console().print(table)
    above = max(medians["store", command] - medians["nothing", command] for command in ("status", "repro"))
    print(f"the store is {above:.2f} s above the floor (promised: at most {MAX_ABOVE_FLOOR} s)")
    return 0 if above <= MAX_ABOVE_FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
