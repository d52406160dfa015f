"""Files that appear under their name only when they are whole: no crash leaves half of one to be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial"


@contextmanager
def partial_file(path: Path) -> Iterator[BinaryIO]:
    """Write what will become `path`: it is on disk, under another name, when the block ends.

    An error removes it. `put_in_place` gives it its name.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def put_in_place(path: Path) -> None:
    """Let `path` be what partial_file wrote, in one step that a power cut cannot split."""
    path.with_name(path.name + PARTIAL).replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write `path`, which stays as it was until the block has ended without an error."""
    with partial_file(path) as file:
        yield file
    put_in_place(path)
