"""One tiny real bundle behind the app; no setting of the person who runs the tests."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from recognition.recognizer import Recognizer
from service.app import create_app
from service.settings import Settings
from tests.tracking.tiny_bundle import make_bundle


@pytest.fixture(autouse=True)
def _no_settings_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AISLE_") or name == "MLFLOW_TRACKING_URI"]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def recognizer(bundle: Path) -> Recognizer:
    return Recognizer(bundle, precision="float32")


def wait_until_ready(client: TestClient) -> None:
    deadline = time.monotonic() + 60
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline, "the service does not get ready"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def client(bundle: Path) -> Iterator[TestClient]:
    """The service with small limits: 1 MiB a photo, 2 MiB a request, 4 photos."""
    settings = Settings(
        bundle=bundle,
        precision="float32",
        max_photo_mb=1,
        max_request_mb=2,
        max_photos_per_request=4,
        num_batchers=2,
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client
