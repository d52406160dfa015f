"""A stage's run in MLflow: what every one says of the experiment and of what it was made from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.params import Params
from tracking.lineage.origin import InputDataset, Lineage, fingerprint, read_lineage
from tracking.runs.run_log import RunLog, start_run
from tracking.store import find_store


def stage_run(
    params: Params,
    *,
    name: str,
    kind: str,
    settings: Mapping[str, Any],
    deps: Mapping[str, str],
    lineage: Lineage | None = None,
    mark: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> RunLog:
    """Start the run `<recipe>/<name>` of a stage; use it as a context manager.

    settings: what MLflow shows as the run's parameters. deps: paths of what it was made from, by their use.
    lineage: one that was read before, of these paths and perhaps more; read here otherwise. mark: the
    fingerprint by which the run is found; that of settings, inputs and seed otherwise. tags: further ones,
    which win.
    """
    known = lineage or read_lineage(Path(), inputs=deps.values())
    known = replace(known, inputs={path: known.inputs[path] for path in deps.values()})
    return start_run(
        find_store(),
        experiment=f"aisle-{params.data.name}",
        name=f"{params.recipe.name}/{name}",
        fingerprint=mark or fingerprint({kind: settings}, inputs=known.inputs, seed=params.seed),
        params=settings,
        tags={
            "aisle.kind": kind,
            "aisle.recipe": params.recipe.name,
            "aisle.size": params.size.name,
            "aisle.data": params.data.name,
            **known.tags(),
            **(tags or {}),
        },
        inputs=[
            InputDataset(name=use, path=path, md5=known.inputs[path], context=kind)
            for use, path in deps.items()
        ],
    )
