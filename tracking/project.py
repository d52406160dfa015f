"""The project around the current folder: where its pipeline is, and where what must outlive a run belongs.

Importing this module switches usage telemetry off and makes a dead tracking server cost seconds instead of
minutes. Both are environment variables that MLflow and DVC read, so it has to happen before their import.
"""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default of 7 keeps a phase waiting for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

CONFIG_FILE = "conf/config.yaml"
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
    for marks in ((CONFIG_FILE,), _TRACES):
        for folder in pipelines:
            if any((folder / mark).exists() for mark in marks):
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
    for folder in workspace.parents:
        if folder.parts[-3:] == (".dvc", "tmp", "exps"):
            return folder.parents[2]
    return workspace
