"""Stage `train`: one phase, run as a job folder and tracked beside it.

`training` knows neither DVC nor MLflow: this module lays the job folder out of the stage's deps, calls what
`python -m training JOB_DIR` calls, and moves what it wrote to the stage's outs.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from catalog.splits import load_class_names, load_splits
from imaging.atomic_write import atomic_folder, atomic_write
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.stage import run_stage
from pipelines.weights import warn_of_licences
from recognition.bundle import find_provenance
from tracking.lineage import InputDataset, fingerprint, hash_inputs, read_lineage
from tracking.runs import RunLog, start_run
from tracking.store import find_root
from training.config import JobConfig, PhaseConfig, save_job
from training.config.objectives import DistillationConfig
from training.job import run_job
from training.launch import launch_job
from training.trainer import EpochMetrics


def load_phase(name: str) -> PhaseConfig:
    """The configuration that the stage `phases` wrote; ValueError where it has not run."""
    path = Path(paths.phase_config(name))
    if not path.exists():
        raise ValueError(
            f"Expected the configuration of phase {name} in {path}, found none. Run: dvc repro phases"
        )
    return TypeAdapter(PhaseConfig).validate_json(path.read_bytes())


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


def phase_fingerprint(params: Params, name: str, *, phase: PhaseConfig) -> str:
    """Hash of the phase's params, its inputs' md5 and the seed: equal wherever the same phase is run."""
    values = {
        "name": name,
        "phase": asdict(phase),
        "validation_split": params.evaluation.validation_split,
    }
    inputs = hash_inputs(Path(), list_deps(params, name).values())
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
    validation.select("photo_id", "class", "source_sha256").write_parquet(folder / "val.parquet")
    class_names, coarse_names = load_class_names(splits)
    job = JobConfig(
        name=name,
        seed=params.seed,
        phase=phase,
        class_names=tuple(class_names),
        coarse_names=tuple(coarse_names) if any(coarse_names) else (),
        fingerprint=mark,
        storage=params.data.storage,
    )
    save_job(folder / "job.json", job=job)
    return folder


def start_phase_run(params: Params, name: str, *, phase: PhaseConfig, mark: str) -> RunLog:
    """The phase's MLflow run, with what it was made from."""
    deps, wiring = list_deps(params, name), params.recipe.phases[name]
    if not isinstance(phase.objective, DistillationConfig):
        del deps["teacher"]  # which only repeats init
    origin = find_provenance(Path(deps["init"]))[0]
    lineage = read_lineage(Path(), inputs=deps.values())
    return start_run(
        find_root(),
        experiment=f"aisle-{params.data.name}",
        name=f"{params.recipe.name}/{name}",
        fingerprint=mark,
        params={
            "seed": params.seed,
            "phase": name,
            "list": wiring.list,
            "init": wiring.init,
            "teacher": wiring.teacher,
            **asdict(phase),
        },
        tags={
            "aisle.kind": "phase",
            "aisle.recipe": params.recipe.name,
            "aisle.size": params.size.name,
            "aisle.data": params.data.name,
            "aisle.phase": name,
            **origin.tags(),
            **lineage.tags(),
        },
        inputs=[
            InputDataset(name=use, path=path, md5=lineage.inputs[path], context=use)
            for use, path in deps.items()
        ],
    )


def replace(out: Path, *, made: Path) -> None:
    """Put a file or folder in the place of an older one; .aisle may lie on another disk than runs/."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if made.stat().st_dev == out.parent.stat().st_dev:
        if out.is_dir():
            shutil.rmtree(out)
        made.rename(out)
    elif made.is_dir():
        with atomic_folder(out) as folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
    else:
        with atomic_write(out) as file, made.open("rb") as source:
            shutil.copyfileobj(source, file)


def main(name: str) -> None:
    """Write runs/<name>/: bundle, loss_log.parquet and history.csv."""
    params = load_params()
    phase = load_phase(name)
    mark = phase_fingerprint(params, name, phase=phase)
    folder = make_job(params, name, phase=phase, mark=mark)
    warn_of_licences(f"Phase {name}", folder / "init", allowed=params.weights.allowed_licences)
    with start_phase_run(params, name, phase=phase, mark=mark) as run:

        def log(metrics: EpochMetrics) -> None:
            run.log_metrics(metrics.values, step=metrics.epoch)

        if phase.num_processes > 1:
            launch_job(folder, num_processes=phase.num_processes, on_epoch=log)
        else:
            run_job(folder, on_epoch=log)
    for out in (paths.phase_bundle(name), paths.loss_log(name), paths.history(name)):
        replace(Path(out), made=folder / Path(out).name)
    shutil.rmtree((folder / "checkpoint").resolve(), ignore_errors=True)
    shutil.rmtree(folder)


if __name__ == "__main__":
    run_stage(main)
