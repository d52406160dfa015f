"""What a result was made from, so that any result can be rebuilt: commit, code, inputs, fingerprint.

Everything is read from git and dvc.lock; DVC itself is imported only to hash what no stage has made, and
MLflow never, because every stage imports this module at its start.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import tracking.project  # noqa: F401  switches telemetry off before DVC can be imported

CODE_PATHS = (
    "imaging",
    "contracts",
    "catalog",
    "recognition",
    "training",
    "tracking",
    "pipelines",
    "aisle",
)
# A version stores both files, so a difference in them still leaves the result rebuildable.
_STORED_WITH_VERSION = ("params.yaml", "dvc.lock")


@dataclass(frozen=True)
class InputDataset:
    """One input of a run as MLflow shows it: `md5` is DVC's, `context` says what it was used for."""

    name: str
    path: str
    md5: str
    context: str


@dataclass(frozen=True)
class Lineage:
    """Where a result came from.

    `commit` is empty before the first commit. `clean` means that git knows every file as it was, but for
    params.yaml and dvc.lock. `inputs` maps each path to DVC's md5.
    """

    commit: str
    clean: bool
    code: str
    inputs: dict[str, str]

    def tags(self) -> dict[str, str]:
        """The lineage as tags of a run or of a model version."""
        return {
            "aisle.git_commit": self.commit or "none",
            "aisle.git_clean": str(self.clean).lower(),
            "aisle.code_digest": self.code,
            "aisle.inputs": json.dumps(self.inputs, sort_keys=True),
            **({"mlflow.source.git.commit": self.commit} if self.commit else {}),
        }


def read_lineage(workspace: Path, *, inputs: Iterable[str]) -> Lineage:
    """The lineage of a stage that runs now in `workspace` and reads `inputs` (paths relative to it).

    Give the upstream outs: the lock entry of the running stage itself is still the old one.
    """
    commit = _git(workspace, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    exclude = [f":(exclude){name}" for name in _STORED_WITH_VERSION]
    changes = _git(workspace, "status", "--porcelain", "--", ".", *exclude)
    return Lineage(
        commit=commit,
        clean=bool(commit) and not changes.strip(),
        code=code_digest(workspace),
        inputs=hash_inputs(workspace, inputs),
    )


def code_digest(workspace: Path, *, paths: Iterable[str] = CODE_PATHS) -> str:
    """The sha256 over relative names and contents of the Python files under `paths`."""
    files: list[Path] = []
    for path in paths:
        full = workspace / path
        files += sorted(full.rglob("*.py")) if full.is_dir() else [full] if full.is_file() else []
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.relative_to(workspace).as_posix()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(workspace).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def hash_inputs(workspace: Path, paths: Iterable[str]) -> dict[str, str]:
    """The md5 that DVC writes for each path: from dvc.lock for an out, else hashed by DVC's own code.

    `paths` are relative to `workspace` or absolute; a folder's md5 ends in ".dir". Raises FileNotFoundError
    for one that is neither an out of a stage that ran nor there.
    """
    locked = locked_outs(workspace)
    return {
        path: locked.get(Path(path).as_posix()) or _hash_with_dvc(workspace, path)
        for path in sorted(set(paths))
    }


def fingerprint(params: Mapping[str, Any], *, inputs: Mapping[str, str], seed: int) -> str:
    """The sha256 of what decides a result: its parameters, its inputs' md5 and the seed, as canonical JSON.

    `params` may hold only what JSON can; the order of keys does not matter, 1 and 1.0 differ.
    """
    content = {"params": params, "inputs": inputs, "seed": seed}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def git_user(folder: Path) -> str:
    """Who works here: git's user name, else the operating system's."""
    name = _git(folder, "config", "user.name").strip()
    if name:
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


def source_name() -> str:
    """What is running, as a person would start it: a stage of DVC's, a command of ours, else the program."""
    stage = os.environ.get("DVC_STAGE", "").rpartition("dvc.yaml:")[-1]
    if stage:
        return f"dvc repro {stage}"
    program = Path(sys.argv[0])
    if program.name == "aisle" or program.parent.name == "aisle":
        return " ".join(["aisle", *sys.argv[1:2]])
    if program.parent.name == "pipelines":
        return f"python -m pipelines.{program.stem}"
    return program.name or "python"


def locked_outs(workspace: Path) -> dict[str, str]:
    """DVC's md5 of each out of a stage that ran, by its path; upstream of a running stage it is current."""
    lock = workspace / "dvc.lock"
    if not lock.is_file():
        return {}
    content = yaml.load(lock.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    outs = [out for stage in content.get("stages", {}).values() for out in stage.get("outs", [])]
    return {str(out["path"]): str(out["md5"]) for out in outs if "md5" in out}


def _hash_with_dvc(workspace: Path, path: str) -> str:
    full = Path(workspace, path)
    if not full.exists():
        raise FileNotFoundError(
            f"cannot tell the md5 of {path}: it is no out in {workspace / 'dvc.lock'} and no file or folder; "
            "run the stage that makes it (dvc repro), or correct the path in params.yaml"
        )
    from dvc.fs import LocalFileSystem
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build

    with Repo(str(workspace)) as repo:
        ignore = repo.dvcignore if full.resolve().is_relative_to(workspace.resolve()) else None
        _, _, found = build(
            repo.cache.local, str(full.absolute()), LocalFileSystem(), "md5", ignore=ignore, dry_run=True
        )
        return str(found.hash_info.value)


def _git(workspace: Path, *arguments: str) -> str:
    """What git prints, or nothing where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=workspace, capture_output=True, text=True, check=False, timeout=60
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
