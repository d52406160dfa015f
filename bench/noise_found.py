"""Does our evidence find wrong labels as well as cleanlab does? Grocery photos with labels made wrong.

    python -m bench.noise_found            # 2 shares x 2 seeds; --quick tries that it runs

Both sides may train for the same photos x epochs, from random weights, on the same noisy labels:

    one run     all photos for 3E epochs; its loss log, which costs nothing beside training
    held out    4 folds, each trained for E epochs without its photos, which it then judges: after the last
                epoch, and averaged over what it says after each epoch

low_loss, aum and confident read either; cleanlab reads the held-out probabilities, as its documentation asks.
Every score orders the photos, the same number is dropped, and what was really wrong is counted. Nothing that
trains or scores reads the truth. What is trained is kept under .aisle/bench/noise_found, and a second call
goes on from there: remove that folder after a change of training/. Exit code 1 where one of our rules, on the
one run, finds less than the best of cleanlab's scores on either evidence.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.metrics import average_precision_score
from tqdm import tqdm

from bench.noise_training import (
    NUM_FOLDS,
    Photos,
    Study,
    Training,
    held_out_evidence,
    load_held_out_logits,
    load_loss_log,
    load_photos,
    make_noisy,
    make_trainings,
    result_folder,
    train,
)
from catalog.refinement.confident import Confident, find_issues
from catalog.refinement.suspicion import SuspicionRule, suspicion

GROCERY = Path(os.environ.get("AISLE_DATASETS", "../shared/datasets")) / "grocery-store"
CLEANLAB_SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
CLEANLAB_CUT = "find_label_issues"
ONE_RUN, LAST, AVERAGED = "one run", "held out, last", "held out, mean"

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Order:
    """Photos in one order of suspicion."""

    side: str
    """ours or cleanlab."""
    score: str
    evidence: str
    suspicion: Floats
    """[N], higher is more suspicious."""
    named: npt.NDArray[np.bool_] | None = None
    """[N], the photos that the method itself would drop, where it says which."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an order finds in one study."""

    share: float
    side: str
    score: str
    evidence: str
    at_wrong: float
    """Precision when as many are dropped as are wrong; recall is then the same number."""
    average_precision: float
    """Area under precision over recall, at every number dropped."""
    precision: float
    """When as many are dropped as cleanlab's find_label_issues names."""
    recall: float
    num_dropped: int
    num_named: int | None
    """As many does the method itself drop; None where it only ranks."""
    named_precision: float | None
    named_recall: float | None


def run_all(trainings: list[Training], *, photos_root: Path, jobs: int) -> None:
    """Run what has no result yet, `jobs` at a time, each in a process of one thread."""
    todo = [training for training in trainings if not result_folder(training).exists()]
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(jobs, mp_context=context) as pool,
        tqdm(total=len(trainings), initial=len(trainings) - len(todo), unit="training") as bar,
    ):
        running = {pool.submit(train, training, photos_root=photos_root): training for training in todo}
        for future in as_completed(running):
            if future.exception() is not None:
                pool.shutdown(cancel_futures=True)  # do not train for half an hour before saying so
            future.result()
            bar.write(f"trained: {running[future].name()}")
            bar.update()


def our_orders(evidence: pl.DataFrame, *, name: str) -> Iterator[Order]:
    """The three rules' orders of one kind of evidence, and what `confident` itself would drop."""
    for rule in get_args(SuspicionRule):
        named = find_issues(evidence, method=Confident.method) if rule == "confident" else None
        score = suspicion(evidence, rule=rule)
        yield Order(side="ours", score=rule, evidence=name, suspicion=score, named=named)


def cleanlab_orders(
    probabilities: npt.NDArray[np.float64], *, labels: npt.NDArray[np.int64], name: str
) -> Iterator[Order]:
    """cleanlab's scores; and what it would drop first, then the others by the score that it ranks by."""
    for method in CLEANLAB_SCORES:
        quality = get_label_quality_scores(labels, probabilities, method=method)
        yield Order(side="cleanlab", score=method, evidence=name, suspicion=-quality)
    named = find_label_issues(labels, probabilities)
    score = named - get_label_quality_scores(labels, probabilities)
    yield Order(side="cleanlab", score=CLEANLAB_CUT, evidence=name, suspicion=score, named=named)


def judge(order: Order, *, share: float, is_wrong: npt.NDArray[np.bool_], num_dropped: int) -> Found:
    """Compare an order of the photos with the truth."""
    ranked = is_wrong[np.argsort(-order.suspicion, kind="stable")]
    num_wrong = int(is_wrong.sum())
    named = None if order.named is None else is_wrong[order.named]
    return Found(
        share=share,
        side=order.side,
        score=order.score,
        evidence=order.evidence,
        at_wrong=float(ranked[:num_wrong].mean()),
        average_precision=float(average_precision_score(is_wrong, order.suspicion)),
        precision=float(ranked[:num_dropped].mean()),
        recall=float(ranked[:num_dropped].sum() / num_wrong),
        num_dropped=num_dropped,
        num_named=None if named is None else len(named),
        named_precision=None if named is None else float(named.mean()),
        named_recall=None if named is None else float(named.sum() / num_wrong),
    )


