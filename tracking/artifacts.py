"""Where a version's files are and how they get here, whatever store holds them.

A local store is read in place. Everything else (`mlflow-artifacts:` of a server that proxies, s3, ...) is
downloaded once to .aisle/models, where a folder appears only when it is whole.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlparse

from tracking.project_store import ARTIFACTS
from tracking.store import TrackingError, artifact_root


class MissingArtifactsError(TrackingError):
    """The registry knows the version, but its files are gone; the message says what to run."""


def local_path(uri: str, *, root: Path) -> Path | None:
    """The folder that an artifact URI names on this machine, None where it is elsewhere.

    A path under a checkout's former place is looked for under `root`: a read-only store keeps such paths.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path

    if urlparse(uri).scheme not in ("", "file"):
        return None
    path = Path(local_file_uri_to_path(uri) if uri.startswith("file:") else uri)
    here = artifact_root(root)
    if here is not None and not path.exists() and ARTIFACTS in path.parts:
        return here.joinpath(*path.parts[path.parts.index(ARTIFACTS) + 1 :])
    return path


def list_files(uri: str, *, root: Path) -> dict[str, int]:
    """The files behind an artifact URI and their sizes in bytes, by their path in it; empty where none is."""
    folder = local_path(uri, root=root)
    if folder is not None:
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository, files, waiting = get_artifact_repository(uri), dict[str, int](), [""]
    while waiting:
        for item in repository.list_artifacts(waiting.pop() or None) or []:
            if item.is_dir:
                waiting.append(item.path)
            else:
                files[item.path] = item.file_size or 0
    return files


def fetch(root: Path, *, uri: str, cache: Path, required: Iterable[str]) -> Path:
    """The local folder behind an artifact URI: in place, or `cache`, to which it is downloaded once.

    Raises MissingArtifactsError when one of the `required` files is not in it.
    """
    folder = local_path(uri, root=root) or cache
    if folder == cache and not cache.is_dir():
        _require(required, found=list_files(uri, root=root), where=uri)
        _download(uri, cache)
    _require(required, found={name for name in required if (folder / name).is_file()}, where=str(folder))
    return folder


def upload(folder: Path, *, uri: str, root: Path) -> None:
    """Put the files of a folder where an artifact URI says."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    place = local_path(uri, root=root)
    get_artifact_repository(uri if place is None else place.as_uri()).log_artifacts(str(folder))


def _download(uri: str, cache: Path) -> None:
    from mlflow.artifacts import download_artifacts

    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="download-") as temporary:
        received = Path(download_artifacts(artifact_uri=uri, dst_path=temporary))
        try:
            received.rename(cache)
        except OSError:
            if not cache.is_dir():  # else another process has brought the same files meanwhile
                raise


def _require(required: Iterable[str], *, found: Iterable[str], where: str) -> None:
    missing = sorted(set(required) - set(found))
    if missing:
        raise MissingArtifactsError(f"expected {', '.join(missing)} in {where}, where it is missing")


def forget(folder: Path, *, root: Path) -> bool:
    """Delete a downloaded copy, so that the next use downloads it again; a store's own files stay."""
    downloaded = folder.resolve().is_relative_to((root / ".aisle" / "models").resolve())
    if downloaded:
        shutil.rmtree(folder, ignore_errors=True)
    return downloaded
