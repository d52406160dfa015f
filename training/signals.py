"""How a scheduler stops a phase: a signal, a checkpoint, and an exit code of its own.

Spot machines and Slurm send SIGTERM (or SIGUSR1, where asked) a little before they kill. The phase finishes
the step it is in, writes a checkpoint and ends; the same command goes on from there.
"""

from __future__ import annotations

import re
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: not finished, try again."""


class Preempted(RuntimeError):  # noqa: N818  it is no error
    """The phase was told to stop and can go on; the message names the checkpoint."""

    exit_code = EXIT_CODE

    def __init__(self, step: int | None) -> None:
        written = "nothing new to keep" if step is None else f"checkpoint at step {step} written"
        super().__init__(f"{written}; the same command goes on")
        self.step = step
        """Steps done; None where the signal came before the first."""

    @classmethod
    def from_line(cls, line: str) -> Preempted | None:
        """Return what a process that was stopped said, None for any other line."""
        found = re.match(r"checkpoint at step (\d+) written", line)
        return None if found is None else cls(int(found[1]))


class StopSignals:
    """While entered, a stop signal is remembered instead of ending the process; elsewhere it does as before.

    Python lets only the main thread take signals: in another one nothing is changed and none is seen.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        """Begin to remember."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do again as before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = True
