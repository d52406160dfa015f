"""What a person reads first of a pipeline's run in MLflow: the few metrics that decide, and a short table."""

from __future__ import annotations

from collections.abc import Mapping

from tracking.lineage.origin import Lineage
from tracking.runs.pipeline_run import NOTE_END

ENSEMBLE = "ensemble"
CLASS_SIZES = ("mean", "head", "medium", "tail")

Errors = Mapping[str, float]


def summary_metrics(errors: Mapping[str, Errors], *, split: str) -> dict[str, float]:
    """The metrics of a pipeline's run: all errors of the ensemble, one of each member, never one of a class.

    The ensemble's have the names that they have everywhere (`test/mean_top1_error`), so that columns of runs
    compare like with like; the members' come after them in MLflow's order, which is that of the alphabet.
    """
    metrics = {f"{split}/{key}": value for key, value in errors[ENSEMBLE].items()}
    for name, values in errors.items():
        if name != ENSEMBLE and "mean_top1_error" in values:
            metrics[f"{split}_members/mean_top1_error/{name}"] = values["mean_top1_error"]
    return metrics


def error_table(errors: Mapping[str, Errors]) -> str:
    """Errors by class size in percent, a row for the ensemble and one for each member, in markdown."""
    names = [ENSEMBLE, *(name for name in errors if name != ENSEMBLE)]
    rows = [("top-1 error, %", *CLASS_SIZES), ("---", *("---:" for _ in CLASS_SIZES))]
    for name in names:
        values = [errors[name].get(f"{size}_top1_error") for size in CLASS_SIZES]
        rows.append((name, *("-" if value is None else f"{100 * value:.2f}" for value in values)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def describe_commit(*, commit: str, clean: bool) -> str:
    """A commit as notes and cards name it."""
    if not commit or commit == "none":
        return "without a commit"
    return f"commit `{commit[:10]}`" + ("" if clean else ", with uncommitted changes")


def make_note(
    errors: Mapping[str, Errors], *, lists: Mapping[str, str], num_photos: int, split: str, lineage: Lineage
) -> str:
    """The description of a pipeline's run; `lists` names each list with its number of photos."""
    members = [name for name in errors if name != ENSEMBLE]
    return "\n\n".join(
        [
            error_table(errors) if errors[ENSEMBLE] else "Nothing was evaluated.",
            f"On {num_photos:,} photos of the split {split}. Members: {', '.join(members)}.",
            f"Lists: {', '.join(lists.values())}.",
            f"From {describe_commit(commit=lineage.commit, clean=lineage.clean)}.",
            NOTE_END,
        ]
    )
