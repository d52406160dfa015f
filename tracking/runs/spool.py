"""The diary of a run on disk, written before anything is sent: no metric is lost with a tracking server.

A spool is a JSON-lines file `.aisle/spool/<fingerprint>.jsonl` beside a folder of artifacts that could not be
sent. Replaying it is safe at any time: tracking/runs/sender.py skips what the server already has.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from tracking.project import TrackingError

Event = dict[str, Any]


class Spool:
    """An append-only list of events that one process at a time may hold."""

    def __init__(self, path: Path, *, stream: FileIO) -> None:
        self.path = path
        self._files = path.with_suffix(".files")
        self._stream = stream
        self._cut_torn_line()

    @classmethod
    def open(cls, folder: Path, *, fingerprint: str) -> Spool:
        """The spool of `fingerprint` in a folder of spools, new or as a killed process left it.

        Raises TrackingError while another process holds it.
        """
        path = folder / f"{fingerprint}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b", buffering=0)  # a buffer would be written again at exit
        if not _lock(stream):
            stream.close()
            raise TrackingError(
                f"expected to be the only process that records the run {fingerprint[:12]}, but another one "
                f"holds {path}; let it end, or end it, and start this again"
            )
        return cls(path, stream=stream)

    @classmethod
    def left_over(cls, folder: Path) -> Iterator[Spool]:
        """The spools that no living process holds, oldest first; each is locked until closed or removed."""
        paths = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        for path in paths:
            try:
                stream = path.open("r+b", buffering=0)
            except FileNotFoundError:  # sent by another process meanwhile
                continue
            if not _lock(stream) or not path.exists():
                stream.close()
                continue
            yield cls(path, stream=stream)

    def append(self, event: Event) -> None:
        """Write one event through to the operating system, so that a SIGKILL cannot take it back.

        Raises OSError, and leaves the spool as it was, where there is no room for it.
        """
        end = self._stream.seek(0, 2)
        line = memoryview(json.dumps(event).encode() + b"\n")
        try:
            while line:
                line = line[self._stream.write(line) or 0 :]
        except OSError as error:
            self._stream.truncate(end)
            error.filename = str(self.path)
            raise

    def read(self) -> list[Event]:
        """All events in the order they happened, with the kept artifacts where they lie now."""
        self._stream.seek(0)
        events: list[Event] = [json.loads(line) for line in self._stream.read().splitlines()]
        for event in events:
            if event["event"] == "artifact":
                kept = Path(event["path"]).parts[-3:]  # <fingerprint>.files/<number>/<name>
                event["path"] = str(self.path.parent.joinpath(*kept).resolve())
        return events

    def keep_artifact(self, path: Path) -> Path:
        """Copy a file or folder beside the spool, since its stage may delete it, and return the copy."""
        folder = self._files / str(len(list(self._files.glob("*"))))
        folder.mkdir(parents=True)
        if path.is_dir():
            return Path(shutil.copytree(path, folder / path.name))
        return Path(shutil.copy2(path, folder / path.name))

    def close(self) -> None:
        """Let go of the spool and leave it on disk."""
        self._stream.close()

    def remove(self) -> None:
        """Delete the spool: everything in it has arrived."""
        shutil.rmtree(self._files, ignore_errors=True)
        self.path.unlink(missing_ok=True)
        self._stream.close()

    def _cut_torn_line(self) -> None:
        """Drop a last line that a killed process did not finish."""
        self._stream.seek(0)
        content = self._stream.read()
        if content and not content.endswith(b"\n"):
            self._stream.truncate(content.rfind(b"\n") + 1)
        self._stream.seek(0, 2)


def _lock(stream: FileIO) -> bool:
    """Take the file for this process until it is closed; the kernel lets go of it when the process dies."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
