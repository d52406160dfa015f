"""Runs recorded through servers that die, answer late, or lose answers: every value once and in order."""

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.slow_proxy import slow_proxy
from tests.servers import free_port, mlflow_server
from tracking.project import TrackingError
from tracking.project_store import sqlite_uri
from tracking.runs import sending
from tracking.runs.known_metrics import KnownMetrics
from tracking.runs.run_log import RunLog, start_run, sync
from tracking.runs.sender import Sender
from tracking.runs.spool import Spool
from tracking.store import Store

Serve = Callable[[], Any]


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory, new_store: Path) -> Serve:
    """Start the same MLflow server, on the same port and database, as often as it is called."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    backend = sqlite_uri(Path(shutil.copyfile(new_store, folder / "server.db")))

    @contextmanager
    def start() -> Iterator[str]:
        with mlflow_server(folder, backend=backend, port=port) as uri:
            yield uri

    return start


def _start(store: Store, *, fingerprint: str = "f1") -> RunLog:
    return start_run(
        store, experiment="aisle-tiny", name="plain", fingerprint=fingerprint, params={"lr": 0.1}, tags={}
    )


def _runs(store: Store) -> list[Any]:
    ids = [experiment.experiment_id for experiment in store.client.search_experiments()]
    return list(store.client.search_runs(ids))


def _history(store: Store, key: str = "train/loss") -> list[tuple[int, float]]:
    (run,) = _runs(store)
    return [(metric.step, metric.value) for metric in store.client.get_metric_history(run.info.run_id, key)]


def _wait_until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.mark.e2e
def test_a_server_that_dies_and_is_back_has_every_value_once_and_in_order(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS_BETWEEN_SENDS", 0.05)
    with serve() as uri:
        store = Store(root, uri)
        run = _start(store)
        run.log_metrics({"train/loss": 0.0}, step=0)
        _wait_until(lambda: bool(_runs(store)) and _history(store) == [(0, 0.0)])
    for step in range(1, 40):  # the server is killed, as the context ends
        started = time.monotonic()
        run.log_metrics({"train/loss": float(step)}, step=step)
        assert time.monotonic() - started < 0.5  # a refused request takes up to a second, a hanging one ten
        time.sleep(0.02)
    with serve():
        _wait_until(lambda: len(_history(store)) == 40)  # by the thread itself
        run.log_metrics({"train/loss": 40.0}, step=40)
        run.end()
        assert _history(store) == [(step, float(step)) for step in range(41)]
        assert _runs(store)[0].info.status == "FINISHED"
        assert not list(store.spools.iterdir())


@pytest.mark.e2e
def test_lost_answers_make_no_second_run_value_or_artifact(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "SECONDS_BETWEEN_SENDS", 0.05)
    monkeypatch.setattr(sending, "_FIRST_RETRY", 0.05)
    # MLflow's client asks again by itself: then the server has carried out both requests.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    seen: Counter[str] = Counter()

    def lose_the_first_two(method: str, path: str) -> bool:
        name = path.partition("?")[0]
        seen[name] += method != "GET" and "search" not in name
        return 0 < seen[name] <= 2

    (root / "table.csv").write_text("a\n")
    with serve() as uri, slow_proxy(uri, lose_answer=lose_the_first_two) as proxy:
        run = _start(Store(root, proxy))
        run.log_artifact(root / "table.csv")
        for step in range(20):
            run.log_metrics({"train/loss": float(step), "lr": 0.1}, step=step)
            time.sleep(0.02)
        run.log_metrics({"test/error": 0.25})
        _wait_until(lambda: run.run_id is not None)
        run.end()
        while sync(Store(root, proxy)).num_left:  # the end asks twice, then leaves it in the spool
            assert sum(seen.values()) < 200
        direct = Store(root, uri)
        assert _history(direct) == [(step, float(step)) for step in range(20)]
        assert len(_history(direct, "lr")) == 20
        assert _history(direct, "test/error") == [(0, 0.25)]
        (found,) = _runs(direct)
        assert found.info.status == "FINISHED"
        assert [item.path for item in direct.client.list_artifacts(found.info.run_id)] == ["table.csv"]
    lost = [name.rsplit("/", 1)[-1] for name, count in seen.items() if count >= 2]
    assert {"create", "log-batch", "update"} <= set(lost)


@pytest.mark.e2e
def test_a_slow_server_delays_no_record_and_the_end_only_for_a_bounded_time(
    root: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracking.runs.run_log._SECONDS_AT_END", 1.0)
    with serve() as uri, slow_proxy(uri, seconds=2.0) as proxy:
        store = Store(root, proxy)
        longest = 0.0
        started = time.monotonic()
        run = _start(store)
        for step in range(200):
            before = time.monotonic()
            run.log_metrics({"train/loss": float(step)}, step=step)
            longest = max(longest, time.monotonic() - before)
        assert time.monotonic() - started < 2.0  # not one answer long
        assert longest < 0.5
        before = time.monotonic()
        run.end()
        assert time.monotonic() - before < 1.5
        # The thread goes on as long as the process lives.
        direct = Store(root, uri)
        _wait_until(lambda: bool(_runs(direct)) and _runs(direct)[0].info.status == "FINISHED", seconds=90)
        _wait_until(lambda: not list(store.spools.iterdir()))
        assert _history(direct) == [(step, float(step)) for step in range(200)]


def test_a_run_that_was_deleted_while_it_was_recorded_is_recorded_again(root: Path) -> None:
    store, spool = Store.at(root), Spool.open(Store.at(root).spools, fingerprint="f1")
    begin = {"experiment": "e", "name": "x", "fingerprint": "f1", "params": {}, "inputs": []}
    spool.append({"event": "begin", "time": 1, **begin, "tags": {"aisle.fingerprint": "f1"}})
    spool.append({"event": "metrics", "step": 1, "time": 2, "values": {"train/loss": 1.0}})
    sender = Sender(store, spool=spool)
    while sender.send_next():
        pass
    store.client.delete_run(sender.run_id)
    spool.append({"event": "metrics", "step": 2, "time": 3, "values": {"train/loss": 2.0}})
    with pytest.raises(Exception, match="Current state is deleted"):
        sender.send_next()
    while sender.send_next():
        pass
    assert _history(store) == [(1, 1.0), (2, 2.0)]
    spool.close()


def test_a_resumed_run_with_a_history_of_many_pages_repeats_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.tracking._tracking_service.client.GET_METRIC_HISTORY_MAX_RESULTS", 100)
    store = Store.at(root)
    first = _start(store)
    for step in range(1001):
        first.log_metrics({"train/loss": float(step)}, step=step)
    first.end("FAILED")
    with _start(store) as second:
        for step in range(900, 1100):
            second.log_metrics({"train/loss": float(step)}, step=step)
    assert _history(store) == [(step, float(step)) for step in range(1100)]


def test_events_are_read_by_offset_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracking.runs.spool._BYTES_PER_READ", 64)
    spool = Spool.open(tmp_path, fingerprint="f")
    events = [{"event": "metrics", "step": step, "values": {"a" * (step * 20): 1.0}} for step in range(1, 12)]
    for event in events:
        spool.append(event)
    assert len(spool.read()) == 1  # 64 bytes at least, and one event at least
    offset, read = 0, []
    while piece := spool.read(offset):
        read += [event for event, _ in piece]
        offset = piece[-1][1]
    assert read == events
    assert offset == spool.path.stat().st_size
    spool.close()


def test_a_damaged_line_is_passed_over_and_its_file_kept(root: Path) -> None:
    store = Store.at(root)
    run = _start(store)
    run.log_metrics({"train/loss": 1.0}, step=1)
    run.end("KILLED")
    spool = Spool.open(store.spools, fingerprint="f2")
    begin = {"experiment": "e", "name": "x", "fingerprint": "f2", "params": {}, "inputs": [], "tags": {}}
    spool.append({"event": "begin", "time": 1, **begin, "tags": {"aisle.fingerprint": "f2"}})
    spool.close()
    with spool.path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n")
        file.write(
            json.dumps({"event": "metrics", "step": 7, "time": 2, "values": {"a": 1.0}}).encode() + b"\n"
        )
    assert sync(store).num_sent == 1
    assert [path.name for path in store.spools.iterdir()] == ["f2.damaged"]
    (found,) = [run for run in _runs(store) if "a" in run.data.metrics]
    assert found.data.metrics["a"] == 1.0


def test_a_phase_that_is_resumed_while_others_send_what_it_left_gets_its_spool(root: Path) -> None:
    store = Store.at(root)
    left = Spool.open(store.spools, fingerprint="f1")
    left.append({"event": "begin"})
    left.close()
    (sent,) = list(Spool.left_over(store.spools))
    opened: list[Spool] = []
    thread = threading.Thread(target=lambda: opened.append(Spool.open(store.spools, fingerprint="f1")))
    thread.start()
    _wait_until(lambda: sent.is_wanted)
    assert not opened
    sent.close()
    thread.join(10)
    (mine,) = opened
    assert [event for event, _ in mine.read()] == [{"event": "begin"}]
    with pytest.raises(TrackingError, match="only process"):
        Spool.open(store.spools, fingerprint="f1")
    mine.remove()
    assert not list(store.spools.iterdir())


def test_an_artifact_is_sent_as_it_was_when_it_was_logged(root: Path) -> None:
    store = Store.at(root)
    (root / "table.csv").write_text("first\n")
    with _start(store) as run:
        run.log_artifact(root / "table.csv")
        (root / "table.csv").write_text("second\n")  # as a stage writes its out again
    path = store.client.download_artifacts(str(run.run_id), "table.csv")
    assert Path(path).read_text() == "first\n"


def test_known_metrics_take_eight_bytes_a_value_and_forget_none() -> None:
    known = KnownMetrics()
    for step in (1, 2, 3, 7, 5):
        known.add("a", step=step, time=step, value=1.0)
    assert [step for step in range(9) if known.has("a", step=step, time=99, value=0.0)] == [1, 2, 3, 5, 7]
    assert not known.has("b", step=1, time=1, value=1.0)
    known.add("b", step=None, time=5, value=float("nan"))
    assert known.has("b", step=None, time=6, value=float("nan"))
    assert not known.has("b", step=None, time=6, value=1.0)
    assert known.has("b", step=None, time=5, value=1.0)  # the same event, sent again
