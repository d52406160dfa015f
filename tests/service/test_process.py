"""The service as a process of its own, as `aisle serve` starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from recognition.recognizer import Recognizer
from tests.tracking.tiny_bundle import draw_photo

SERVE = "from service.app import serve; from service.settings import Settings; serve(Settings())"


def test_a_real_server_gets_ready_answers_and_stops(bundle: Path, recognizer: Recognizer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"AISLE_BUNDLE": str(bundle), "AISLE_PORT": str(port), "AISLE_PRECISION": "float32"}
    process = subprocess.Popen([sys.executable, "-c", SERVE], env={**os.environ, **settings})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_until_ready(client, process)
            photos = [("photos", (f"{seed}.jpg", draw_photo(seed))) for seed in range(3)]
            results = client.post("/predict", files=photos).json()["results"]
        expected = recognizer.predict([draw_photo(seed) for seed in range(3)])
        assert [result["predictions"][0]["sku"] for result in results] == [
            answer.predictions[0].name for answer in expected
        ]
        assert results[0]["predictions"][0]["probability"] == pytest.approx(
            expected[0].predictions[0].probability, abs=1e-5
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not get ready"
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
