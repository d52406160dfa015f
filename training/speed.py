"""How fast a phase goes, and how much of that time it only waits for photos. Times stay out of its outs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Speed:
    """What the steps of this run took, on one process; validation and checkpoints do not count."""

    num_photos: int = 0
    seconds: float = 0.0
    seconds_waiting: float = 0.0
    """Those in which the next batch was not there yet."""

    @property
    def photos_per_second(self) -> float:
        """Photos of this process, companions included; 0 before the first step."""
        return self.num_photos / self.seconds if self.seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time, 0..1."""
        return self.seconds_waiting / self.seconds if self.seconds else 0.0

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Count what happens inside as a step."""
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens inside, in a step, as waiting, too."""
        started = time.perf_counter()
        yield
        self.seconds_waiting += time.perf_counter() - started

    def __str__(self) -> str:
        """Return it for a log."""
        return f"{self.photos_per_second:.4g} photos/s, waited for photos {self.waiting_share:.0%}"
