"""Servers that tests start: `mlflow server` as it starts by default, and a PostgreSQL cluster of Debian's.

Each listens on 127.0.0.1 on a free port, is waited for no longer than START_SECONDS, and is ended by its own
process id. tests/tracking/test_servers.py shows their use.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_SECONDS = 300
POSTGRES_MISSING = "PostgreSQL is not installed: apt-get install --no-install-recommends postgresql"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(folder: Path, *, backend: str, port: int | None = None) -> Iterator[str]:
    """`mlflow server` on a database, with artifacts proxied out of folder/artifacts; yields its URI.

    port: where one that was killed is to be there again; a free one by default.
    """
    port = port or free_port()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": backend,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, start_new_session=True, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(f"http://127.0.0.1:{port}/health"):
            said = (folder / "server.log").read_text()
            assert process.poll() is None, f"the server ended: {said}"
            assert time.monotonic() < deadline, f"the server does not answer: {said}"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: nobody else's process is in it
        process.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).read()
    except OSError:
        return False
    return True


@contextmanager
def postgres() -> Iterator[str]:
    """A new cluster of PostgreSQL; yields the SQLAlchemy URI of its empty database.

    Where it is not installed the test is skipped, in CI (CI=true) it fails. PostgreSQL refuses root: started
    as root it runs as Debian's user postgres.
    """
    programs = _find_postgres()
    if programs is None and os.environ.get("CI") == "true":
        pytest.fail(POSTGRES_MISSING)
    if programs is None:
        pytest.skip(POSTGRES_MISSING)
    folder = Path(tempfile.mkdtemp(prefix="aisle-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*as_user, str(programs / program), "--pgdata", str(folder / "data"), *arguments],
            cwd=folder,
            stdout=subprocess.DEVNULL,  # no pipe: the server would keep it open
            stderr=(folder / "errors").open("w"),
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, (folder / "errors").read_text()

    port = free_port()
    try:
        run("initdb", "--auth=trust", "--username=aisle", "--no-sync", "--encoding=UTF8", "--locale=C")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        run(
            "pg_ctl",
            "start",
            "-w",
            "-t",
            str(START_SECONDS),
            "-o",
            options,
            "-l",
            str(folder / "data" / "log"),
        )
        try:
            yield f"postgresql+psycopg://aisle@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_postgres() -> Path | None:
    """The folder of initdb and pg_ctl; Debian's is outside of PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    folders += [Path(on_path).resolve().parent] if on_path else []
    return next((folder for folder in folders if (folder / "pg_ctl").is_file()), None)
