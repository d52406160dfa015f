"""A stage's run in MLflow: what every one says of the experiment and of what it was made from."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.params import Params
from pipelines.parent_run import name_list, pipeline_run
from tracking.lineage.origin import InputDataset, Lineage, fingerprint, read_lineage
from tracking.runs.run_log import RunLog, start_run
from tracking.store import find_store

_CODE = "code"


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
    """Start the run `<recipe>/<name>` of a stage, under its pipeline's; use it as a context manager.

    settings: what MLflow shows as the run's parameters. deps: paths of what it was made from, by their use,
    that which decides most first; a list is named with its number of photos, code is a tag and no data set.
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
            "aisle.seed": str(params.seed),
            **({"aisle.code": known.inputs[deps[_CODE]]} if _CODE in deps else {}),
            **known.tags(),
            **(tags or {}),
        },
        inputs=[
            _to_input(use, path, md5=known.inputs[path], kind=kind)
            for use, path in deps.items()
            if use != _CODE
        ],
        parent=pipeline_run(params),
    )


def _to_input(use: str, path: str, *, md5: str, kind: str) -> InputDataset:
    if Path(path).parent.parent == Path("data/lists"):
        return InputDataset(name_list(path), path=path, md5=md5, context="train")
    return InputDataset(use, path=path, md5=md5, context=kind)
