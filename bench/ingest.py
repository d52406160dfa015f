"""How fast is ingest, does a second core help, and does its memory stay flat? Real photos, one run.

    python -m bench.ingest

ingests the grocery and clothing photos ($AISLE_DATASETS, or ../shared/datasets) in one process and with 2
workers, beside a plain Pillow loop in one process that does the same to each photo (open, decode, EXIF
orientation, RGB; larger ones are shrunk and encoded, others keep their bytes) but computes no hash, keeps no
table and notices no damage. Rounds are interleaved; medians and ratios. Every ingest is a fresh process and
starts its own workers, whose start is in the times. Then further ingests of the same photos, and the memory
of the writing process at two counts, from which that of three million follows.

Exit code 1 where a promise does not hold: with 2 workers 1.7 times the Pillow loop; under 2 GiB at three
million photos.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

REQUIRED = 1.7
MANY = 3_000_000
MAX_BYTES = 2 * 1024**3
MAX_SIDE, QUALITY, MAX_KEPT_BYTES = 512, 90, 1024 * 1024  # those of StoragePolicy


def ingest_once(folder: Path, *, count: int, workers: int, stamps: bool = False) -> dict[str, float]:
    """Ingest `count` photos in a new process: its seconds, the photos prepared, its memory in bytes."""
    command = [sys.executable, "-m", "bench.ingest", "--worker-run", str(folder), str(count), str(workers)]
    run = subprocess.run([*command, *["stamps"] * stamps], capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(run.stdout)
    return measured


def run_ingest(folder: Path, *, count: int, workers: int, stamps: bool) -> None:
    """What ingest_once starts; the rooms are imported here, since workers import this module too."""
    from bench.real_photos import RealPhotos, find_photos
    from catalog.ingest.run import ingest

    stamps_dir = folder.with_name("stamps") if stamps else None
    source = RealPhotos(find_photos(), count)
    started = time.perf_counter()
    report = ingest(source, folder, num_workers=workers, stamps_dir=stamps_dir)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "prepared": report.num_new, "peak": peak}))


def run_pillow(target: Path, *, count: int) -> float:
    """The plain loop; its seconds."""
    from PIL import Image, ImageOps

    from bench.real_photos import DATASETS, RealPhotos, find_photos

    started = time.perf_counter()
    with target.open("wb") as file:
        for photo in RealPhotos(find_photos(), count).photos():
            data = DATASETS.joinpath(photo.path).read_bytes()
            with Image.open(BytesIO(data)) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            if max(upright.size) > MAX_SIDE or len(data) > MAX_KEPT_BYTES:
                upright.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
                buffer = BytesIO()
                upright.save(buffer, "JPEG", quality=QUALITY)
                data = buffer.getvalue()
            file.write(data)
    return time.perf_counter() - started


def measure_speed(*, count: int, rounds: int) -> bool:
    """Print photos a second of the three ways; whether two workers keep the promise."""
    seconds: dict[str, list[float]] = {"Pillow loop": [], "ingest, one process": [], "ingest, 2 workers": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            seconds["Pillow loop"].append(run_pillow(Path(folder, "photos"), count=count))
            for workers, name in ((0, "ingest, one process"), (2, "ingest, 2 workers")):
                run = ingest_once(Path(folder, str(workers)), count=count, workers=workers)
                seconds[name].append(run["seconds"])
    of_pillow = {name: median_ratio(seconds["Pillow loop"], times) for name, times in seconds.items()}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        (name, f"{taken:.2f}", f"{count / taken:,.0f}", f"{of_pillow[name]:.2f}x")
        for name, taken in medians.items()
    ]
    show(f"{count:,} photos, {rounds} rounds", ("", "seconds", "photos/s", "of Pillow"), rows)
    scaling = median_ratio(seconds["ingest, one process"], seconds["ingest, 2 workers"])
    print(f"2 workers are {of_pillow['ingest, 2 workers']:.2f}x the Pillow loop (promised: {REQUIRED}x)")
    print(f"and {scaling:.2f}x one process; beside them the writing process needs a part of a core")
    return of_pillow["ingest, 2 workers"] >= REQUIRED


def median_ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds of times / others."""
    return statistics.median(time / other for time, other in zip(times, others, strict=True))


def measure_again(*, count: int) -> None:
    """Print what further ingests into a store take."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "store")
        cases = [
            ("first", count, True),
            ("nothing new", count, True),
            ("100 photos more", count + 100, True),
            ("nothing new, on another machine (no stamps)", count + 100, False),
        ]
        rows = []
        for name, photos, stamps in cases:
            run = ingest_once(folder, count=photos, workers=2, stamps=stamps)
            rows.append((name, f"{run['seconds']:.2f}", f"{run['prepared']:,.0f}"))
    show(f"{count:,} photos ingested again, 2 workers", ("", "seconds", "photos prepared"), rows)


def measure_memory(sizes: tuple[int, int]) -> bool:
    """Print the writer's peak memory at two counts; whether three million photos stay under the limit."""
    peaks = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            peaks.append(ingest_once(Path(folder, "store"), count=size, workers=2)["peak"])
    per_photo = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    expected = peaks[1] + per_photo * (MANY - sizes[1])
    rows = [(f"{size:,}", f"{peak / 2**20:,.0f}") for size, peak in zip(sizes, peaks, strict=True)]
    rows.append((f"{MANY:,}, by these two", f"{expected / 2**20:,.0f}"))
    show("memory of the writing process", ("photos", "peak MiB"), rows)
    print(f"{per_photo:,.0f} bytes a photo (limit: {MAX_BYTES / 2**20:,.0f} MiB at {MANY:,})")
    return expected < MAX_BYTES


def show(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table whose first column is words and whose others are numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def main() -> int:
    """Measure, print, judge."""
    if sys.argv[1:2] == ["--worker-run"]:
        folder, number, workers, *stamps = sys.argv[2:]
        run_ingest(Path(folder), count=int(number), workers=int(workers), stamps=bool(stamps))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=11_000, help="photos of the timed rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs=2, default=(20_000, 100_000), help="counts for the memory")
    parser.add_argument("--quick", action="store_true", help="a small try, not judged")
    options = parser.parse_args()
    count, rounds, sizes = options.count, options.rounds, tuple(options.sizes)
    if options.quick:
        count, rounds, sizes = 1_000, 1, (500, 2_000)
    print(f"{len(os.sched_getaffinity(0))} cores")
    scales = measure_speed(count=count, rounds=rounds)
    measure_again(count=count)
    flat = measure_memory(sizes)
    return 0 if options.quick or (scales and flat) else 1


if __name__ == "__main__":
    sys.exit(main())
