"""The errors of every evaluated recipe, side by side, from MLflow: what `aisle results` prints."""

from __future__ import annotations

from tracking.runs.pipeline_run import PIPELINE
from tracking.runs.records import RunRecord, read_runs
from tracking.store import Store

_COLUMNS = (
    "mean_top1_error",
    "top1_error",
    "top5_error",
    "head_top1_error",
    "medium_top1_error",
    "tail_top1_error",
)
ENSEMBLE = "ensemble"
EVALUATED = (PIPELINE, "evaluation", "member_evaluation")
"""Runs with errors on the evaluation split; `evaluation` was an ensemble's before pipelines had runs."""
_NUM_TEXTS = 4


def make_table(store: Store, *, data: str) -> str:
    """A table of the latest evaluation of each recipe, size, seed and model; errors in percent.

    Raises TrackingError when the store cannot be reached.
    """
    rows = latest(read_runs(store, experiment=f"aisle-{data}", kinds=EVALUATED))
    if not rows:
        return f"Nothing was evaluated on {data} yet. Run: dvc repro"
    head = ("recipe", "size", "seed", "model", "photos", *(name.removesuffix("_error") for name in _COLUMNS))
    return f"Errors on {data}, percent:\n" + lay_out([head, *map(_cells, rows)], num_texts=_NUM_TEXTS)


def latest(runs: list[RunRecord]) -> list[RunRecord]:
    """The newest finished evaluation of each model, sorted, the ensemble after its members."""
    newest: dict[tuple[str, str, str, str], RunRecord] = {}
    for run in runs:
        if run.status == "FINISHED" and "num_photos" in run.metrics:
            newest.setdefault(_key(run), run)

    def place(key: tuple[str, str, str, str]) -> tuple[object, ...]:
        recipe, size, seed, model = key
        return size, recipe, len(seed), seed, model == ENSEMBLE, model

    return [newest[key] for key in sorted(newest, key=place)]


def lay_out(lines: list[tuple[str, ...]], *, num_texts: int) -> str:
    """A table with a line under its head; the first columns to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    printed = [
        "  ".join(
            cell.ljust(width) if column < num_texts else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([printed[0], "-" * max(map(len, printed)), *printed[1:]])


def split_of(run: RunRecord) -> str:
    """The evaluation split of a run with errors."""
    return run.params.get("evaluation.split") or run.params.get("split", "")


def _key(run: RunRecord) -> tuple[str, str, str, str]:
    tags = run.tags
    seed = tags.get("aisle.seed") or run.params.get("seed", "")
    return tags.get("aisle.recipe", ""), tags.get("aisle.size", ""), seed, tags.get("aisle.model", "")


def _cells(run: RunRecord) -> tuple[str, ...]:
    errors = (run.metrics.get(f"{split_of(run)}/{name}") for name in _COLUMNS)
    return (
        *_key(run),
        f"{run.metrics['num_photos']:,.0f}",
        *("-" if error is None else f"{100 * error:.2f}" for error in errors),
    )
