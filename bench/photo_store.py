"""Is the photo store fast to read in any order, and a training crop fast to make? Real photos, one run.

    python -m bench.photo_store

ingests the grocery photos ($AISLE_DATASETS, or ../shared/datasets) into a temporary store and measures

1. reads of every photo of the store by 1 and by 8 processes, in the store's order and in random order, from
   the page cache. The promise compares 8 readers with 8 readers: the same processes on the same cores read
   the same photos, and only the order differs. 1 reader is shown beside them: it has one core to itself.
2. photos a second and core from bytes to a 224-pixel canvas, by Pillow, Pillow with draft(), torchvision,
   OpenCV and the very functions that training, evaluation and serving call: see bench.training_crops.

Exit code 1 where a promise does not hold: random reads at 0.9 of sequential ones; 2 times Pillow on the
photos as they are and 3.3 times on the same photos enlarged to 1200 pixels.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from catalog.photo_store import PhotoStore

READERS = 8
REQUIRED_RANDOM = 0.9
READS_A_ROUND = 20_000
ORDERS = ("sequential", "random")

_store: PhotoStore
_barrier: Barrier


def _open_store(path: Path, barrier: Barrier) -> None:
    """Pool initialiser: each reader maps the shards itself, as loader processes do."""
    global _store, _barrier
    _store, _barrier = PhotoStore(path), barrier


def _read_all(order: str, reader: int, readers: int, count: int) -> tuple[float, float]:
    """Read `count` photos; start and end on the clock that all processes share, in seconds."""
    if order == "random":
        rows = np.random.default_rng(reader).permutation(len(_store))
    else:  # readers begin at different places, as the shards of a distributed job do
        rows = np.roll(np.arange(len(_store)), -reader * len(_store) // readers)
    todo = np.resize(rows, count).tolist()
    _barrier.wait()
    start = time.monotonic()
    for row in todo:
        _store.read(row)
    return start, time.monotonic()


@contextmanager
def _readers(path: Path, num: int) -> Iterator[Pool]:
    context = multiprocessing.get_context("spawn")  # not fork: ingest ran threads in this process
    barrier = context.Barrier(num)
    with context.Pool(num, initializer=_open_store, initargs=(path, barrier)) as pool:
        yield pool


def measure_reads(path: Path, *, rounds: int) -> dict[tuple[int, str], float]:
    """Photos a second of all readers together, median of interleaved rounds, by (readers, order)."""
    speeds: dict[tuple[int, str], list[float]] = {
        (num, order): [] for num in (1, READERS) for order in ORDERS
    }
    with ExitStack() as stack:
        pools = {num: stack.enter_context(_readers(path, num)) for num in (1, READERS)}
        for round_index in range(rounds + 1):
            for (num, order), measured in speeds.items():
                count = READS_A_ROUND // num
                tasks = [(order, reader, num, count) for reader in range(num)]
                times = pools[num].starmap(_read_all, tasks, chunksize=1)
                if round_index:  # the first round warms the caches
                    duration = max(end for _, end in times) - min(start for start, _ in times)
                    measured.append(num * count / duration)
    return {arm: statistics.median(measured) for arm, measured in speeds.items()}


def check_reads(path: Path, console: Console, *, rounds: int) -> bool:
    """Print the table of reads; True where random reads keep up."""
    speeds = measure_reads(path, rounds=rounds)
    table = Table(title=f"Reads of {len(PhotoStore(path)):,} photos from the page cache, checksums included")
    for heading in ("readers", "order", "photos/s together", "of sequential"):
        table.add_column(heading, justify="right")
    for (num, order), speed in speeds.items():
        table.add_row(str(num), order, f"{speed:,.0f}", f"{speed / speeds[num, 'sequential']:.2f}")
    console.print(table)
    ratio = speeds[READERS, "random"] / speeds[READERS, "sequential"]
    holds = ratio >= REQUIRED_RANDOM
    console.print(
        f"{READERS} readers, random against sequential: {ratio:.2f} (at least {REQUIRED_RANDOM}): "
        f"{'holds' if holds else 'DOES NOT HOLD'}\n"
    )
    return holds


def main() -> None:
    """Build the store, measure both, exit with 1 where a promise does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    datasets = Path(os.environ.get("AISLE_DATASETS", "../shared/datasets"))
    parser.add_argument("--root", type=Path, default=datasets / "grocery-store" / "dataset")
    parser.add_argument("--count", type=int, default=400, help="photos to decode; a quarter of them enlarged")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of which the median counts")
    options = parser.parse_args()

    # here, so that the processes that read import neither torch nor polars
    from bench.training_crops import check_crops
    from catalog.ingest.run import ingest
    from catalog.sources import make_source

    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos"
        ingest(make_source("grocery_store", root=options.root), path)
        held = check_reads(path, console, rounds=options.rounds)
        store = PhotoStore(path)
        rows = np.random.default_rng(0).choice(len(store), min(options.count, len(store)), replace=False)
        photos = [store.read(int(row)) for row in rows]
    held &= check_crops(photos, console, rounds=options.rounds)
    sys.exit(not held)


if __name__ == "__main__":
    main()
