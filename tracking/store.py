"""The MLflow store of a project: found once by whoever starts, then handed down as one object.

Whoever holds a `Store` has its client and its folders: nothing below looks at the environment or for the
project again.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy import make_url

from tracking.experiment_view import EXPERIMENT_TAGS, VIEW_QUERY
from tracking.project import ENVIRONMENT, TrackingError, find_root
from tracking.project_store import ARTIFACTS, DATABASE, first_use, prepare, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SERVERS = ("http://", "https://", "databricks", "uc:")
_making_client = threading.RLock()
_patience_lock = threading.Lock()
_num_patient = 0


@dataclass(frozen=True)
class Store:
    """Where the project in `root` records runs and versions; `uri` is MLflow's name for it."""

    root: Path
    uri: str

    @classmethod
    def at(cls, root: Path) -> Store:
        """The store of the project in `root`: MLFLOW_TRACKING_URI if set, else the SQLite file there."""
        root = root.resolve()
        return cls(root, uri=os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(root / DATABASE))

    @property
    def is_own(self) -> bool:
        """Whether it is the SQLite file in `root`, however MLFLOW_TRACKING_URI spells it."""
        database = make_url(self.uri).database if self.uri.startswith("sqlite") else None
        return database is not None and Path(database).resolve() == (self.root / DATABASE).resolve()

    @property
    def shown_uri(self) -> str:
        """The URI for a message: without a password."""
        password = urlsplit(self.uri).password if "@" in self.uri else None
        return self.uri.replace(f":{password}@", ":***@") if password else self.uri

    @property
    def artifacts(self) -> Path | None:
        """The local folder for artifacts, or None when a server decides where they lie."""
        return None if self.uri.startswith(_SERVERS) else self.root / ARTIFACTS

    @property
    def spools(self) -> Path:
        """Where events wait for the store (tracking/runs/spool.py)."""
        return self.root / ".aisle" / "spool"

    @property
    def downloads(self) -> Path:
        """Where files that are not on this machine are downloaded to."""
        return self.root / ".aisle" / "models"

    @property
    def client(self) -> MlflowClient:
        """MLflow's client; a database is made by the first one, one process at a time.

        Raises one of `send_errors` where a database can be neither made nor opened.
        """
        _make_current(self.uri)
        return self.run_client

    @property
    def run_client(self) -> MlflowClient:
        """The client for experiments and runs, which any thread may use: no variable of the process is set.

        Raises as `client`.
        """
        with _making_client:
            return self._client

    @cached_property
    def _client(self) -> MlflowClient:
        logging.getLogger("alembic").setLevel(logging.WARNING)  # else the first use prints 60 migrations
        import mlflow

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        if self.is_own:
            prepare(self.root)
        elif self.artifacts is not None:  # a database that others may be making, too
            with first_use(self.root):
                mlflow.MlflowClient(tracking_uri=self.uri).search_experiments(max_results=1)
        # Opens the store, and would make it.
        return mlflow.MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def get_or_create_experiment(self, name: str) -> str:
        """The id of the experiment `name`, created with its artifacts under `artifacts` when missing."""
        from mlflow.exceptions import MlflowException

        client = self.run_client
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            location = None if self.artifacts is None else (self.artifacts / name).as_uri()
            try:
                return str(client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))
            except MlflowException as error:  # another process was faster
                experiment = client.get_experiment_by_name(name)
                if experiment is None:
                    raise error
        for key, value in EXPERIMENT_TAGS.items():  # of an experiment from before, or of a person's making
            if key not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, key, value)
        return str(experiment.experiment_id)

    @contextmanager
    def explain_failure(self, *, doing: str) -> Iterator[None]:
        """Turn a failure of the store into a TrackingError that says what was being done and what to do."""
        try:
            yield
        except FileNotFoundError:  # ours, not the store's, though an OSError as well
            raise
        except send_errors() as error:
            advice = "start the server, or correct or unset MLFLOW_TRACKING_URI"
            if self.is_own:
                advice = (
                    "free space, or correct the permissions, where the disk is the reason; where "
                    f"{DATABASE} is damaged, restore it from a backup or move it away, and `aisle register` "
                    "registers the ensemble in a new one"
                )
            raise TrackingError(
                f"cannot {doing}: the request to MLflow at {self.shown_uri} failed ({first_line(error)}); "
                f"{advice}, and run the same command again"
            ) from error


def find_store() -> Store:
    """The store of the project around the current folder; FileNotFoundError where it lies in none."""
    return Store.at(find_root())


def _make_current(uri: str) -> None:
    """Let MLflow resolve artifacts and models at `uri`: it goes by a global URI, whatever client asked.

    MLflow sets variables as well, which would pass for the user's when this process turns to another project.
    """
    import mlflow

    given = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    for name, value in given.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def send_errors() -> tuple[type[Exception], ...]:
    """The exceptions that mean "the request failed": MLflow's own, the network's, the database's."""
    import sqlite3

    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, OSError, SQLAlchemyError, CommandError, sqlite3.Error)


def all_errors() -> tuple[type[Exception], ...]:
    """`send_errors`, and those that have been explained already."""
    return (*send_errors(), TrackingError)


def is_refusal(error: Exception) -> bool:
    """Whether the store was reached and does not want this: asking again, or asking for others, is no use."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    refusals = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE"}
    assert refusals <= set(ErrorCode.keys())
    return isinstance(error, TrackingError) or (
        isinstance(error, MlflowException) and error.error_code in refusals
    )


def first_line(error: Exception) -> str:
    """The part of an error message that fits into one sentence, without passwords of addresses in it."""
    text = str(error).strip() or type(error).__name__
    return re.sub(r"(://[^/\s:@]*):[^/\s@]+@", r"\1:***@", text.splitlines()[0])[:300]


@contextmanager
def patience(seconds: int = 600) -> Iterator[None]:
    """Wait longer than usual for the server's answer, for files that it first has to pass on.

    Leaves the timeout alone where the user has set one. Several threads may be in it at once.
    """
    global _num_patient
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    usual = ENVIRONMENT[name]
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


def ui_address(store: Store, *, host: str, port: int, data: str) -> str:
    """Where MLflow's UI shows the pipelines of a data name, as model training and with their errors in sight.

    Makes the experiment where there is none yet. Raises TrackingError when the store cannot be used.
    """
    with store.explain_failure(doing="open MLflow's UI"):
        number = store.get_or_create_experiment(f"aisle-{data}")
    return f"http://{host}:{port}/#/experiments/{number}/runs?{VIEW_QUERY}"


def serve_ui(store: Store, *, host: str, port: int) -> None:
    """Become MLflow's UI on the project's store: this process is replaced and does not return.

    Raises TrackingError when the store is a server, which has a UI of its own.
    """
    if store.artifacts is None:
        raise TrackingError(f"MLFLOW_TRACKING_URI names a server with a UI of its own: {store.shown_uri}")
    with store.explain_failure(doing="open MLflow's UI"):
        store.client.search_experiments(max_results=1)  # makes the store if it is not there yet
    # Its job runners serve MLflow's evaluation of language models: two processes nobody here needs.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    uris = ["--backend-store-uri", store.uri, "--default-artifact-root", store.artifacts.as_uri()]
    address = ["--host", host, "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *uris, *address])
