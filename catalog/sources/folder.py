"""A source's root, local or remote, behind the questions that layouts ask of it.

Layouts never touch the file system themselves, so each of them works on a folder of this machine and on
s3://bucket/folder alike.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import polars as pl

from catalog.sources.walk import SYSTEM, escape_path, is_left_out, walk

ASIDE = {"photo_id": pl.String, "reason": pl.String, "message": pl.String}
"""A table of what is rejected: name, reason to count by, and what to do."""
_PART_FILES = 50_000  # as objects at a time

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Everything below a folder: what can be taken, and what cannot with its reason."""

    files: pl.DataFrame
    """path, and mark (see FilePhoto), always in one order: a folder's files before those of its folders."""
    rejected: pl.DataFrame
    """ASIDE: hidden files, dangling links, names that are not UTF-8, ...; the photo_id is the path."""
    num_system: int
    """Files and folders of the system, such as .DS_Store and __MACOSX: neither photos nor worth a row."""


class Folder(Protocol):
    """Where a source's photos and indexes lie; paths are relative to it, with forward slashes."""

    @property
    def root(self) -> str:
        """The folder's path or URL, which its photos carry to the workers."""

    @property
    def name(self) -> str:
        """Its last part, for messages: a full path would differ from machine to machine."""

    def has(self, path: str) -> bool:
        """Whether a file is there."""

    def read(self, path: str) -> bytes:
        """The content of a file. Raises OSError."""

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in `path`, sorted, without hidden ones and the system's."""

    def file_names(self, path: str = "") -> list[str]:
        """Names of the files directly in `path`, sorted, without hidden ones."""

    def listing(self, path: str = "") -> Listing:
        """All that is below `path`, with paths relative to the root; nothing where it is not there."""


class LocalFolder:
    """A folder of this machine; links to files and folders are followed."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.name = root.absolute().name

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return "\0" not in path and Path(self.root, path).is_file()

    def read(self, path: str) -> bytes:
        """The content of a file. Raises OSError."""
        return Path(self.root, path).read_bytes()

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in `path`, sorted, without hidden ones and the system's."""
        with os.scandir(Path(self.root, path)) as entries:
            names = [entry.name for entry in entries if entry.is_dir()]
        return sorted(escape_path(name) for name in names if is_left_out(name, folder=True) is None)

    def file_names(self, path: str = "") -> list[str]:
        """Names of the files directly in `path`, sorted, without hidden ones."""
        top = Path(self.root, path)
        if not top.is_dir():
            return []
        with os.scandir(top) as entries:
            return sorted(
                escape_path(entry.name) for entry in entries if entry.name[0] != "." and entry.is_file()
            )

    def listing(self, path: str = "") -> Listing:
        """All that is below `path`; no marks, since stamp() asks the file itself."""
        inside = f"{path.strip('/')}/" if path.strip("/") else ""
        found = walk(str(Path(self.root, path)))
        return make_listing((f"{inside}{it.path}", None, it.reason, it.message) for it in found)


def make_listing(found: Iterable[tuple[str, str | None, str | None, str]]) -> Listing:
    """Put (path, mark, reason, message) into columns; a reason None is a file, SYSTEM is only counted."""
    files = [pl.DataFrame(schema={"path": pl.String, "mark": pl.String})]
    rejected = [pl.DataFrame(schema=ASIDE)]
    num_system, entries = 0, iter(found)
    while part := list(islice(entries, _PART_FILES)):
        good = [(path, mark) for path, mark, reason, _ in part if reason is None]
        bad = [(path, reason, message) for path, _, reason, message in part if reason not in (None, SYSTEM)]
        num_system += len(part) - len(good) - len(bad)
        files.append(pl.DataFrame(good, schema=files[0].schema, orient="row"))
        rejected.append(pl.DataFrame(bad, schema=ASIDE, orient="row"))
    if num_system:
        logger.info("%d files and folders of the system (.DS_Store and its like) are left out.", num_system)
    return Listing(files=pl.concat(files), rejected=pl.concat(rejected), num_system=num_system)


def open_folder(root: Path | str | None, *, layout: str) -> Folder:
    """The folder of a path or of an fsspec URL. Raises FileNotFoundError where there is none.

    A remote store's keys and endpoint come from the environment, see `catalog.sources.remote`.
    """
    text = "" if root is None else str(root).removeprefix("file://")
    if "://" in text:
        from catalog.sources.remote import RemoteFolder  # fsspec only where a root is a URL

        return RemoteFolder(text)
    if root is None or not Path(text).is_dir():
        hint = (
            " A URL must reach this place as text: a Path loses one of its slashes." if ":/" in text else ""
        )
        raise FileNotFoundError(
            f"The source layout {layout} needs the folder of its photos, received root "
            f"{root and str(root)!r}, which is no folder: set the data set's root parameter to where the "
            f"photos lie.{hint}"
        )
    return LocalFolder(Path(text))


def read_index(folder: Folder, path: str) -> bytes:
    """The content of a source's index file. Raises FileNotFoundError, which names a similar file."""
    if folder.has(path):
        return folder.read(path)
    inside = path.rpartition("/")[0]
    beside = [f"{inside}/{name}" if inside else name for name in folder.file_names(inside)]
    similar = difflib.get_close_matches(path, beside, n=1)
    hint = (
        f", did you mean {similar[0]!r}?" if similar else f"; files there: {', '.join(beside[:5]) or 'none'}."
    )
    raise FileNotFoundError(
        f"Expected the index {path!r} in {folder.name}, found none{hint} Name it relative "
        "to the data set's root."
    )
