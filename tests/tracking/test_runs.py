import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracking.conftest import find_run
from tracking.lineage.origin import InputDataset
from tracking.project import TrackingError
from tracking.runs.run_log import RunLog, SyncReport, flatten, start_run, sync
from tracking.runs.spool import Spool
from tracking.store import Store

TAGS = {"aisle.kind": "phase", "aisle.recipe": "plain", "aisle.data": "tiny", "aisle.phase": "plain"}
NOWHERE = "http://127.0.0.1:9"


def _start(root: Path, *, fingerprint: str = "f1", inputs: list[InputDataset] | None = None) -> RunLog:
    return start_run(
        Store.at(root),
        experiment="aisle-tiny",
        name="plain",
        fingerprint=fingerprint,
        params={"lr": 0.1, "optimizer": {"name": "sgd"}},
        tags=TAGS,
        inputs=inputs or [],
    )


def _history(root: Path, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in Store.at(root).client.get_metric_history(run_id, key)]


def _spools(root: Path) -> list[Path]:
    return list(Store.at(root).spools.glob("*"))


def test_a_finished_run_holds_params_tags_metrics_inputs_and_artifacts(root: Path) -> None:
    md5 = "0123456789abcdef0123456789abcdef.dir"
    (root / "table.csv").write_text("a\n")
    with _start(root, inputs=[InputDataset("photos", "data/photos/tiny", md5, "train")]) as run:
        run.log_metrics({"train/loss": 2.0}, step=1)
        run.log_metrics({"train/loss": 1.5}, step=2)
        run.log_artifact(root / "table.csv", "contracts")
    run_id = find_run(Store.at(root), fingerprint="f1")
    assert run_id is not None
    found = Store.at(root).client.get_run(run_id)
    assert found.data.params == {"lr": "0.1", "optimizer.name": "sgd"}
    assert found.data.tags["aisle.fingerprint"] == "f1"
    assert found.info.run_name == "plain"
    assert found.inputs.dataset_inputs[0].dataset.digest == md5
    assert _history(root, run_id, "train/loss") == [(1, 2.0), (2, 1.5)]
    assert Path(found.info.artifact_uri.removeprefix("file://"), "contracts/table.csv").read_text() == "a\n"
    assert str(root / "mlartifacts") in found.info.artifact_uri
    assert _spools(root) == []


def test_a_finished_run_is_found_and_not_doubled(root: Path) -> None:
    for value in (1.0, 9.0):
        with _start(root) as run:
            run.log_metrics({"val/loss": value}, step=1)
    assert run.already_finished
    experiment = Store.at(root).client.get_experiment_by_name("aisle-tiny")
    assert len(Store.at(root).client.search_runs([experiment.experiment_id])) == 1
    assert _history(root, str(run.run_id), "val/loss") == [(1, 1.0)]


def test_a_failed_run_is_not_found_and_is_continued_without_doubling_its_metrics(root: Path) -> None:
    first = _start(root)
    first.log_metrics({"train/loss": 2.0}, step=1)
    first.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert find_run(Store.at(root), fingerprint="f1") is None
    assert Store.at(root).client.get_run(str(first.run_id)).info.status == "FAILED"
    with _start(root) as second:
        second.log_metrics({"train/loss": 2.1}, step=1)  # a GPU repeats a step only nearly
        second.log_metrics({"train/loss": 1.0}, step=2)
    assert second.run_id == first.run_id == find_run(Store.at(root), fingerprint="f1")
    assert _history(root, str(second.run_id), "train/loss") == [(1, 2.0), (2, 1.0)]


def test_a_metric_without_a_step_may_be_corrected_when_a_run_goes_on(root: Path) -> None:
    for value, status in ((0.5, "FAILED"), (0.5, "FAILED"), (0.4, "FINISHED")):
        run = _start(root)
        run.log_metrics({"test/top1_error": value})
        run.end(status)  # type: ignore[arg-type]
    assert sorted(value for _, value in _history(root, str(run.run_id), "test/top1_error")) == [0.4, 0.5]


