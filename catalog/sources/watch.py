"""A digest of what a source is made of, by which a pipeline sees that photos were added, taken or shot again.

Nothing is read but the names, sizes and times that a folder's listing and one stat a file give: a folder of
millions takes seconds to minutes, where hashing its photos takes hours. Paths in it are relative, so a folder
gives one digest wherever it lies.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from catalog.sources import is_remote
from catalog.sources.walk import SYSTEM, walk


def describe_watched(path: str) -> dict[str, Any]:
    """What is at a path or URL: `sha256` of a file's content, or `digest`, num_files and num_bytes.

    A folder's digest is over path, size and time of change of each file below it, links followed, or over the
    entity tags of an object store; files of the system (.DS_Store) are left out. Raises FileNotFoundError
    where nothing is there, RemoteError where a store does not answer.
    """
    if is_remote(path):
        return _describe_remote(path)
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    if not Path(path).is_dir():
        raise FileNotFoundError(
            f"Expected a file or folder to watch at {path}, found none: correct data.root or data.watch."
        )
    digest, num_files, num_bytes = hashlib.sha256(), 0, 0
    for found in walk(path):
        if found.reason == SYSTEM:
            continue
        size, changed = _size_and_time(found.entry)
        digest.update(f"{found.path}\0{found.reason or ''}\0{size}\0{changed}\n".encode())
        num_files, num_bytes = num_files + 1, num_bytes + size
    return {"digest": digest.hexdigest(), "num_files": num_files, "num_bytes": num_bytes}


def _size_and_time(entry: os.DirEntry[str] | None) -> tuple[int, int]:
    if entry is None:
        return 0, 0
    try:
        status = entry.stat()
    except OSError:  # a link to nothing, or a file that has just gone
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _describe_remote(url: str) -> dict[str, Any]:
    from catalog.sources.remote import RemoteFolder  # fsspec only where a root is a URL

    digest, listing = hashlib.sha256(), RemoteFolder(url).listing()
    for path, mark in listing.files.iter_rows():
        digest.update(f"{path}\0{mark}\n".encode())
    return {"digest": digest.hexdigest(), "num_files": len(listing.files)}
