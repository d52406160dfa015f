"""How fast the whole training loop is, from photo store to optimiser step: `python -m bench.training`.

The contenders train the same backbone on the same photos, with the same batch, number format, memory format
and optimiser:

- ours: the product's own job folder, run by training.job.run_job, loss log included;
- timm's recipe: its dataset over a folder of the very same bytes, its loader and prefetcher, and the order of
  work of its train.py, with the same random resized crop and flip and nothing else;
- the same in a process that keeps freed memory (recognition.memory), as ours and the bare step do;
- bare step: forward, cross entropy, backward and optimiser on tensors that are there already.

Each has a process of its own, which keeps its loader processes; the rounds take turns, and while one trains
the others wait. Before each round's timed steps come enough others to use up what was loaded meanwhile.
Medians of the rounds. Time outside the model is what a step takes longer than the bare one.

Photos come from the grocery data; the store keeps them as conf/data/grocery.yaml says. For a node without
polars make both forms of them here (`--prepare DIR`), copy DIR and the repository there and say `--data DIR`:
it needs what `python -m training` needs (torch, timm, accelerate, numpy, pyarrow, pillow, simplejpeg), and
rich. There the defaults are 8 loader processes and batches of 256.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from bench.training_contenders import BARE, CONTENDERS, OURS, TIMM, TIMM_KEPT, Plan, Round, run_contender
from catalog.photo_store import PHOTOS_FILE, PhotoStore, load_store_info
from contracts.photos import PHOTOS
from imaging.storage import StoragePolicy
from training.config import AugmentationConfig, JobConfig, PhaseConfig, save_job
from training.config.optimizers import SgdConfig

REQUIRED_SPEED = 0.95
"""Of the bare step's photos a second."""
ALLOWED_OUTSIDE = 0.5
"""Of the time that timm's recipe spends outside the model."""
GROCERY = StoragePolicy(max_side=512, quality=90, max_bytes=1048576)
DATA_SEED = 0


def prepare(folder: Path, *, root: Path, num_photos: int) -> None:
    """Write the photo store (photos/), its photos as files (files/<class>/) and their list (list.parquet)."""
    from catalog.ingest.run import ingest  # here: a GPU node has no polars
    from catalog.sources import make_source

    ingest(make_source("grocery_store", root=root), folder / "photos", policy=GROCERY)
    store = PhotoStore(folder / "photos")
    table = PHOTOS.read(folder / "photos" / PHOTOS_FILE, ["photo_id", "label"])
    table = table.filter(table["label"].is_valid())
    order = np.random.default_rng(DATA_SEED).permutation(len(table))[:num_photos]
    chosen = table.take(pa.array(order)).combine_chunks()
    names = pa.array(sorted(set(chosen["label"].to_pylist())))
    for name in names.to_pylist():
        (folder / "files" / name).mkdir(parents=True)
    rows = store.rows_of(chosen["photo_id"]).tolist()
    for row, name in zip(rows, chosen["label"].to_pylist(), strict=True):
        (folder / "files" / name / f"{row}.jpg").write_bytes(store.read(row))
    classes = pc.index_in(chosen["label"], value_set=names)
    pq.write_table(pa.table({"photo_id": chosen["photo_id"], "class": classes}), folder / "list.parquet")


def make_job(job_dir: Path, *, data: Path, phase: PhaseConfig, num_repeats: int) -> None:
    """Write our job folder: the list so often over that no epoch ends while the clock runs."""
    job_dir.mkdir()
    (job_dir / "photos").symlink_to((data / "photos").resolve(), target_is_directory=True)
    listed = pq.read_table(data / "list.parquet")
    pq.write_table(pa.concat_tables([listed] * num_repeats), job_dir / "list.parquet")
    pq.write_table(listed.slice(0, 0), job_dir / "val.parquet")
    job = JobConfig(
        name="bench",
        seed=0,
        phase=phase,
        class_names=tuple(sorted(path.name for path in (data / "files").iterdir())),
        fingerprint="bench",
        storage=load_store_info(data / "photos").policy,
    )
    save_job(job_dir / "job.json", job=job)


def make_phase(options: argparse.Namespace) -> PhaseConfig:
    """The phase that all of them train."""
    return PhaseConfig(
        backbone=options.backbone,
        input_size=options.input_size,
        resize=round(options.input_size / 0.875),
        epochs=1,
        batch_size=options.batch_size,
        optimizer=SgdConfig(lr=1e-3),
        augmentation=AugmentationConfig(name="resized_crop"),
        precision=options.precision,
        num_workers=options.workers,
        checkpoint_steps=0,
    )


