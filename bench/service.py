"""`aisle serve` in a process of its own on a free port of this machine, for demo and measurements."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

SECONDS_TO_START = 120


@contextmanager
def running_service(*arguments: str) -> Iterator[httpx.Client]:
    """Start `aisle serve`, yield a client once it is ready, end it by its own process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["aisle", "serve", "--port", str(port), *arguments]
    print(f"\n$ {' '.join(command)} &", flush=True)
    service = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            _wait_until_ready(client, service)
            yield client
    finally:
        service.send_signal(signal.SIGINT)
        service.wait(timeout=30)
        print(f"$ kill -INT {service.pid}   # the service has ended")


def _wait_until_ready(client: httpx.Client, service: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and service.poll() is None:
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    sys.exit("The service did not become ready; its message stands above.")
