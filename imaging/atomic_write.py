"""Files and folders that appear under their name only when they are whole, and a full disk in one sentence.

It lies in the lowest room, which every room that writes may import.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"
# Rust's libraries (safetensors, polars) and SQLite say it in words of their own, without Python's errno.
_FULL = {
    errno.ENOSPC: ("No space left on device", "os error 28", "database or disk is full"),
    errno.EDQUOT: ("Disk quota exceeded", f"os error {errno.EDQUOT}"),
    errno.EFBIG: ("File too large", "os error 27"),
}


class DiskFullError(OSError):
    """There is no room for what was being written; the message names it and says what to do."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that disk, quota or file size are at their limit."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, DiskFullError) or (isinstance(cause, OSError) and cause.errno in _FULL):
            return True
        if any(words in str(cause) for phrases in _FULL.values() for words in phrases):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Raise DiskFullError, which names `path`, for a full disk in the block, whichever library met it."""
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise DiskFullError(
            f"the disk is full: {path} could not be written ({reason}). Nothing half-written has its name, "
            "and what was finished before is safe: free space there, then run the same command again"
        ) from error


@contextmanager
def partial_file(path: Path) -> Iterator[BinaryIO]:
    """Write what will become `path`: it is on disk, under another name, when the block ends.

    An error removes it. `put_in_place` gives it its name.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with explain_full_disk(path), partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def put_in_place(path: Path) -> None:
    """Let `path` be what partial_file wrote, in one step that a power cut cannot split."""
    path.with_name(path.name + PARTIAL).replace(path)
    flush_to_disk(path.parent)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Write `path`, which stays as it was until the block has ended without an error."""
    with partial_file(path) as file:
        yield file
    put_in_place(path)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file, in UTF-8, by `atomic_write`."""
    with atomic_write(path) as file:
        file.write(text.encode())


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a new folder that takes the place of `path` once the block has ended without an error.

    A kill between the two renames leaves no `path`, never a mixture of the old and the new one.
    """
    partial, old = (path.with_name(path.name + suffix) for suffix in (PARTIAL, ".old"))
    for left_over in (partial, old):
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        with explain_full_disk(path):
            partial.mkdir(parents=True)
            yield partial
            for file in (*partial.rglob("*"), partial):
                flush_to_disk(file)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    partial.rename(path)
    flush_to_disk(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def move_into_place(made: Path, *, to: Path) -> None:
    """Put a file or folder in the place of an older one, also from another disk."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if made.stat().st_dev == to.parent.stat().st_dev:
        if to.is_dir():
            shutil.rmtree(to)
        made.rename(to)
    elif made.is_dir():
        with atomic_folder(to) as folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
    else:
        with atomic_write(to) as file, made.open("rb") as source:
            shutil.copyfileobj(source, file)


def flush_to_disk(path: Path) -> None:
    """Let a file's or a folder's content survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
