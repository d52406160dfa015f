"""A source's root, local or remote, behind the five questions that layouts ask of it.

Layouts never touch the file system themselves, so each of them works on a folder of this machine and on
s3://bucket/folder alike.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


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
        """Names of the folders directly in `path`, sorted, without hidden ones."""

    def files(self, path: str = "", *, deep: bool = True) -> Iterator[tuple[str, str | None]]:
        """Path and mark (see FilePhoto) of each file in `path`, and below it if deep; always in one order.

        Hidden files and folders are left out. A path that is not there has no files.
        """


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.name = root.absolute().name

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return Path(self.root, path).is_file()

    def read(self, path: str) -> bytes:
        """The content of a file. Raises OSError."""
        return Path(self.root, path).read_bytes()

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders directly in `path`, sorted, without hidden ones."""
        with os.scandir(Path(self.root, path)) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")

    def files(self, path: str = "", *, deep: bool = True) -> Iterator[tuple[str, str | None]]:
        """A folder's files come sorted and before those of its folders; no marks: stamp() asks the file."""
        top = Path(self.root, path)
        for parent, folders, names in os.walk(top, onerror=_refuse_unreadable):
            folders[:] = sorted(name for name in folders if name[0] != ".") if deep else []
            inside = Path(path, Path(parent).relative_to(top)).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            for name in sorted(names):
                if name[0] != ".":
                    yield f"{prefix}{name}", None


def _refuse_unreadable(error: OSError) -> None:
    """A folder that is skipped in silence would look as if its photos had left the source."""
    if not isinstance(error, FileNotFoundError):
        raise ValueError(
            f"Expected folders that can be listed, received {error.filename}: {error.strerror}. "
            "Give yourself the right to read it, or move it out of the data set's root."
        ) from error


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
    beside = [name for name, _ in folder.files(path.rpartition("/")[0], deep=False)]
    similar = difflib.get_close_matches(path, beside, n=1)
    hint = (
        f", did you mean {similar[0]!r}?" if similar else f"; files there: {', '.join(beside[:5]) or 'none'}."
    )
    raise FileNotFoundError(
        f"Expected the index {path!r} in {folder.name}, found none{hint} Name it relative "
        "to the data set's root."
    )
