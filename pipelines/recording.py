"""What stages record in MLflow: a phase, an evaluation, an exploration, each at its place in the pipeline.

Left out of the digests of stages' code: what is recorded changes no result.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines import paths
from pipelines.params import Params
from pipelines.parent_run import list_inputs, name_list, phase_params, phases_made, pipeline_run
from pipelines.runs import stage_run
from recognition.bundle import find_provenance
from tracking.lineage.origin import InputDataset, Lineage, locked_outs, read_lineage
from tracking.runs.note import make_note, summary_metrics
from tracking.runs.pipeline_run import NOTE_TAG
from tracking.runs.plots import plot_errors, plot_history
from tracking.runs.run_log import RunLog, add_to_pipeline
from tracking.runs.system_metrics import SystemMonitor
from tracking.store import find_store
from training.config import PhaseConfig

ENSEMBLE = "ensemble"

Errors = dict[str, float]


@contextmanager
def phase_run(
    params: Params, name: str, *, phase: PhaseConfig, deps: Mapping[str, str], mark: str, lineage: Lineage
) -> Iterator[RunLog]:
    """Record the phase's run: what it was made from, its whole configuration, and the machine while it runs.

    deps: what it is made from, by its use. mark: its fingerprint.
    """
    wiring = params.recipe.phases[name]
    distils = deps["teacher"] != deps["init"]
    order = ("list", "init", *(["teacher"] if distils else []), "photos", "splits", "phase", "code")
    settings = {"seed": params.seed, "phase": name, "list": wiring.list, "init": wiring.init}
    run = stage_run(
        params,
        name=name,
        kind="phase",
        settings={**settings, **({"teacher": wiring.teacher} if distils else {}), **phase_params(phase)},
        deps={use: deps[use] for use in order},
        lineage=lineage,
        mark=mark,
        tags={"aisle.phase": name, **find_provenance(Path(deps["init"]))[0].tags()},
    )
    with run, SystemMonitor(run.log_metrics):
        if not run.already_finished:
            run.log_artifact(Path(deps["phase"]), "configuration")
        yield run


def log_history(run: RunLog, history: Path, *, name: str) -> None:
    """Store the curve of a phase's losses and errors with its run."""
    if run.already_finished:
        return
    with tempfile.TemporaryDirectory() as folder:
        if plot := plot_history(history, out=Path(folder) / "history.png", title=name):
            run.log_artifact(plot, "plots")


def log_evaluation(
    params: Params, errors: Mapping[str, Errors], *, num_photos: int, phases: Mapping[str, str]
) -> None:
    """Record the errors of the ensemble on the pipeline's run, and those of each member in a run below it.

    phases: the fingerprint of each member's phase.
    """
    recipe, data, split = params.recipe, params.data.name, params.evaluation.split
    common = {"splits": paths.split_folder(data), "code": paths.code_digest("evaluate")}
    features = {name: paths.feature_bank(recipe.name, name) for name in phases}
    lineage = read_lineage(Path(), inputs=[*common.values(), *features.values()])
    for name, mark in phases.items():
        settings = {"model": name, "split": split, "seed": params.seed, "views": list(recipe.ensemble.views)}
        with stage_run(
            params,
            name=f"evaluation of {name}",
            kind="evaluation",
            settings=settings,
            deps={f"features {name}": features[name], **common},
            lineage=lineage,
            tags={
                "aisle.kind": "member_evaluation",
                "aisle.model": name,
                "aisle.members": json.dumps({name: mark}),
            },
        ) as run:
            run.log_metrics({f"{split}/{key}": value for key, value in errors[name].items()})
            run.log_metrics({"num_photos": num_photos})
    record_errors(params, errors, num_photos=num_photos, lineage=lineage)


def record_errors(params: Params, errors: Mapping[str, Errors], *, num_photos: int, lineage: Lineage) -> None:
    """Record on the pipeline's run what it came to, and finish it; a second time changes nothing."""
    split = str(params.evaluation.split)
    note = make_note(errors, lists=count_lists(params), num_photos=num_photos, split=split, lineage=lineage)
    phases, tags = phases_made(params), lineage.tags()
    # What only a program reads lies in a file: tags push metrics out of sight.
    origin = {"inputs": lineage.inputs, "code_digest": tags.pop("aisle.code_digest"), "phases": phases}
    del tags["aisle.inputs"]
    with (
        tempfile.TemporaryDirectory() as folder,
        add_to_pipeline(
            find_store(),
            pipeline_run(params),
            what="evaluation",
            closes=True,
            tags={**tags, NOTE_TAG: note},
            inputs=[*list_inputs(params), *_split_input(params, split=split)],
            children=list(phases.values()),
        ) as run,
    ):
        run.log_metrics(summary_metrics(errors, split=split))
        run.log_metrics({"num_photos": num_photos})
        for name, text in (
            ("params.json", params.model_dump_json(indent=1)),
            ("origin.json", json.dumps(origin, indent=1)),
        ):
            (Path(folder) / name).write_text(text + "\n", encoding="utf-8")
            run.log_artifact(Path(folder) / name, "configuration")
        if plot := plot_errors(
            errors, out=Path(folder) / "errors.png", title=f"{params.recipe.name}, {split}"
        ):
            run.log_artifact(plot, "plots")


def log_exploration(params: Params, *files: Path) -> None:
    """Store the report of photos, lists and refinements with the pipeline's run."""
    with add_to_pipeline(find_store(), pipeline_run(params), what="exploration") as run:
        for file in files:
            run.log_artifact(file, "exploration")


def count_lists(params: Params) -> dict[str, str]:
    """The lists that phases of the recipe are trained on, by name, as people read them."""
    names = dict.fromkeys(phase.list for phase in params.recipe.phases.values())
    return {name: name_list(paths.list_file(params.data.name, name)) for name in names}


def _split_input(params: Params, *, split: str) -> list[InputDataset]:
    path = paths.split_folder(params.data.name)
    md5 = locked_outs(Path()).get(path)
    return [InputDataset("splits", path=path, md5=md5, context=split)] if md5 else []
