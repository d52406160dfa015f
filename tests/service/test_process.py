"""The service as a process of its own, as `aisle serve` starts it."""

import os
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import httpx
import pytest

from recognition.recognizer import Recognizer
from tests.tracking.tiny_bundle import draw_photo

SERVE = "from service.app import serve; from service.settings import Settings; serve(Settings())"


def _raw(port: int, *pieces: bytes, hang_up: bool) -> bytes:
    """Send pieces of a request, then hang up or go silent; what the server says until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if hang_up:
            connection.shutdown(socket.SHUT_WR)
        reply = b""
        try:
            while received := connection.recv(65536):
                reply += received
        except ConnectionResetError:
            pass
        return reply


def _check_bodies_that_do_not_end(port: int) -> None:
    """No photo is answered of a body shorter than announced, cut off, or without an end."""
    photo = b'--B\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n' + draw_photo(1)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    announced = b"Content-Length: %d\r\n\r\n"
    whole = photo + b"\r\n--B--\r\n"
    silent = _raw(port, head, announced % (len(whole) + 1), whole, hang_up=False)
    assert silent.startswith(b"HTTP/1.1 408 ")
    assert b"then nothing for 0.5 s" in silent
    cut_off = _raw(port, head, b"Connection: close\r\n", announced % len(photo), photo, hang_up=False)
    assert cut_off.startswith(b"HTTP/1.1 400 ")
    assert b"lacks its final boundary" in cut_off
    left = _raw(port, head, announced % len(whole), photo, hang_up=True)
    assert b"predictions" not in left
    chunk = b"%x\r\n%b\r\n" % (len(photo), photo)
    endless = _raw(port, head, b"Transfer-Encoding: chunked\r\n\r\n", chunk, hang_up=False)
    assert endless.startswith(b"HTTP/1.1 408 ")


def _check_that_a_chunked_body_is_bounded(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=B"}
    pieces = (bytes(64 * 1024) for _ in range(20))  # 1.25 MiB, the limit is 1
    first = b'--B\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
    reply = client.post("/predict", content=chain([first], pieces), headers=headers)
    assert (reply.status_code, reply.json()["error"]) == (413, "request_too_large")


def test_a_real_server_gets_ready_answers_bounds_its_bodies_and_stops(
    bundle: Path, recognizer: Recognizer
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"AISLE_BUNDLE": str(bundle), "AISLE_PORT": str(port), "AISLE_PRECISION": "float32"}
    settings |= {"AISLE_MAX_SILENCE_S": "0.5", "AISLE_MAX_REQUEST_MB": "1"}
    process = subprocess.Popen([sys.executable, "-c", SERVE], env={**os.environ, **settings})
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_until_ready(client, process)
            photos = [("photos", (f"{seed}.jpg", draw_photo(seed))) for seed in range(3)]
            results = client.post("/predict", files=photos).json()["results"]
            _check_that_a_chunked_body_is_bounded(client)
        _check_bodies_that_do_not_end(port)
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
