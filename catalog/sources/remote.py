"""Photos in an object store (s3://, gs://, ...) through fsspec; imported only where a root is a URL.

Keys, region and endpoint come from the environment or the usual files, as the store's own tools take them:
for s3 what botocore reads (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, AWS_PROFILE, ...).
They enter neither parameters nor the photo store. A process opens the store for itself, so workers may be
spawned or forked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NoReturn

import fsspec
import polars as pl

from catalog.sources.folder import Listing, make_listing
from catalog.sources.walk import HIDDEN, MESSAGES, SYSTEM, is_left_out

_LISTING_THREADS = 16  # requests of a listing in flight; one takes tens of milliseconds
_MARKS = (
    "ETag",
    "etag",
    "md5",
    "content_md5",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "created",
)
_DENIED = ("403", "AccessDenied", "InvalidObjectState")
"""What S3 says where one object is not to be read, by right or since it lies in an archive."""
_EXTRAS = {
    "s3": "'aisle[s3]'",
    "s3a": "'aisle[s3]'",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
}


class RemoteError(Exception):
    """A store as a whole does not answer, so no single photo is at fault."""


class RemoteFolder:
    """A folder of a store. What it lists is asked for once: photos that come later need a new source."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") if root.rpartition("://")[2] else root
        self.name = self.root.rpartition("/")[2]
        self._store, self._base = _open(self.root)
        with _in_words(self.root):
            self._store.info(self._base)

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        with _in_words(self.root):
            return bool(self._store.isfile(f"{self._base}/{path}"))

    def read(self, path: str) -> bytes:
        """The content of a file. Raises OSError."""
        (answer,) = read_files([(self.root, path)])
        if isinstance(answer, OSError):
            raise answer
        return answer

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in `path`, sorted, without hidden ones and the system's."""
        names = [folder.rpartition("/")[2] for folder in self._list(path)[0]]
        return sorted(name for name in names if is_left_out(name, folder=True) is None)

    def file_names(self, path: str = "") -> list[str]:
        """Names of the files directly in `path`, sorted, without hidden ones."""
        names = [file.rpartition("/")[2] for file in self._list(path)[1]["path"]]
        return [name for name in names if name[0] != "."]

    def listing(self, path: str = "") -> Listing:
        """Sorted by path; a mark is the entity tag, or size and time of change, as the store lists them."""
        files, path = self._listing, path.strip("/")
        if path:  # one range of what is sorted: `path/...` ends before `path0`, since 0 comes next after /
            first, end = files["path"].search_sorted(pl.Series([f"{path}/", f"{path}0"]))
            files = files[first:end]
        return make_listing(
            (file, mark, reason, MESSAGES.get(reason or "", ""))
            for file, mark in files.iter_rows()
            for reason in [_left_out(file)]
        )

    @cached_property
    def _listing(self) -> pl.DataFrame:
        """All files below the root, folder by folder, so that only one folder's entries fill memory."""
        frames, level = [], [""]
        with ThreadPoolExecutor(_LISTING_THREADS) as pool:
            while level:
                listed = list(pool.map(self._list, level))
                frames += [files for _, files in listed]
                level = [folder for folders, _ in listed for folder in folders]
        return pl.concat(frames).sort("path")

    def _list(self, path: str) -> tuple[list[str], pl.DataFrame]:
        """Folders and files directly in a folder; both paths are relative to the root."""
        try:
            with _in_words(self.root):
                entries = self._store.ls(f"{self._base}/{path}".rstrip("/"), detail=True)
        except FileNotFoundError:
            entries = []
        folders, names, marks = [], [], []
        for entry in entries:
            name = entry["name"].rstrip("/").removeprefix(self._base).lstrip("/")
            if name in ("", path):
                continue  # some stores list a folder in itself
            if entry["type"] == "directory":
                folders.append(name)
            else:
                names.append(name)
                marks.append(_mark(entry))
        schema = {"path": pl.String, "mark": pl.String}
        return folders, pl.DataFrame({"path": names, "mark": marks}, schema=schema).sort("path")


def _left_out(path: str) -> str | None:
    """SYSTEM or HIDDEN where a part of a path says so."""
    *above, name = path.split("/")
    reasons = {is_left_out(part, folder=True) for part in above} | {is_left_out(name, folder=False)}
    return SYSTEM if SYSTEM in reasons else HIDDEN if HIDDEN in reasons else None


def read_files(files: Sequence[tuple[str, str]]) -> list[bytes | OSError]:
    """The contents of (root URL, relative path) in their order, all requests of a root side by side.

    Raises RemoteError where the store does not answer.
    """
    answers: list[bytes | OSError] = [OSError()] * len(files)
    for root in dict.fromkeys(root for root, _ in files):
        positions = [position for position, (other, _) in enumerate(files) if other == root]
        store, base = _open(root)
        paths = [f"{base}/{files[position][1]}" for position in positions]
        with _in_words(root):
            contents = store.cat_ranges(paths, None, None, on_error="return")
        for position, content in zip(positions, contents, strict=True):
            answers[position] = content if isinstance(content, bytes) else _of_file(content, root=root)
    return answers


def _open(root: str) -> tuple[Any, str]:
    """The store of a URL, one instance a process and thread, and the folder's path in it."""
    scheme = root.partition("://")[0]
    # s3fs asks for a file's size before it reads it, unless it must not read it in parts.
    options = {"max_concurrency": 1} if scheme in ("s3", "s3a") else {}
    try:
        store, base = fsspec.core.url_to_fs(root, use_listings_cache=False, **options)
    except ImportError as error:
        package = _EXTRAS.get(scheme, f"the package that fsspec names ({error})")
        raise ValueError(
            f"Photos at {scheme}:// need a package that is not installed: pip install {package}."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"Expected the URL of a store such as s3://bucket/folder, received {root!r} ({error})."
        ) from error
    if not base.strip("/"):
        raise ValueError(f"Expected a bucket in the URL, received {root!r}: correct root.")
    return store, base.rstrip("/")


def _mark(entry: dict[str, Any]) -> str | None:
    known = [str(entry[key]) for key in _MARKS if entry.get(key) is not None]
    return f"{entry.get('size')}-{known[0]}" if known else None


@contextmanager
def _in_words(root: str) -> Iterator[None]:
    """Errors of a store as sentences: FileNotFoundError for what is not there, RemoteError otherwise."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected a folder at {root}, found none ({error}): correct root, or make the bucket."
        ) from error
    except Exception as error:
        _raise_remote(error, root=root)


def _of_file(error: Exception, *, root: str) -> OSError:
    """Why one file cannot be read, in the system's words. Raises RemoteError where the store is at fault.

    A key that has expired is the store's matter: half of a data set in quarantine would look like a result.
    """
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    answer = getattr(error.__cause__, "response", {})  # botocore's; other stores have no more than the type
    if isinstance(error, PermissionError) and answer.get("Error", {}).get("Code", "403") in _DENIED:
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    _raise_remote(error, root=root)


def _raise_remote(error: Exception, *, root: str) -> NoReturn:
    scheme = root.partition("://")[0]
    variables = (
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL" if scheme == "s3" else "its keys"
    )
    raise RemoteError(
        f"Expected an answer from {root}, received {type(error).__name__}: {error}. Check the network and "
        f"that the environment has {variables}; what is stored so far stays, so run it again."
    ) from error
