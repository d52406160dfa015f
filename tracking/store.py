"""Where tracking keeps its things, decided once: the project's root, MLflow's URI and the place of artifacts.

Importing this module switches usage telemetry off and makes a dead tracking server cost seconds instead of
minutes. Both are environment variables that MLflow and DVC read, so it has to happen before their import.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

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


class TrackingError(RuntimeError):
    """The tracking store cannot do what was asked; the message says what to do."""


def find_workspace(start: Path | None = None) -> Path:
    """The folder of the pipeline that is being run: the first with a dvc.yaml, from `start` upwards.

    Raises FileNotFoundError when there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in [start, *start.parents]:
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"no dvc.yaml in {start} or above it; run this inside a checkout of the project (cd into it first)"
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
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root.resolve() / 'mlflow.db'}"


def artifact_root(root: Path) -> Path | None:
    """The local folder for artifacts, or None when a server decides where they lie."""
    if tracking_uri(root).startswith(("http://", "https://", "databricks", "uc:")):
        return None
    return root.resolve() / "mlartifacts"


def make_client(root: Path) -> MlflowClient:
    """An MLflow client on the project's store; a SQLite store is created at its first use."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # else the first use prints 60 migrations
    import mlflow

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    uri = tracking_uri(root)
    # Artifacts and models are resolved through MLflow's global URI, whatever client asked for them.
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


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
    """The exceptions that mean "the store did not take it": MLflow's own, the network's, the database's."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, OSError, SQLAlchemyError)


def serve_ui(root: Path, *, host: str, port: int) -> None:
    """Become MLflow's UI on the project's store: this process is replaced and does not return.

    Raises TrackingError when the store is a server, which has a UI of its own.
    """
    folder = artifact_root(root)
    if folder is None:
        raise TrackingError(f"MLFLOW_TRACKING_URI names a server with a UI of its own: {tracking_uri(root)}")
    make_client(root).search_experiments(max_results=1)  # makes the store if it is not there yet
    # Its job runners serve MLflow's evaluation of language models: two processes nobody here needs.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    store = ["--backend-store-uri", tracking_uri(root), "--default-artifact-root", folder.as_uri()]
    address = ["--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *store, *address])


@contextmanager
def patience(seconds: int = 600) -> Iterator[None]:
    """Wait longer than usual for the server's answer, for files that it first has to pass on.

    Leaves the timeout alone where the user has set one.
    """
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    usual = os.environ[name]
    if usual == _ENVIRONMENT[name]:
        os.environ[name] = str(seconds)
    try:
        yield
    finally:
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
            f"cannot {doing}: MLflow at {tracking_uri(root)} does not do it ({first_line(error)}); start the "
            "server, or correct or unset MLFLOW_TRACKING_URI, and run the same command again"
        ) from error


def first_line(error: Exception) -> str:
    """The part of an error message that fits into one sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
