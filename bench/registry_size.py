"""How long commands about a registry take: 1,000 runs and 200 versions in a store of MLflow's.

    python -m bench.registry_size [--runs 1000] [--versions 200] [--command versions]

Makes a project with such a store (SQLite; MLflow makes the tables, rows are inserted in bulk: recorded one
by one they would take half an hour), then times each command twice: as a process, as a person starts it, and
once more in a process that has imported everything. What lies between the two is imports.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from click.testing import CliRunner

import aisle
from tracking.store import Store

ROOT = Path(__file__).parent.parent
DATA, SIZE = "synthetic", "tiny"
RECIPES = ("plain", "loss_guided", "cascade", "two_heads")
CHILDREN = 14
"""Phases and members' evaluations below each pipeline."""
CURVE = 200
"""Points of each curve of a run."""
COMMANDS = ("results", "compare", "compare plain loss_guided --metric tail_top1_error")
ERRORS = ("mean", "head", "medium", "tail")


def make_project(folder: Path, *, num_runs: int, num_versions: int) -> None:
    """A project in `folder` whose store holds so many runs and versions."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "conf", folder / "conf")
    store = Store.at(folder)
    experiment = int(store.get_or_create_experiment(f"aisle-{DATA}"))
    store.client.create_registered_model(f"product-recognizer-{DATA}")
    engine = sql.create_engine(store.uri)
    tables = sql.MetaData()
    names = ["runs", "tags", "params", "metrics", "latest_metrics", "model_versions"]
    tables.reflect(engine, only=[*names, "model_version_tags", "registered_model_aliases"])
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in tables.tables}
    parents = _add_runs(rows, experiment=experiment, num_runs=num_runs)
    _add_versions(rows, parents=parents, num_versions=num_versions)
    with engine.begin() as connection:
        for name in (*names, "model_version_tags", "registered_model_aliases"):
            connection.execute(tables.tables[name].insert(), rows[name])
    engine.dispose()


def _add_runs(rows: dict[str, list[dict[str, Any]]], *, experiment: int, num_runs: int) -> list[str]:
    draw, parents = random.Random(0), list[str]()
    for number in range(num_runs):
        pipeline, child = divmod(number, CHILDREN + 1)
        recipe, seed = RECIPES[pipeline % len(RECIPES)], pipeline // len(RECIPES)
        kind = "pipeline" if child == 0 else "phase" if child <= CHILDREN - 3 else "member_evaluation"
        model = "ensemble" if child == 0 else f"member_{child}"
        run_id = uuid.UUID(int=draw.getrandbits(128)).hex
        parents += [run_id] if child == 0 else []
        name = f"{recipe}, seed {seed}, {SIZE}" if child == 0 else f"{recipe}/{model}"
        rows["runs"].append(
            {
                "run_uuid": run_id,
                "name": name,
                "status": "FINISHED",
                "source_type": "LOCAL",
                "start_time": 1_800_000_000_000 + number,
                "end_time": 1_800_000_000_000 + number,
                "lifecycle_stage": "active",
                "artifact_uri": f"file:///nowhere/{run_id}/artifacts",
                "experiment_id": experiment,
            }
        )
        tags = {
            "aisle.kind": kind,
            "aisle.recipe": recipe,
            "aisle.size": SIZE,
            "aisle.data": DATA,
            "aisle.seed": str(seed),
            "aisle.model": model,
            "aisle.inputs": json.dumps({f"data/photos/{index}": "0" * 32 for index in range(8)}),
            "mlflow.note.content": "| top-1 error | mean |\n" * 20,
            **({"mlflow.parentRunId": parents[-1]} if child else {}),
        }
        params = {f"optimizer.value_{index}": str(draw.random()) for index in range(20)}
        params["evaluation.split" if child == 0 else "split"] = "test"
        metrics = {f"test/{group}_top1_error": draw.random() for group in ERRORS} | {"num_photos": 150_000.0}
        rows["tags"] += [{"run_uuid": run_id, "key": key, "value": value} for key, value in tags.items()]
        rows["params"] += [{"run_uuid": run_id, "key": key, "value": value} for key, value in params.items()]
        for key, value in metrics.items():
            point = {
                "run_uuid": run_id,
                "key": key,
                "value": value,
                "timestamp": 0,
                "step": 0,
                "is_nan": False,
            }
            rows["latest_metrics"].append(point)
            rows["metrics"].append(point)
        rows["metrics"] += [
            {
                "run_uuid": run_id,
                "key": "train/step_loss",
                "value": draw.random(),
                "timestamp": step,
                "step": step,
                "is_nan": False,
            }
            for step in range(CURVE)
        ]
    return parents


def _add_versions(rows: dict[str, list[dict[str, Any]]], *, parents: list[str], num_versions: int) -> None:
    model = f"product-recognizer-{DATA}"
    for number in range(1, num_versions + 1):
        rows["model_versions"].append(
            {
                "name": model,
                "version": number,
                "creation_time": 1_800_000_000_000 + number,
                "last_updated_time": 1_800_000_000_000 + number,
                "current_stage": "None",
                "run_id": parents[number % len(parents)],
                "status": "READY",
                "description": "| recipe | plain |\n" * 40,
                "source": "file:///nowhere",
            }
        )
        tags = {
            "aisle.recipe": RECIPES[number % len(RECIPES)],
            "aisle.mean_top1_error": "0.1234",
            "aisle.git_commit": "c0ffee" * 6,
            "aisle.git_clean": "true",
            "aisle.registered_by": "anna",
            "aisle.bundle_digest": f"{number:064x}",
            "aisle.predictions_digest": f"{number:064x}",
            "aisle.evidence": f"version/{number:012x}",
        }
        rows["model_version_tags"] += [
            {"name": model, "version": number, "key": key, "value": value} for key, value in tags.items()
        ]
    for alias, number in (("challenger", num_versions), ("champion", max(1, num_versions - 1))):
        rows["registered_model_aliases"].append({"name": model, "version": number, "alias": alias})


def time_command(command: str, *, folder: Path) -> tuple[float, float, float]:
    """Seconds of a command as a process (wall, CPU) and in this process, which has imported everything."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment["PYTHONPATH"] = str(ROOT)
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "aisle", *command.split()],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        sys.exit(f"`aisle {command}` ended with {done.returncode}: {done.stdout}{done.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    os.chdir(folder)
    times = []
    for _ in range(2):  # the first one imports
        start = time.perf_counter()
        CliRunner().invoke(aisle.main, command.split(), catch_exceptions=False)
        times.append(time.perf_counter() - start)
    return wall, cpu, times[-1]


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--command", action="append", help="default: results and compare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        start = time.perf_counter()
        make_project(folder, num_runs=arguments.runs, num_versions=arguments.versions)
        print(
            f"{arguments.runs:,} runs, {arguments.versions} versions, "
            f"mlflow.db of {(folder / 'mlflow.db').stat().st_size / 1e6:.0f} MB, made in "
            f"{time.perf_counter() - start:.0f} s"
        )
        print(f"{'command':60} {'process s':>9} {'CPU s':>6} {'without imports s':>17}")
        for command in arguments.command or COMMANDS:
            wall, cpu, inside = time_command(command, folder=folder)
            print(f"{'aisle ' + command:60} {wall:9.2f} {cpu:6.2f} {inside:17.2f}")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
