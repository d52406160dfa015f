"""Where tracking keeps its things, decided once: the project's root, MLflow's URI and the place of artifacts.

Importing this module switches usage telemetry off and makes a dead tracking server cost seconds instead of
minutes. Both are environment variables that MLflow and DVC read, so it has to happen before their import.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy import make_url

from tracking.project_store import ARTIFACTS, DATABASE, first_use, prepare, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default of 7 keeps a phase waiting for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

CONFIG_FILE = "conf/config.yaml"
_SERVERS = ("http://", "https://", "databricks", "uc:")
_patience_lock = threading.Lock()
_num_patient = 0
_opened: set[str] = set()  # databases whose tables exist, as this process has seen
_TRACES = ("params.yaml", "mlflow.db", ".aisle")


class TrackingError(RuntimeError):
    """The tracking store cannot do what was asked; the message says what to do."""


def find_workspace(start: Path | None = None) -> Path:
    """The folder of the pipeline that is being run: the first with dvc.yaml and conf/, from `start` upwards.

    A dvc.yaml alone may be that of somebody's data folder inside the project; it counts where no folder above
    is a whole project and there are traces of Aisle beside it. Raises FileNotFoundError when there is none.
    """
    try:
        start = (start or Path.cwd()).resolve()
    except FileNotFoundError:
        raise FileNotFoundError("the current folder no longer exists: cd into the project first") from None
    pipelines = [folder for folder in (start, *start.parents) if (folder / "dvc.yaml").is_file()]
    for folder in pipelines:
        if (folder / CONFIG_FILE).is_file():
            return folder
    for folder in pipelines:
        if any((folder / trace).exists() for trace in _TRACES):
            return folder
    raise FileNotFoundError(
        f"Expected to be in a project of Aisle, received {start}, which lies in none: no folder from it "
        f"upwards holds dvc.yaml and {CONFIG_FILE}. cd into the project first."
    )


def find_root(start: Path | None = None) -> Path:
    """The folder that owns mlflow.db and .aisle/: the workspace, or the repository around it.

    `dvc exp run --temp` runs in a copy below .dvc/tmp/exps that is deleted afterwards, so what must stay
    belongs to the repository outside. Raises FileNotFoundError when there is no dvc.yaml.
    """
    workspace = find_workspace(start)
    parts = workspace.parts
    for index in range(len(parts) - 3, 0, -1):
        if parts[index : index + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:index])
    return workspace


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI if it is set, else the SQLite file in `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root / DATABASE)


def is_own_store(root: Path) -> bool:
    """Whether the store is the SQLite file in `root`, however MLFLOW_TRACKING_URI spells it."""
    uri = tracking_uri(root)
    if not uri.startswith("sqlite"):
        return False
    database = make_url(uri).database
    return bool(database) and Path(database or "").resolve() == (root / DATABASE).resolve()


def shown_uri(root: Path) -> str:
    """The tracking URI for a message: without a password."""
    uri = tracking_uri(root)
    password = urlsplit(uri).password if "@" in uri else None
    return uri.replace(f":{password}@", ":***@") if password else uri


def artifact_root(root: Path) -> Path | None:
    """The local folder for artifacts, or None when a server decides where they lie."""
    if tracking_uri(root).startswith(_SERVERS):
        return None
    return root.resolve() / ARTIFACTS


def make_client(root: Path) -> MlflowClient:
    """An MLflow client on the project's store; a database is made by the first client, one process at a time.

    Raises one of `send_errors` where a database can be neither made nor opened.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # else the first use prints 60 migrations
    import mlflow

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    uri = tracking_uri(root)
    # Artifacts and models are resolved through MLflow's global URI, whatever client asked for them. MLflow
    # sets variables as well, which would pass for the user's when this process turns to another project.
    given = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for name, value in given.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if is_own_store(root):
        prepare(root)
    elif not uri.startswith(_SERVERS) and uri not in _opened:
        with first_use(root):
            mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
        _opened.add(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)  # opens the store, and would make it


def get_or_create_experiment(client: MlflowClient, *, root: Path, name: str) -> str:
    """The id of the experiment `name`, created with its artifacts under `artifact_root` when missing."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        folder = artifact_root(root)
        location = None if folder is None else (folder / name).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise error
    return str(experiment.experiment_id)


def send_errors() -> tuple[type[Exception], ...]:
    """The exceptions that mean "the request failed": MLflow's own, the network's, the database's."""
    import sqlite3

    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, OSError, SQLAlchemyError, CommandError, sqlite3.Error)


def serve_ui(root: Path, *, host: str, port: int) -> None:
    """Become MLflow's UI on the project's store: this process is replaced and does not return.

    Raises TrackingError when the store is a server, which has a UI of its own.
    """
    folder = artifact_root(root)
    if folder is None:
        raise TrackingError(f"MLFLOW_TRACKING_URI names a server with a UI of its own: {shown_uri(root)}")
    with explain_failure(root, doing="open MLflow's UI"):
        make_client(root).search_experiments(max_results=1)  # makes the store if it is not there yet
    # Its job runners serve MLflow's evaluation of language models: two processes nobody here needs.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    store = ["--backend-store-uri", tracking_uri(root), "--default-artifact-root", folder.as_uri()]
    address = ["--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *store, *address])


@contextmanager
def patience(seconds: int = 600) -> Iterator[None]:
    """Wait longer than usual for the server's answer, for files that it first has to pass on.

    Leaves the timeout alone where the user has set one. Several threads may be in it at once.
    """
    global _num_patient
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    usual = _ENVIRONMENT[name]
    with _patience_lock:
        _num_patient += 1
        if os.environ.get(name) == usual:
            os.environ[name] = str(seconds)
    try:
        yield
    finally:
        with _patience_lock:
            _num_patient -= 1
            if _num_patient == 0 and os.environ.get(name) == str(seconds):
                os.environ[name] = usual


@contextmanager
def explain_failure(root: Path, *, doing: str) -> Iterator[None]:
    """Turn a failure of the store into a TrackingError that says what was being done and what to do."""
    try:
        yield
    except FileNotFoundError:  # ours, not the store's, though an OSError as well
        raise
    except send_errors() as error:
        raise TrackingError(
            f"cannot {doing}: the request to MLflow at {shown_uri(root)} failed ({first_line(error)}); "
            f"{_what_to_do(root)}, and run the same command again"
        ) from error


def _what_to_do(root: Path) -> str:
    if not is_own_store(root):
        return "start the server, or correct or unset MLFLOW_TRACKING_URI"
    return (
        f"free space, or correct the permissions, where the disk is the reason; where {DATABASE} is damaged, "
        "restore it from a backup or move it away, and `aisle register` registers the ensemble in a new one"
    )


def first_line(error: Exception) -> str:
    """The part of an error message that fits into one sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