def run_rounds(plan: Plan, *, rounds: int, console: Console) -> dict[str, list[Round]]:
    """Let the contenders train in turns; the first turn starts each, one after the other."""
    context = multiprocessing.get_context("spawn")  # not fork: this process may have threads
    pipes: dict[str, Any] = {}
    measured: dict[str, list[Round]] = {name: [] for name in CONTENDERS}
    with ExitStack() as stack:
        for number in range(rounds):
            for name in CONTENDERS:
                if number == 0:
                    pipes[name], theirs = context.Pipe()
                    process = context.Process(target=run_contender, args=(name, plan, theirs))
                    process.start()
                    theirs.close()  # so that its end is seen here
                    stack.callback(process.join)
                    stack.callback(pipes[name].close)
                else:
                    pipes[name].send(True)
                try:
                    measured[name].append(pipes[name].recv())
                except EOFError:
                    raise SystemExit(f"{name} ended early; its error stands above.") from None
                console.print(f"round {number + 1}/{rounds}  {name}: {measured[name][-1].seconds:.2f} s")
        for pipe in pipes.values():
            pipe.send(False)
    return measured


@dataclass(frozen=True)
class Summary:
    """One contender's medians."""

    seconds_a_step: float
    waiting_share: float
    peak_memory: int


def summarize(rounds: Sequence[Round], *, steps: int) -> Summary:
    """Medians over the rounds."""
    return Summary(
        statistics.median(found.seconds for found in rounds) / steps,
        statistics.median(found.waiting / found.seconds for found in rounds),
        max(found.peak_memory for found in rounds),
    )


def report(measured: dict[str, list[Round]], *, steps: int, batch_size: int, console: Console) -> bool:
    """Print the table and both promises; True where they hold."""
    found = {name: summarize(rounds, steps=steps) for name, rounds in measured.items()}
    bare = found[BARE].seconds_a_step
    table = Table()
    headings = (
        "",
        "photos/s",
        "of the bare step",
        "outside the model, ms/step",
        "waits for photos",
        "peak MiB",
    )
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for name, summary in found.items():
        seconds = summary.seconds_a_step
        table.add_row(
            name,
            f"{batch_size / seconds:,.1f}",
            f"{bare / seconds:.3f}",
            f"{1000 * (seconds - bare):,.1f}",
            f"{summary.waiting_share:.1%}",
            f"{summary.peak_memory:,}",
        )
    console.print(table)
    speed = bare / found[OURS].seconds_a_step
    outside, timms, timms_kept = (found[name].seconds_a_step - bare for name in (OURS, TIMM, TIMM_KEPT))
    fast, lean = speed >= REQUIRED_SPEED, outside <= ALLOWED_OUTSIDE * timms
    console.print(
        f"photos/s: {speed:.3f} of the bare step (at least {REQUIRED_SPEED}): {_verdict(fast)}\n"
        f"time outside the model: {1000 * outside:,.1f} ms a step, timm's recipe {1000 * timms:,.1f} "
        f"(at most {ALLOWED_OUTSIDE} of it; {1000 * timms_kept:,.1f} with memory kept): {_verdict(lean)}",
        soft_wrap=True,
    )
    return fast and lean


def _verdict(holds: bool) -> str:
    return "holds" if holds else "DOES NOT HOLD"


def main() -> None:
    """Prepare the photos, run the rounds, exit with 1 where a promise does not hold."""
    options = parse()
    console = Console()
    if options.prepare is not None:
        prepare(options.prepare, root=options.root, num_photos=options.photos)
        return
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if data is None:
            data = Path(folder) / "data"
            prepare(data, root=options.root, num_photos=options.photos)
        warmup = 2 * options.workers + 3  # what loader processes and a prefetcher have ready, and one more
        needed = (options.rounds * (warmup + options.steps) + warmup) * options.batch_size
        repeats = math.ceil(needed / pq.read_metadata(data / "list.parquet").num_rows)
        phase = make_phase(options)
        make_job(Path(folder) / "job", data=data, phase=phase, num_repeats=repeats)
        plan = Plan(
            job_dir=Path(folder) / "job",
            files_dir=data / "files",
            warmup_steps=warmup,
            timed_steps=options.steps,
            num_repeats=repeats,
        )
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
        console.print(
            f"{phase.backbone}, {phase.input_size} pixels, batches of {phase.batch_size}, precision "
            f"{phase.precision}, {phase.num_workers} loader processes, {device}, torch {torch.__version__}"
        )
        measured = run_rounds(plan, rounds=options.rounds, console=console)
    sys.exit(not report(measured, steps=options.steps, batch_size=options.batch_size, console=console))


def parse() -> argparse.Namespace:
    """Read the command line; a GPU has defaults of its own."""
    on_gpu = torch.cuda.is_available()
    datasets = Path(os.environ.get("AISLE_DATASETS", "../shared/datasets"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=256 if on_gpu else 32)
    parser.add_argument("--workers", type=int, default=8 if on_gpu else 2, help="loader processes")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--steps", type=int, default=60 if on_gpu else 10, help="timed steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=int, default=10**6, help="photos to prepare, at most")
    parser.add_argument("--root", type=Path, default=datasets / "grocery-store" / "dataset")
    parser.add_argument("--data", type=Path, help="photos that --prepare wrote")
    parser.add_argument("--prepare", type=Path, metavar="DIR", help="only write the photos there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
