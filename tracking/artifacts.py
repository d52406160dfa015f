"""A version's files, whatever store holds them, and how they get here.

A local store is read in place. Everything else (`mlflow-artifacts:` of a server that proxies, s3, ...) is
downloaded once to .aisle/models, where a folder appears only when it is whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from tracking.project import TrackingError
from tracking.project_store import ARTIFACTS
from tracking.store import Store


class MissingArtifactsError(TrackingError):
    """The registry knows the version, but its files are gone; the message says what to run."""


class AlteredArtifactsError(TrackingError):
    """The files are not those that were registered; the message says what to run."""


@dataclass(frozen=True)
class Artifacts:
    """The folder that `uri` names in a store."""

    store: Store
    uri: str

    @cached_property
    def local(self) -> Path | None:
        """The folder on this machine, None where it is elsewhere.

        A path under a checkout's former place is looked for here: a read-only store keeps such paths.
        """
        from mlflow.utils.file_utils import local_file_uri_to_path

        if urlparse(self.uri).scheme not in ("", "file"):
            return None
        path = Path(local_file_uri_to_path(self.uri) if self.uri.startswith("file:") else self.uri)
        here = self.store.artifacts
        if here is not None and not path.exists() and ARTIFACTS in path.parts:
            return here.joinpath(*path.parts[path.parts.index(ARTIFACTS) + 1 :])
        return path

    def list_files(self) -> dict[str, int]:
        """The files and their sizes in bytes, by their path in the folder; empty where there is none."""
        if self.local is not None:
            return {
                path.relative_to(self.local).as_posix(): path.stat().st_size
                for path in self.local.rglob("*")
                if path.is_file()
            }
        files, waiting = dict[str, int](), [""]
        while waiting:
            for item in self._repository().list_artifacts(waiting.pop() or None) or []:
                if item.is_dir:
                    waiting.append(item.path)
                else:
                    files[item.path] = item.file_size or 0
        return files

    def read_text(self, name: str) -> str | None:
        """The text of one small file there, None where it is not; the others are not downloaded."""
        if self.local is not None:
            path = self.local / name
            return path.read_text(encoding="utf-8") if path.is_file() else None
        if name not in {item.path for item in self._repository().list_artifacts(None) or []}:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(self._repository().download_artifacts(name, folder))
            return path.read_text(encoding="utf-8")

    def upload(self, folder: Path) -> None:
        """Put the files of a folder there."""
        self._repository().log_artifacts(str(folder))

    def fetch(self, *, copy: Path, required: Iterable[str]) -> Path:
        """The folder in place, or `copy`, to which it is downloaded once.

        Raises MissingArtifactsError when one of the `required` files is not in it.
        """
        if self.local is None and not copy.is_dir():
            _require(required, found=self.list_files(), where=self.uri)
            self._download(copy)
        folder = self.local or copy
        _require(required, found={name for name in required if (folder / name).is_file()}, where=str(folder))
        return folder

    def forget(self, copy: Path) -> bool:
        """Delete a downloaded copy, so that the next use downloads it again; a store's own files stay."""
        if self.local is None:
            shutil.rmtree(copy, ignore_errors=True)
        return self.local is None

    def _download(self, copy: Path) -> None:
        from mlflow.artifacts import download_artifacts

        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix="download-") as temporary:
            received = Path(download_artifacts(artifact_uri=self.uri, dst_path=temporary))
            try:
                received.rename(copy)
            except OSError:
                if not copy.is_dir():  # else another process has brought the same files meanwhile
                    raise

    def _repository(self) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self.uri if self.local is None else self.local.as_uri())


def _require(required: Iterable[str], *, found: Iterable[str], where: str) -> None:
    missing = sorted(set(required) - set(found))
    if missing:
        raise MissingArtifactsError(f"expected {', '.join(missing)} in {where}, where it is missing")
