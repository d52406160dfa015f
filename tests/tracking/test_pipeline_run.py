"""The run of a pipeline: who makes it, what stands under it, when it is over."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.conftest import find_run
from tracking.experiment_view import EXPERIMENT_TAGS
from tracking.lineage.origin import InputDataset
from tracking.runs.pipeline_run import PARENT_TAG, PipelineRun
from tracking.runs.run_log import RunLog, add_to_pipeline, start_run, sync
from tracking.runs.system_metrics import SystemMonitor
from tracking.store import Store

NOWHERE = "http://127.0.0.1:9"
PIPELINE = PipelineRun(
    experiment="aisle-tiny",
    name="plain, seed 0, tiny",
    fingerprint="p0",
    params={"recipe": "plain"},
    tags={"aisle.kind": "pipeline", "aisle.recipe": "plain"},
)
BEGIN_A_PHASE = """
import sys
from pathlib import Path
from tests.tracking.test_pipeline_run import phase
sys.stdin.readline()
phase(Path(sys.argv[1]), sys.argv[2]).end()
"""


def phase(root: Path, name: str, *, pipeline: PipelineRun = PIPELINE) -> RunLog:
    return start_run(
        Store.at(root),
        experiment="aisle-tiny",
        name=f"plain/{name}",
        fingerprint=f"fingerprint-{name}",
        params={},
        tags={"aisle.kind": "phase"},
        parent=pipeline,
    )


def runs(root: Path) -> dict[str, Any]:
    client = Store.at(root).client
    experiment = client.get_experiment_by_name("aisle-tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert len({run.info.run_name for run in found}) == len(found)
    return {run.info.run_name: run for run in found}


def test_the_first_stage_makes_the_parent_and_the_evaluation_finishes_it(root: Path) -> None:
    phase(root, "a").end()
    parent = runs(root)["plain, seed 0, tiny"]
    assert parent.info.status == "RUNNING"
    assert parent.data.params == {"recipe": "plain"}
    with add_to_pipeline(Store.at(root), PIPELINE, what="evaluation", closes=True) as run:
        run.log_metrics({"test/mean_top1_error": 0.25})
    found = runs(root)
    assert set(found) == {"plain, seed 0, tiny", "plain/a"}
    assert found["plain/a"].data.tags[PARENT_TAG] == parent.info.run_id
    assert found["plain, seed 0, tiny"].info.status == "FINISHED"
    assert found["plain, seed 0, tiny"].data.metrics == {"test/mean_top1_error": 0.25}


def test_an_exploration_is_added_to_a_finished_pipeline_and_leaves_it_finished(root: Path) -> None:
    (root / "report.html").write_text("<p>")
    add_to_pipeline(Store.at(root), PIPELINE, what="evaluation", closes=True).end()
    with add_to_pipeline(Store.at(root), PIPELINE, what="exploration") as run:
        run.log_artifact(root / "report.html", "exploration")
    (parent,) = runs(root).values()
    assert parent.info.status == "FINISHED"
    (file,) = Store.at(root).client.list_artifacts(parent.info.run_id, "exploration")
    assert file.path == "exploration/report.html"


def test_a_second_evaluation_corrects_the_errors_and_repeats_none(root: Path) -> None:
    for value in (0.5, 0.5, 0.4):
        with add_to_pipeline(Store.at(root), PIPELINE, what="evaluation", closes=True) as run:
            run.log_metrics({"test/mean_top1_error": value})
    history = Store.at(root).client.get_metric_history(str(run.run_id), "test/mean_top1_error")
    assert sorted(metric.value for metric in history) == [0.4, 0.5]


def test_two_processes_that_begin_at_once_make_one_parent(root: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BEGIN_A_PHASE, str(root), name],
            stdin=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for name in ("a", "b")
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    found = runs(root)
    parent = found.pop("plain, seed 0, tiny")
    assert {run.data.tags[PARENT_TAG] for run in found.values()} == {parent.info.run_id}
    assert len(found) == 2


def test_a_parent_of_phases_that_ran_without_a_server_is_made_when_they_are_sent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    for name in ("a", "b"):
        phase(root, name).end()
    with add_to_pipeline(Store.at(root), PIPELINE, what="evaluation", closes=True) as run:
        run.log_metrics({"test/mean_top1_error": 0.5})
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(Store.at(root)).num_sent == 3
    found = runs(root)
    parent = found["plain, seed 0, tiny"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {"test/mean_top1_error": 0.5}
    assert {found[f"plain/{name}"].data.tags[PARENT_TAG] for name in "ab"} == {parent.info.run_id}


def test_a_failed_phase_fails_its_pipeline_and_going_on_opens_it_again(root: Path) -> None:
    phase(root, "a").end("FAILED")
    assert runs(root)["plain, seed 0, tiny"].info.status == "FAILED"
    phase(root, "a").end()
    assert runs(root)["plain, seed 0, tiny"].info.status == "RUNNING"


def test_a_changed_pipeline_has_a_parent_of_its_own_and_takes_no_child_away(root: Path) -> None:
    other = PipelineRun(**{**PIPELINE.to_event(), "fingerprint": "p1", "name": "plain, seed 1, tiny"})
    phase(root, "a").end()
    phase(root, "b", pipeline=other).end()
    children = ["fingerprint-a", "fingerprint-b", "fingerprint-that-nobody-has"]
    add_to_pipeline(Store.at(root), other, what="evaluation", closes=True, children=children).end()
    found = runs(root)
    assert found["plain/a"].data.tags[PARENT_TAG] == found["plain, seed 0, tiny"].info.run_id
    assert found["plain/b"].data.tags[PARENT_TAG] == found["plain, seed 1, tiny"].info.run_id


def test_phases_recorded_before_pipelines_had_runs_are_put_under_theirs(root: Path) -> None:
    start_run(
        Store.at(root), experiment="aisle-tiny", name="plain/a", fingerprint="old", params={}, tags={}
    ).end()
    add_to_pipeline(Store.at(root), PIPELINE, what="evaluation", closes=True, children=["old"]).end()
    found = runs(root)
    assert found["plain/a"].data.tags[PARENT_TAG] == found["plain, seed 0, tiny"].info.run_id


def test_a_note_is_replaced_unless_a_person_wrote_it(root: Path) -> None:
    ours = "0.5\n\n*Written by Aisle. Remove this line to keep a text of your own.*"

    def evaluate(note: str) -> str:
        tags = {"mlflow.note.content": note}
        run = add_to_pipeline(Store.at(root), PIPELINE, what="evaluation", tags=tags)
        run.end()
        stored = Store.at(root).client.get_run(str(run.run_id)).data.tags["mlflow.note.content"]
        return str(stored)

    assert evaluate(ours) == ours
    assert evaluate(ours.replace("0.5", "0.4")).startswith("0.4")
    parent = find_run(Store.at(root), fingerprint="p0") or next(iter(runs(root).values())).info.run_id
    Store.at(root).client.set_tag(parent, "mlflow.note.content", "do not promote, anna")
    assert evaluate(ours) == "do not promote, anna"


def test_experiments_are_of_model_development_also_those_from_before(root: Path) -> None:
    Store.at(root).client.create_experiment("aisle-old")
    for name in ("aisle-old", "aisle-new", "aisle-new"):
        Store.at(root).get_or_create_experiment(name)
        experiment = Store.at(root).client.get_experiment_by_name(name)
        assert experiment is not None
        assert EXPERIMENT_TAGS.items() <= experiment.tags.items()


def test_inputs_keep_their_order_and_runs_say_who_and_how(root: Path) -> None:
    names = ["low_loss (1,204 photos)", "init", "photos", "splits"]
    start_run(
        Store.at(root),
        experiment="aisle-tiny",
        name="x",
        fingerprint="x",
        params={},
        tags={},
        inputs=[
            InputDataset(name, path=name, md5=str(i) * 32, context="train") for i, name in enumerate(names)
        ],
    ).end()
    run = runs(root)["x"]
    assert [used.dataset.name for used in run.inputs.dataset_inputs] == names
    assert run.data.tags["mlflow.user"]
    assert "/" not in run.data.tags["mlflow.source.name"]


def test_system_metrics_have_mlflows_names_and_a_dead_recorder_hurts_nobody() -> None:
    seen: list[tuple[dict[str, float], int]] = []
    with SystemMonitor(lambda values, step: seen.append((dict(values), step)), seconds=0.2):
        while len(seen) < 2:
            pass_time()
    values, step = seen[0]
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= set(values)
    assert 0 < values["system/system_memory_usage_percentage"] <= 100
    assert seen[1][1] > step

    def fail(values: object, step: int) -> None:
        raise OSError("no room")

    with SystemMonitor(fail, seconds=0.01):
        pass


def pass_time() -> None:
    import time

    time.sleep(0.05)