def test_a_killed_process_leaves_a_run_that_the_next_one_continues(root: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tracking.runs.run_log import start_run\n"
        "from tracking.store import Store\n"
        "run = start_run(Store.at(Path(sys.argv[1])), experiment='aisle-tiny', name='plain',"
        " fingerprint='f1', params={}, tags={})\n"
        "for step in range(50): run.log_metrics({'train/loss': 50.0 - step}, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    spool = Store.at(root).spools / "f1.jsonl"
    spool.write_bytes(spool.read_bytes() + b'{"event": "metr')  # the line it was writing
    with _start(root) as run:
        run.log_metrics({"train/loss": 1.0}, step=49)  # the checkpoint was older: told again
        run.log_metrics({"train/loss": 0.0}, step=50)
    assert _history(root, str(run.run_id), "train/loss") == [(s, 50.0 - s) for s in range(51)]


def test_sync_closes_the_run_of_a_killed_process_and_sends_what_it_had(root: Path) -> None:
    spool = Spool.open(Store.at(root).spools, fingerprint="f2")
    begin = {"experiment": "aisle-tiny", "name": "x", "fingerprint": "f2", "time": 1, "params": {}}
    spool.append({"event": "begin", **begin, "tags": {"aisle.fingerprint": "f2"}, "inputs": []})
    spool.append({"event": "metrics", "step": 3, "time": 2, "values": {"train/loss": math.inf}})
    assert sync(Store.at(root)).num_sent == 0  # held by a living process
    spool.close()
    assert sync(Store.at(root)) == SyncReport(num_sent=1, num_left=0, reason="")
    experiment = Store.at(root).client.get_experiment_by_name("aisle-tiny")
    (run,) = Store.at(root).client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    assert run.data.metrics["train/loss"] > 1e300


def test_two_processes_cannot_record_the_same_run(root: Path) -> None:
    with _start(root), pytest.raises(TrackingError, match="only process"):
        _start(root)


def test_a_dead_server_costs_one_line_and_sync_sends_everything_later(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    table = root / "table.csv"
    table.write_text("a\n")
    with _start(root) as run:
        for step in range(3):
            run.log_metrics({"train/loss": float(step)}, step=step)
        run.log_artifact(table)
    table.unlink()  # DVC deletes an out before its stage runs again
    lines = [record.getMessage() for record in caplog.records if record.name == "aisle.tracking"]
    assert len(lines) == 1
    assert f"request to MLflow at {NOWHERE} failed" in lines[0]
    assert run.run_id is None
    assert sync(Store.at(root)).num_left == 1
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(Store.at(root)).num_sent == 1
    run_id = find_run(Store.at(root), fingerprint="f1")
    assert run_id is not None
    assert _history(root, run_id, "train/loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert [item.path for item in Store.at(root).client.list_artifacts(run_id)] == ["table.csv"]
    assert _spools(root) == []


def test_the_next_stage_sends_what_an_earlier_one_could_not(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    _start(root, fingerprint="earlier").end()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    _start(root, fingerprint="later").end()
    assert find_run(Store.at(root), fingerprint="earlier") is not None


def test_parameters_are_flattened_and_cut_at_what_mlflow_takes() -> None:
    flat = flatten({"a": {"b": 1, "c": [1, "x"], "d": None, "e": {}}, "f": True, "g": "y" * 7000})
    long = flat.pop("g")
    assert flat == {"a.b": "1", "a.c": '[1, "x"]', "a.d": "null", "a.e": "{}", "f": "true"}
    assert len(long) == 6000
    assert long.endswith("... (7000 characters)")


def test_three_hundred_parameters_and_two_thousand_metrics_fit_into_the_calls(root: Path) -> None:
    params = {f"p{index}": index for index in range(300)}
    run = start_run(
        Store.at(root), experiment="aisle-tiny", name="x", fingerprint="big", params=params, tags={}
    )
    for step in range(2000):
        run.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
    run.end()
    assert len(Store.at(root).client.get_run(str(run.run_id)).data.params) == 300
    assert len(_history(root, str(run.run_id), "train/loss")) == 2000
