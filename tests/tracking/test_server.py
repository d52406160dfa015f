"""Tracking against a real MLflow server that dies in the middle, started as `aisle ui` starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recognition.bundle import digest
from tests.tracking.conftest import find_run
from tracking.project import TrackingError
from tracking.registry.registration import Registered
from tracking.registry.versions import download, load_candidate
from tracking.runs.run_log import start_run, sync
from tracking.store import Store, serve_ui

SERVE = (
    "import sys; from pathlib import Path; from tracking.store import Store, serve_ui;"
    "serve_ui(Store.at(Path(sys.argv[1])), host='127.0.0.1', port=int(sys.argv[2]))"
)
START_SECONDS = 90


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _server(folder: Path, port: int) -> Iterator[None]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(folder), str(port)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: nobody else's process is in it
        process.wait()


def test_a_run_survives_its_server_and_arrives_whole_when_it_is_back(
    root: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    register: Callable[..., Registered],
) -> None:
    remote, port = tmp_path_factory.mktemp("remote"), _free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with _server(remote, port):
        run = start_run(
            Store.at(root),
            experiment="aisle-tiny",
            name="plain",
            fingerprint="f1",
            params={"lr": 0.1},
            tags={},
        )
        run.log_metrics({"train/loss": 3.0}, step=1)
        assert run.run_id is not None
    started = time.monotonic()
    for step in (2, 3, 4):
        run.log_metrics({"train/loss": 4.0 - step}, step=step)
    run.end()
    assert time.monotonic() - started < 15
    assert [record.name for record in caplog.records].count("aisle.tracking") == 1
    with _server(remote, port):
        assert sync(Store.at(root)).num_sent == 1
        assert find_run(Store.at(root), fingerprint="f1") == run.run_id
        history = Store.at(root).client.get_metric_history(str(run.run_id), "train/loss")
        assert [(item.step, item.value) for item in history] == [(1, 3.0), (2, 2.0), (3, 1.0), (4, 0.0)]
        _check_registry_over_http(root, register, monkeypatch)


def _check_registry_over_http(
    root: Path, register: Callable[..., Registered], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register().version
    bundle = download(Store.at(root), version=version)
    assert digest(bundle) == version.bundle_digest
    assert load_candidate(Store.at(root), version=version).trained_on.is_file()
    with pytest.raises(TrackingError, match="a UI of its own"):
        serve_ui(Store.at(root), host="127.0.0.1", port=1)
