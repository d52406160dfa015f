"""A `python` and a `dvc` that start in milliseconds, for a `dvc repro` of many small stages.

A stage of a shrunken recipe computes for a second and imports for five. One process here imports the heavy
packages once and is forked for every `python ...` that is run with its folder first on PATH. The fork has the
caller's arguments, folder, environment, files and signals, and imports the project's code from the caller's
folder, so a stage runs as it does alone. No thread runs before the fork.
"""

import atexit
import contextlib
import importlib
import json
import os
import runpy
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGES = (
    "accelerate",
    "dvc.repo",
    "hydra",
    "imagehash",
    "matplotlib.pyplot",
    "mlflow.artifacts",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "polars",
    "pyarrow.parquet",
    "pydantic",
    "safetensors.torch",
    "scipy.sparse.csgraph",
    "scipy.stats",
    "timm",
    "torch",
    "torchvision",
)
CLIENT = '''#!{python} -IS
"""Run a command line of Python in a fork of the process that listens at the socket."""
import array, json, os, signal, socket, sys
if sys.argv[1:2] != ["-m"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = {{"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)}}
order = json.dumps(order).encode()
files = array.array("i", [0, 1, 2])
server.sendmsg([len(order).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
server.sendall(order)
answers = server.makefile("rb")
child = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.kill(child, number))
sys.exit(int(answers.readline() or b"1"))
'''


@contextlib.contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """Make `folder`/bin/python and bin/dvc while the block runs; returns the folder to put first on PATH."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    short = tempfile.TemporaryDirectory()  # an address has 107 characters at most
    address = str(Path(short.name) / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    client = folder / "bin/python"
    client.write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    dvc = folder / "bin/dvc"
    dvc.write_text(f'#!/bin/sh\nexec {shlex.quote(str(client))} -m dvc "$@"\n', encoding="utf-8")
    for script in (client, dvc):
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    handle = listener.fileno()
    command = [sys.executable, __file__, str(handle), str(os.getpid())]
    server = subprocess.Popen(command, pass_fds=[handle])
    listener.close()
    try:
        yield folder / "bin"
    finally:
        server.terminate()
        server.wait()
        short.cleanup()


def _serve(listener: socket.socket, parent: int) -> None:
    """Import, then fork for every caller while the parent lives; a fork waits for its own fork's end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the stage that runs
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for name in PACKAGES:
        importlib.import_module(name)
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            caller, _ = listener.accept()
        except TimeoutError:
            continue
        caller.settimeout(None)
        if os.fork() == 0:
            listener.close()
            _watch(caller)
        caller.close()


def _watch(caller: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(caller, 8, 3)
    stream = caller.makefile("rb")
    order = json.loads(stream.read(int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        caller.close()
        _run(order, files=files)
    for number in files:
        os.close(number)
    with contextlib.suppress(OSError):  # the caller may have been killed
        caller.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        caller.sendall(f"{abs(os.waitstatus_to_exitcode(status))}\n".encode())
    os._exit(0)


def _run(order: dict[str, Any], *, files: list[int]) -> None:
    """Be `python -m module argument...` in the caller's place."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path[0] = order["folder"]
    sys.argv = ["", *order["arguments"][1:]]
    code = 0
    try:
        runpy.run_module(order["arguments"][0], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        code = _exit_code(stop.code)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _exit_code(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
