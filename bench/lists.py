"""Lists at the size of AliProducts: report B's five, and splits with the two capped lists, beside pandas.

    python -m bench.lists                                   2,552,385 photos, 50,030 classes, 5 epochs
    python -m bench.lists --photos 50000 --classes 1000     the same small

Each arm is a process of its own that reads its input, then works `--repeats` times: the middle time counts,
and the largest memory above that of the input. Averaging the epochs and writing each row's reason is part of
our work; pandas selects the same rows without reasons. Exit code 1 where a promise does not hold: five lists
in 1 s and 600 MiB, splits and capped lists in 3 s, and the same rows as pandas.
"""

import argparse
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from rich.console import Console
from rich.table import Table

from bench.list_data import LOSSES, PHOTOS, Scale, draw_data
from catalog.content import CONTENT
from catalog.list_rules import Balanced, HeadLimit, make_list
from catalog.refinement import Aum, Confident, LowLoss, MaxLoss, Quantile, rank_losses, refine
from catalog.refinement.low_loss import keep_low_losses
from catalog.refinement.max_loss import default_max_loss, keep_up_to_loss
from catalog.splits import SplitConfig, make_splits

PATHS = {"base": "full", "evidence": "record"}
KEEP = 5
REPORT_B = {
    "ranks 1-5": LowLoss(**PATHS, keep=KEEP),
    "ranks 6-10": LowLoss(**PATHS, keep=KEEP, first_rank=6),
    "ranks 11-15": LowLoss(**PATHS, keep=KEEP, first_rank=11),
    "median 5": LowLoss(**PATHS, keep=KEEP, pick="median"),
}
SPLIT = SplitConfig(method="stratified", val_share=0.05, test_share=0.05, holdout_share=0.02)
MEBIBYTE = 2**20

Lists = Mapping[str, pl.Series]
"""The photo ids of each list."""


def mean_losses(log: pl.DataFrame) -> pl.DataFrame:
    """Average each photo's losses over the epochs it was seen in."""
    epochs = [pl.col(name).cast(pl.Float64) for name in log.columns if name.startswith("loss_")]
    return log.select("photo_id", "class", *CONTENT, mean_loss=pl.mean_horizontal(epochs).cast(pl.Float32))


def five_lists(log: pl.DataFrame, num_classes: int) -> Lists:
    """Report B's five lists from one ranking."""
    scores = mean_losses(log)
    ranked = rank_losses(scores, scores=scores, num_classes=num_classes)
    made = {name: keep_low_losses(ranked, config=config) for name, config in REPORT_B.items()}
    config = MaxLoss(**PATHS, min_per_class=KEEP)
    made["loss <= 9"] = keep_up_to_loss(scores, scores=scores, num_classes=num_classes, config=config)
    return {name: rows["photo_id"] for name, rows in made.items()}


def five_lists_in_pandas(log: pd.DataFrame, num_classes: int) -> Lists:
    """The same five, written as a data scientist would."""
    epochs = [name for name in log.columns if name.startswith("loss_")]
    frame = log[["photo_id", "class"]].assign(
        loss=log[epochs].astype("float64").mean(axis=1).astype("float32")
    )
    frame = frame.sort_values(["class", "loss", "photo_id"])
    by_class = frame.groupby("class")
    place, size = by_class.cumcount(), by_class["loss"].transform("size")
    passing = (frame["loss"] <= default_max_loss(num_classes)).groupby(frame["class"]).transform("sum")
    left = np.maximum(passing, np.minimum(KEEP, size))
    middle = (left - KEEP).clip(lower=0) // 2

    def band(first: pd.Series | int) -> pd.Series:
        return (place >= first) & (place < first + KEEP) & (place < left)

    def mean_loss(rows: pd.Series) -> pd.Series:
        losses = frame["loss"][rows].astype("float64").groupby(frame["class"][rows]).mean()
        return frame["class"].map(losses)

    median = band(middle)
    of_median = mean_loss(median)
    chosen = {"ranks 1-5": band(0)}
    for name, first in (("ranks 6-10", 5), ("ranks 11-15", 10)):
        rows = band(first)
        use = (first + KEEP <= left) & (mean_loss(rows) <= of_median)
        chosen[name] = rows.where(use, median)
    chosen |= {"median 5": median, "loss <= 9": place < left}
    return {name: frame["photo_id"][rows].sort_index() for name, rows in chosen.items()}


def splits_and_caps(photos: pl.DataFrame, num_classes: int) -> Lists:
    """Splits by chance in every class, a balanced list and a head limit."""
    names = [str(number) for number in range(num_classes)]
    splits = make_splits(photos, class_names=names, coarse_of={}, config=SPLIT, seed=0)
    made = {rule.rule: make_list(splits, config=rule, seed=0) for rule in (Balanced(), HeadLimit())}
    return {name: rows["photo_id"] for name, rows in made.items()}


def splits_and_caps_in_pandas(photos: pd.DataFrame, num_classes: int) -> Lists:
    """The same rules with pandas' own hash, so with other draws; copies are not kept together."""
    del num_classes
    classes = photos["label"].astype("int32")
    hashes = pd.util.hash_array(photos["photo_id"].to_numpy(dtype=object))
    chance = pd.Series(hashes / 2.0**64, index=photos.index)
    rarest = chance.groupby(classes).rank(ascending=False, method="first") <= SPLIT.min_train_per_class
    train = rarest | (chance >= SPLIT.val_share + SPLIT.test_share + SPLIT.holdout_share)
    frame = photos[["photo_id"]].assign(label=classes, draw=hashes * np.uint64(0x9E3779B97F4A7C15))[train]
    ordered = frame.sort_values("draw").groupby("label")
    made = {rule.rule: ordered.head(rule.per_class) for rule in (Balanced(), HeadLimit())}
    return {name: rows["photo_id"].sort_index() for name, rows in made.items()}


