"""The write-ahead log of a run on disk, so that no metric is lost with a tracking server.

A spool is a JSON-lines file `.aisle/spool/<fingerprint>.jsonl` beside a folder of artifacts that were not
sent yet. Training appends, a thread reads on from where it was: days without a server take disk, not memory.
Replaying it is safe at any time: tracking/runs/sender.py skips what the server already has.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from tracking.project import TrackingError

Event = dict[str, Any]

_BYTES_PER_READ = 1 << 18
_SECONDS_FOR_SENDER = 60.0  # some requests long
_SECONDS_OF_WISH = 5.0  # repeated all the time, unless its process was killed
_LOG = logging.getLogger("aisle.tracking")


def spool_address(path: Path) -> str:
    """Which machine records a run, and in which file: `<host>:<path>`."""
    return f"{socket.gethostname()}:{path}"


class Spool:
    """An append-only list of events that one process at a time may hold."""

    def __init__(self, path: Path, *, stream: FileIO) -> None:
        self.path = path
        self._files = path.with_suffix(".files")
        self._stream = stream
        self._writing = threading.Lock()
        self._damaged = self._removed = False
        # Two marks for processes beside us: that this is only being sent, and that somebody wants to record.
        self._sending, self._wanted = path.with_suffix(".sending"), path.with_suffix(".wanted")
        self._is_left_over = False
        self._end = self._cut_torn_line()

    @classmethod
    def open(cls, folder: Path, *, fingerprint: str) -> Spool:
        """The spool of `fingerprint` in a folder of spools, new or as a killed process left it.

        A process that only sends what was left there is asked to let go of it. Raises TrackingError while
        another process records it.
        """
        path = folder / f"{fingerprint}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _SECONDS_FOR_SENDER
        try:
            while True:
                stream = path.open("a+b", buffering=0)  # a buffer would be written again at exit
                if _lock(stream):
                    if _is_at(stream, path):
                        return cls(path, stream=stream)
                    stream.close()  # whoever held it has sent and removed it after we had opened it
                    continue
                stream.close()
                if not path.with_suffix(".sending").exists() or time.monotonic() > deadline:
                    raise TrackingError(
                        f"expected to be the only process that records the run {fingerprint[:12]}, but "
                        f"another one holds {path}; let it end, or end it, and start this again"
                    )
                path.with_suffix(".wanted").touch()
                time.sleep(0.05)
        finally:
            path.with_suffix(".wanted").unlink(missing_ok=True)

    @classmethod
    def left_over(cls, folder: Path) -> Iterator[Spool]:
        """The spools that no living process holds, oldest first; each is locked until closed or removed."""
        for path in sorted(folder.glob("*.jsonl"), key=_modified):
            try:
                stream = path.open("r+b", buffering=0)
            except FileNotFoundError:  # sent by another process meanwhile
                continue
            if not _lock(stream) or not _is_at(stream, path):
                stream.close()
                continue
            spool = cls(path, stream=stream)
            spool._is_left_over = True
            spool._sending.touch()
            yield spool

    @property
    def is_wanted(self) -> bool:
        """Whether a process waits to record in it: who only sends it has to close it."""
        return time.time() - _modified(self._wanted) / 1e9 < _SECONDS_OF_WISH

    @property
    def fingerprint(self) -> str:
        """Of the run whose events these are."""
        return self.path.stem

    @property
    def is_removed(self) -> bool:
        """Whether all of it has arrived and it is deleted."""
        return self._removed

    def append(self, event: Event) -> None:
        """Write one event through to the operating system, so that a SIGKILL cannot take it back.

        Any thread may. Raises OSError, and leaves the spool as it was, where there is no room for it.
        """
        line = json.dumps(event).encode() + b"\n"
        with self._writing:
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[self._stream.write(rest) or 0 :]
            except OSError as error:
                self._stream.truncate(self._end)
                error.filename = str(self.path)
                raise
            self._end += len(line)  # only now does a reader see it

    def read(self, offset: int = 0) -> list[tuple[Event, int]]:
        """The next events from `offset` on, each with the offset behind it; none at the end.

        Kept artifacts are where they lie now. A line that a damaged disk left is passed over with a warning.
        """
        size = _BYTES_PER_READ
        while True:
            content = os.pread(self._stream.fileno(), min(size, self._end - offset), offset)
            whole = content[: content.rfind(b"\n") + 1]
            if whole or len(content) < size:
                break
            size *= 2  # one event that is longer
        events = []
        for line in whole.splitlines(keepends=True):
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                _LOG.warning("Passed over %d bytes of %s that are not an event", len(line), self.path)
                self._damaged, event = True, {"event": "damaged"}
            if event["event"] == "artifact":
                kept = Path(event["path"]).parts[-3:]  # <fingerprint>.files/<number>/<name>
                event["path"] = str(self.path.parent.joinpath(*kept).resolve())
            events.append((event, offset))
        return events

    def keep_artifact(self, path: Path) -> Path:
        """Copy a file or folder beside the spool, since its stage may delete it, and return the copy."""
        self._files.mkdir(parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(dir=self._files), path.name)
        return Path(shutil.copytree(path, copy) if path.is_dir() else shutil.copy2(path, copy))

    def drop_artifact(self, copy: Path) -> None:
        """Delete a kept copy: it has arrived, and a replay will not send it again."""
        if copy.parent.parent == self._files.resolve():
            shutil.rmtree(copy.parent, ignore_errors=True)

    def close(self) -> None:
        """Let go of the spool and leave it on disk."""
        if self._is_left_over and not self._stream.closed:
            self._sending.unlink(missing_ok=True)
        self._stream.close()

    def remove(self) -> None:
        """Delete the spool: everything in it has arrived. One with damaged lines keeps another name."""
        shutil.rmtree(self._files, ignore_errors=True)
        if self._damaged:
            self.path.rename(self.path.with_suffix(".damaged"))
        else:
            self.path.unlink(missing_ok=True)
        self._removed = True
        self.close()

    def _cut_torn_line(self) -> int:
        """Drop a last line that a killed process did not finish; returns the file's size."""
        end = start = self._stream.seek(0, os.SEEK_END)
        while start > 0:
            start = max(0, start - _BYTES_PER_READ)
            found = os.pread(self._stream.fileno(), min(_BYTES_PER_READ, end - start), start).rfind(b"\n")
            if found >= 0:
                start += found + 1
                break
        if start < end:
            self._stream.truncate(start)
        return start


def _lock(stream: FileIO) -> bool:
    """Take the file for this process until it is closed; the kernel lets go of it when the process dies."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(stream: FileIO, path: Path) -> bool:
    """Whether the open file still has its name."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
