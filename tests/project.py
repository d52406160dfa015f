"""A copy of this checkout in which the README's commands are run for real."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Project:
    """A copy of the checkout in which commands are run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("AISLE_", "MLFLOW_"))
        }
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command; what it printed, after checking its exit code."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == code, f"{' '.join(command)}: {done.returncode}\n{printed}"
        return printed

    def run_without_server(self, *command: str, code: int = 0) -> str:
        """Run a command while MLFLOW_TRACKING_URI names a server that is down."""
        kept = self.environment
        self.environment = {**kept, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        try:
            return self.run(*command, code=code)
        finally:
            self.environment = kept

    def aisle(self, *arguments: str, code: int = 0) -> str:
        return self.run("python", "-m", "aisle", *arguments, code=code)


def copy_checkout(folder: Path, *, python_folder: Path) -> Project:
    """Copy what git knows or would know of this checkout into a folder, as a repository with one commit.

    python_folder: where the stages find `python`, with one thread each, since test processes share the cores.
    """
    folder.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.split():
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    path = os.pathsep.join((str(python_folder), project.environment["PATH"]))
    project.environment |= {"PATH": path, "OMP_NUM_THREADS": "1"}
    project.run("git", "init", "-q")
    project.run("git", "config", "user.email", "test@example.com")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "start")
    return project
