"""Every file below a folder of this machine, links followed, and a reason for each that is no photo to take.

`os.walk` follows no links and says nothing of what it leaves out. Here every entry is yielded: as a file, as
a system's own file, or with a reason. A plain file costs no system call beside its folder's listing; only
links are looked at one by one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SYSTEM = "system"
HIDDEN = "hidden"
_SYSTEM_FILES = frozenset(
    [
        ".DS_Store",
        ".localized",
        ".directory",
        ".nomedia",
        ".gitignore",
        ".gitattributes",
        ".gitkeep",
        ".keep",
        ".dvcignore",
        "Thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "Desktop.ini",
    ]
)
_SYSTEM_FOLDERS = frozenset(
    [
        "__MACOSX",
        ".git",
        ".dvc",
        ".svn",
        ".hg",
        ".AppleDouble",
        ".Spotlight-V100",
        ".fseventsd",
        ".TemporaryItems",
        ".Trashes",
        "@eaDir",
        "#recycle",
        "$RECYCLE.BIN",
        "lost+found",
        ".ipynb_checkpoints",
        ".thumbnails",
    ]
) | {"System Volume Information"}
_REJECTED_ERRORS = frozenset(
    (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
)
"""What is one folder's fault. Any other error is the disk's, and photos must not seem to have left it."""
_MOST_WAYS = 64
"""How often links may lead to one folder: folders that link each other have more ways than atoms."""

MESSAGES = {
    HIDDEN: "Its name, or that of a folder above it, begins with a dot: rename it to have it taken.",
    "dangling_link": "It is a link to something that is unavailable: restore that, or remove the link.",
    "link_loop": "It is a link to a folder that it lies in, or one reached by too many links, so it is not "
    "followed: remove the link.",
    "special_file": "It is a pipe, a socket or a device, not a file: remove it.",
    "file_name": "Its name is not UTF-8 (bytes are shown as \\x..): rename it.",
    "unreadable_folder": "The folder cannot be listed ({}): give yourself the right to, or move it away.",
}


class Found(NamedTuple):
    """One entry of a walk."""

    path: str
    """Relative to the walk's top, with forward slashes; escaped where it is not UTF-8."""
    reason: str | None
    """None for a file to take, SYSTEM for what no photo folder means to hold, else why it is rejected."""
    message: str
    entry: os.DirEntry[str] | None
    """For its size and times; None for a folder that cannot be listed."""


@dataclass(frozen=True, kw_only=True)
class _Folder:
    path: str
    inside: str
    """The relative path with a slash at its end, or nothing at the top."""
    reason: str | None = None
    """Why nothing below it can be taken."""
    chain: tuple[tuple[int, int], ...] | None = None
    """Identities of the folders on the way to it, kept from the first link on."""


def walk(top: str) -> Iterator[Found]:
    """Every entry below `top` but the folders themselves: a folder's files by name, then its folders' files.

    Raises ValueError where a disk fails, in contrast to a folder that may not be read.
    """
    stack, ways = [_Folder(path=top, inside="")], Counter[tuple[int, int]]()
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(folder.path) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            if folder.inside or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                yield _unlistable(folder, error)
            continue
        below = []
        for entry in entries:
            name = entry.name
            own = _judge_name(name)
            reason = own if own == "file_name" else folder.reason or own
            is_link = entry.is_symlink()
            kind = _kind_of_link(entry) if is_link else _kind(entry)
            path = folder.inside + name
            if kind == "folder":
                if name in _SYSTEM_FOLDERS:
                    yield Found(path, SYSTEM, "", entry)
                    continue
                chain = folder.chain
                if is_link or chain is not None:
                    chain = _extend(chain, folder, entry, top=top, ways=ways)
                    if chain is None:
                        yield _reject(path, "link_loop", entry)
                        continue
                below.append(_Folder(path=entry.path, inside=f"{path}/", reason=reason, chain=chain))
            elif name in _SYSTEM_FILES or name.startswith("._"):
                yield Found(path, SYSTEM, "", entry)
            elif kind != "file" or reason is not None:
                yield _reject(path, kind if kind != "file" else str(reason), entry)
            else:
                yield Found(path, None, "", entry)
        stack.extend(reversed(below))


def is_left_out(name: str, *, folder: bool) -> str | None:
    """SYSTEM or HIDDEN by a file's or folder's name alone, None for an ordinary name."""
    if name in (_SYSTEM_FOLDERS if folder else _SYSTEM_FILES) or (not folder and name.startswith("._")):
        return SYSTEM
    return HIDDEN if name.startswith(".") else None


def escape_path(path: str) -> str:
    """A path as UTF-8 text: bytes that are none appear as \\x.. ."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _judge_name(name: str) -> str | None:
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            return "file_name"
    return HIDDEN if name[0] == "." else None


def _kind(entry: os.DirEntry[str]) -> str:
    """Answered by the folder's listing on common file systems, without a call."""
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else "special_file"


def _kind_of_link(entry: os.DirEntry[str]) -> str:
    try:
        mode = entry.stat().st_mode
    except OSError:
        return "dangling_link"
    return "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "special_file"


def _extend(
    chain: tuple[tuple[int, int], ...] | None,
    folder: _Folder,
    entry: os.DirEntry[str],
    *,
    top: str,
    ways: Counter[tuple[int, int]],
) -> tuple[tuple[int, int], ...] | None:
    """The chain with this folder, or None where it is on the chain already or was reached too often."""
    try:
        if chain is None:  # the first link on this way: now the folders above it matter
            above = Path(top).resolve()
            here = [above, *above.parents]
            parts = Path(folder.path).relative_to(top).parts
            here += [Path(top, *parts[: depth + 1]) for depth in range(len(parts))]
            chain = tuple(_identity(path.stat()) for path in here)
        identity = _identity(entry.stat())
    except OSError:
        return None
    ways[identity] += 1
    return None if identity in chain or ways[identity] > _MOST_WAYS else (*chain, identity)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _reject(path: str, reason: str, entry: os.DirEntry[str] | None) -> Found:
    return Found(escape_path(path), reason, MESSAGES[reason], entry)


def _unlistable(folder: _Folder, error: OSError) -> Found:
    """A folder that is skipped in silence would look as if its photos had left the source."""
    words = error.strerror or type(error).__name__
    name = escape_path(folder.inside.rstrip("/")) or Path(folder.path).name
    if error.errno not in _REJECTED_ERRORS or not folder.inside:
        raise ValueError(
            f"Expected a folder that can be listed, received {name}: {words}. Give yourself the right to "
            "read it, or see to the disk, and run it again."
        ) from error
    return Found(name, "unreadable_folder", MESSAGES["unreadable_folder"].format(words), None)
