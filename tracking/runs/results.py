"""The errors of every evaluated recipe, side by side, from MLflow: what `aisle results` prints."""

from __future__ import annotations

from typing import Any

from tracking.store import Store

_COLUMNS = (
    "mean_top1_error",
    "top1_error",
    "top5_error",
    "head_top1_error",
    "medium_top1_error",
    "tail_top1_error",
)
_ENSEMBLE = "ensemble"


def make_table(store: Store, *, data: str) -> str:
    """A table of the latest evaluation of each recipe, size and model; errors in percent.

    Raises TrackingError when the store cannot be reached.
    """
    rows = _latest(store, data=data)
    if not rows:
        return f"Nothing was evaluated on {data} yet. Run: dvc repro"
    head = ("recipe", "size", "model", "photos", *(name.removesuffix("_error") for name in _COLUMNS))
    lines = [head, *(_cells(run) for run in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    printed = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([f"Errors on {data}, percent:", printed[0], "-" * len(printed[0]), *printed[1:]])


def _latest(store: Store, *, data: str) -> list[Any]:
    with store.explain_failure(doing=f"look up the evaluations of {data}"):
        experiment = store.client.get_experiment_by_name(f"aisle-{data}")
        if experiment is None:
            return []
        runs = store.client.search_runs(
            [experiment.experiment_id],
            filter_string="tags.`aisle.kind` LIKE '%evaluation' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1000,
        )
    newest: dict[tuple[str, str, str], Any] = {}
    for run in runs:
        newest.setdefault(_key(run), run)
    return [
        newest[key] for key in sorted(newest, key=lambda key: (key[1], key[0], key[2] == _ENSEMBLE, key[2]))
    ]


def _key(run: Any) -> tuple[str, str, str]:
    tags = run.data.tags
    return tags["aisle.recipe"], tags["aisle.size"], tags["aisle.model"]


def _cells(run: Any) -> tuple[str, ...]:
    metrics, split = run.data.metrics, run.data.params["split"]
    errors = (metrics.get(f"{split}/{name}") for name in _COLUMNS)
    return (
        *_key(run),
        f"{metrics['num_photos']:,.0f}",
        *("-" if error is None else f"{100 * error:.2f}" for error in errors),
    )