def one_rule(config: Any) -> Callable[[pl.DataFrame, int], Lists]:
    """A refinement rule alone, from mean losses to its list."""

    def work(log: pl.DataFrame, num_classes: int) -> Lists:
        scores = log.with_columns(mean_losses(log)["mean_loss"])
        made = refine(config, base=scores, evidence=scores, num_classes=num_classes)
        return {config.rule: made["photo_id"]}

    return work


ARMS: dict[str, tuple[str, bool, Callable[[Any, int], Lists]]] = {
    "five lists of report B": (LOSSES, False, five_lists),
    "five lists, pandas": (LOSSES, True, five_lists_in_pandas),
    "splits, balanced, head_limit": (PHOTOS, False, splits_and_caps),
    "splits and caps, pandas": (PHOTOS, True, splits_and_caps_in_pandas),
    "max_loss": (LOSSES, False, one_rule(MaxLoss(**PATHS))),
    "quantile": (LOSSES, False, one_rule(Quantile(**PATHS))),
    "aum": (LOSSES, False, one_rule(Aum(**PATHS))),
    "confident": (LOSSES, False, one_rule(Confident(**PATHS))),
}


def run_arm(name: str, *, folder: Path, num_classes: int, repeats: int) -> dict[str, Any]:
    """Work in this process: seconds of each round, MiB above the input, size and digest of each list."""
    file, in_pandas, work = ARMS[name]
    table: Any = pl.read_ipc(folder / file)
    table.hash_rows()  # reads every page of the mapped file, so that it counts as input
    if in_pandas:
        table = table.to_pandas()
    gc.collect()
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    seconds = []
    for _ in range(repeats):
        lists: Lists = {}
        started = time.perf_counter()
        lists = work(table, num_classes)
        seconds.append(time.perf_counter() - started)
    peak = _memory("VmHWM") - before
    digests = {
        key: hashlib.sha256("\n".join(ids.to_list()).encode()).hexdigest() for key, ids in lists.items()
    }
    sizes = {key: len(ids) for key, ids in lists.items()}
    return {"seconds": seconds, "peak": peak / MEBIBYTE, "sizes": sizes, "digests": digests}


def _memory(key: str) -> int:
    """Bytes of this process by a key of Linux' /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def run_in_process(name: str, *, folder: Path, num_classes: int, repeats: int) -> dict[str, Any]:
    """Run one arm in a fresh interpreter."""
    command = [sys.executable, "-m", "bench.lists", "--arm", name, "--folder", str(folder)]
    command += ["--classes", str(num_classes), "--repeats", str(repeats)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def broken_promises(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What does not hold, in words."""
    five, caps = results["five lists of report B"], results["splits, balanced, head_limit"]
    theirs = results["five lists, pandas"]["digests"]
    broken = [f"{name}: other rows than pandas" for name, d in five["digests"].items() if d != theirs[name]]
    if statistics.median(five["seconds"]) > 1:
        broken.append("five lists took more than 1 s")
    if five["peak"] > 600:
        broken.append("five lists took more than 600 MiB")
    if statistics.median(caps["seconds"]) > 3:
        broken.append("splits, balanced list and head limit took more than 3 s")
    return broken


def print_table(results: Mapping[str, Mapping[str, Any]], *, title: str) -> None:
    """One line an arm."""
    table = Table("arm", "median s", "first s", "MiB above input", "photos listed", title=title)
    for name, result in results.items():
        sizes = ", ".join(f"{size:,}" for size in result["sizes"].values())
        seconds = result["seconds"]
        table.add_row(
            name, f"{statistics.median(seconds):.2f}", f"{seconds[0]:.2f}", f"{result['peak']:,.0f}", sizes
        )
    Console(width=130).print(table)


def main() -> int:
    """Draw the data once, run every arm, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=2_552_385)
    parser.add_argument("--classes", type=int, default=50_030)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each arm; the middle time counts")
    parser.add_argument("--arm", choices=ARMS, help="run this arm here and print its numbers as JSON")
    parser.add_argument("--folder", type=Path, help="where the data of --arm is")
    arguments = parser.parse_args()
    rounds = {"num_classes": arguments.classes, "repeats": arguments.repeats}
    if arguments.arm:
        print(json.dumps(run_arm(arguments.arm, folder=arguments.folder, **rounds)))
        return 0
    scale = Scale(arguments.photos, arguments.classes, arguments.epochs)
    with tempfile.TemporaryDirectory() as folder:
        draw_data(Path(folder), scale=scale)
        results = {name: run_in_process(name, folder=Path(folder), **rounds) for name in ARMS}
    title = f"{scale.num_photos:,} photos x {scale.num_epochs} epochs, {scale.num_classes:,} classes"
    print_table(results, title=f"{title}, {os.cpu_count()} cores")
    broken = broken_promises(results)
    print("\n".join(f"BROKEN: {problem}" for problem in broken) or "All promises hold.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
