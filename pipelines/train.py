"""Stage `train`: one phase, run as a job folder and tracked beside it.

`training` knows neither DVC nor MLflow: this module lays the job folder out of the stage's deps, calls what
`python -m training JOB_DIR` calls, and moves what it wrote to the stage's outs.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from catalog.content import CONTENT
from catalog.splits import load_class_names, load_splits
from contracts.lists import LIST
from imaging.atomic_write import move_into_place
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.recording import log_history, phase_run
from pipelines.stage import run_stage
from pipelines.weights import warn_of_licences
from tracking.lineage.origin import fingerprint, read_lineage
from tracking.project import find_root
from training.config import JobConfig, PhaseConfig, save_job
from training.config.objectives import DistillationConfig
from training.job import run_job
from training.launch import launch_job
from training.progress import EpochMetrics, StepMetrics


def load_phase(name: str) -> PhaseConfig:
    """The configuration that the stage `phases` wrote; ValueError where it has not run."""
    path = Path(paths.phase_config(name))
    if not path.exists():
        raise ValueError(
            f"Expected the configuration of phase {name} in {path}, found none. Run: dvc repro phases"
        )
    return PhaseConfig.model_validate_json(path.read_bytes())


def list_deps(params: Params, name: str) -> dict[str, str]:
    """What the phase is made from, by its use: the stage's deps in dvc.yaml."""
    phase = params.recipe.phases[name]
    return {
        "code": paths.code_digest("train"),
        "photos": paths.photo_store(params.data.name),
        "splits": paths.split_folder(params.data.name),
        "phase": paths.phase_config(name),
        "list": paths.list_file(params.data.name, phase.list),
        "init": paths.phase_bundle(phase.init),
        "teacher": paths.phase_bundle(phase.teacher),
    }


def phase_fingerprint(params: Params, name: str, *, phase: PhaseConfig, inputs: Mapping[str, str]) -> str:
    """Hash of the phase's params, its inputs' md5 and the seed: equal wherever the same phase is run."""
    values = {
        "name": name,
        "phase": phase.model_dump(mode="json"),
        "validation_split": params.evaluation.validation_split,
    }
    return fingerprint(values, inputs=inputs, seed=params.seed)


def make_job(params: Params, name: str, *, phase: PhaseConfig, mark: str) -> Path:
    """Lay out the job folder of a phase; photos, list, first weights and checkpoints are links."""
    folder, deps = Path(".aisle/jobs") / name, list_deps(params, name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    links = {"photos": deps["photos"], "list.parquet": deps["list"], "init": deps["init"]}
    if isinstance(phase.objective, DistillationConfig):
        links["teacher"] = deps["teacher"]
    for link, target in links.items():
        (folder / link).symlink_to(Path(target).resolve())
    checkpoints = find_root() / ".aisle/checkpoints" / mark
    checkpoints.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").symlink_to(checkpoints)
    splits = Path(paths.split_folder(params.data.name))
    # Where nothing is watched no photo is: eq_missing, because a photo's split is never null.
    watched = pl.col("split").eq_missing(params.evaluation.validation_split)
    validation = load_splits(splits).filter(watched, pl.col("class").is_not_null())
    why = pl.lit(f"split {params.evaluation.validation_split}").alias("why")
    LIST.write(folder / "val.parquet", validation.select("photo_id", "class", why, *CONTENT))
    class_names, coarse_names = load_class_names(splits)
    job = JobConfig(
        name=name,
        seed=params.seed,
        phase=phase,
        class_names=tuple(class_names),
        coarse_names=tuple(coarse_names) if any(coarse_names) else (),
        fingerprint=mark,
        needs_init=True,
        storage=params.data.storage,
    )
    save_job(folder / "job.json", job=job)
    return folder


def main(name: str) -> None:
    """Write runs/<name>/: bundle, loss_log.parquet and history.csv."""
    params = load_params()
    phase = load_phase(name)
    lineage = read_lineage(Path(), inputs=list_deps(params, name).values())
    mark = phase_fingerprint(params, name, phase=phase, inputs=lineage.inputs)
    folder = make_job(params, name, phase=phase, mark=mark)
    warn_of_licences(f"Phase {name}", folder / "init", allowed=params.weights.allowed_licences)
    deps = list_deps(params, name)
    with phase_run(params, name, phase=phase, deps=deps, mark=mark, lineage=lineage) as run:

        def log(metrics: EpochMetrics) -> None:
            run.log_metrics(metrics.values | {"epoch": metrics.epoch}, step=metrics.step)

        def log_step(metrics: StepMetrics) -> None:
            run.log_metrics(metrics.values, step=metrics.step)

        if phase.num_processes > 1:
            launch_job(folder, num_processes=phase.num_processes, on_epoch=log, on_step=log_step)
        else:
            run_job(folder, on_epoch=log, on_step=log_step)
        log_history(run, folder / Path(paths.history(name)).name, name=name)
    for out in (paths.phase_bundle(name), paths.loss_log(name), paths.history(name)):
        # .aisle may lie on another disk than runs/.
        move_into_place(folder / Path(out).name, to=Path(out))
    shutil.rmtree((folder / "checkpoint").resolve(), ignore_errors=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    run_stage(main)