def study_one(photos: Photos, study: Study, *, share: float, seed: int) -> list[Found]:
    """Everything that the trainings of one share and seed tell, judged."""
    noisy = make_noisy(photos, share=share, seed=seed)
    labels = noisy["class"].to_numpy().astype(np.int64)
    one_run, *folds = make_trainings(study, noisy=noisy, share=share, seed=seed)
    logits = load_held_out_logits(folds, noisy=noisy)
    probabilities = torch.from_numpy(logits).double().softmax(dim=2).numpy()
    orders = [
        *our_orders(load_loss_log(one_run, noisy=noisy), name=ONE_RUN),
        *our_orders(held_out_evidence(logits[-1:], noisy=noisy), name=LAST),
        *our_orders(held_out_evidence(logits, noisy=noisy), name=AVERAGED),
        *cleanlab_orders(probabilities[-1], labels=labels, name=LAST),
        *cleanlab_orders(probabilities.mean(axis=0), labels=labels, name=AVERAGED),
    ]
    num_dropped = int(find_label_issues(labels, probabilities[-1]).sum())
    is_wrong = noisy["is_wrong"].to_numpy()
    return [judge(order, share=share, is_wrong=is_wrong, num_dropped=num_dropped) for order in orders]


def average(found: list[Found]) -> pl.DataFrame:
    """Mean over the seeds, and half the range of the average precision."""
    rows = pl.DataFrame(found)
    keys = ["share", "side", "evidence", "score"]
    area = pl.col("average_precision")
    spread = ((area.max() - area.min()) / 2).alias("spread")
    return rows.group_by(keys, maintain_order=True).agg(pl.exclude(keys).mean(), spread)


def show(rows: pl.DataFrame, *, study: Study, num_photos: int, num_seeds: int) -> None:
    """Print one table for each share of wrong labels."""
    console = Console(width=140)
    one_run = f"{num_photos:,} photos x {study.epochs_of_one_run} epochs"
    console.print(
        f"{study.backbone} at {study.pixels} pixels from random weights; means of {num_seeds} seeds.\n"
        f"Training compute: one run {one_run}; {NUM_FOLDS} folds, each 3/4 of them x {study.epochs} epochs; "
        f"either way {num_photos * study.epochs_of_one_run:,} photos trained on. Judging held-out photos is "
        f"another {num_photos:,} forward passes, {num_photos * study.epochs:,} where averaged."
    )
    for (share,), group in rows.group_by("share", maintain_order=True):
        wrong, named = f"{round(share * num_photos):,}", f"{group['num_dropped'][0]:,.0f}*"
        table = Table(title=f"{share:.0%} wrong labels: {wrong} of {num_photos:,}", box=SIMPLE_HEAD)
        for column in ("score", "evidence"):
            table.add_column(column, no_wrap=True)
        for column in (
            f"precision\n= recall,\n{wrong} dropped",
            f"precision,\n{named}\ndropped",
            f"recall,\n{named}\ndropped",
            "average\nprecision,\n± half range",
            "own cut:\nprecision, recall\n(dropped)",
        ):
            table.add_column(column, justify="right", no_wrap=True)
        for row in group.iter_rows(named=True):
            own_cut = ""
            if row["num_named"] is not None:
                own_cut = f"{row['named_precision']:.3f}, {row['named_recall']:.3f} ({row['num_named']:,.0f})"
            table.add_row(
                f"{row['side']} {row['score']}",
                row["evidence"],
                *(f"{row[name]:.3f}" for name in ("at_wrong", "precision", "recall")),
                f"{row['average_precision']:.3f} ± {row['spread']:.3f}",
                own_cut,
            )
        console.print(table)
    console.print("* as many as cleanlab's find_label_issues names on its probabilities of the last epoch")


def check(rows: pl.DataFrame) -> bool:
    """Say whether each rule of ours, on the one run, finds as much as the best of all cleanlab's orders."""
    all_hold = True
    for (share,), group in rows.group_by("share", maintain_order=True):
        theirs = group.filter(side="cleanlab").sort("at_wrong").row(-1, named=True)
        for ours in group.filter(side="ours", evidence=ONE_RUN).iter_rows(named=True):
            holds = ours["at_wrong"] >= theirs["at_wrong"]
            all_hold &= holds
            print(
                f"{share:.0%} wrong: {ours['score']} on one run finds {ours['at_wrong']:.1%}, cleanlab at "
                f"best {theirs['at_wrong']:.1%} ({theirs['score']}, {theirs['evidence']}): "
                f"{'holds' if holds else 'DOES NOT HOLD'}"
            )
    return all_hold


def main() -> None:
    """Train what is not trained yet, judge all of it, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0.2, 0.4], help="shares of wrong labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, default=Study.epochs, help="E, of each fold")
    parser.add_argument("--pixels", type=int, default=Study.pixels)
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--root", type=Path, default=GROCERY, help="the Grocery Store Dataset")
    parser.add_argument("--quick", action="store_true", help="one share, one seed, 2 epochs at 32 pixels")
    options = parser.parse_args()
    study = Study(pixels=options.pixels, epochs=options.epochs)
    shares, seeds = options.shares, options.seeds
    if options.quick:
        study, shares, seeds = Study(pixels=32, epochs=2), [0.4], [0]
    photos = load_photos(options.root, pixels=study.pixels)
    cases = [(share, seed) for seed in seeds for share in shares]
    trainings = [
        training
        for share, seed in cases
        for training in make_trainings(
            study, noisy=make_noisy(photos, share=share, seed=seed), share=share, seed=seed
        )
    ]
    run_all(trainings, photos_root=options.root, jobs=options.jobs)
    found = [f for share, seed in sorted(cases) for f in study_one(photos, study, share=share, seed=seed)]
    rows = average(found)
    show(rows, study=study, num_photos=int((photos.table["split"] == "train").sum()), num_seeds=len(seeds))
    sys.exit(not (check(rows) or options.quick))


if __name__ == "__main__":
    main()
