"""Which values of a run the server has, so that none is sent twice. Takes eight bytes a value.

A resumed phase repeats the steps after its checkpoint, and a request may have arrived though its answer was
lost.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import defaultdict


class KnownMetrics:
    """The steps of each metric that was sent or found on the server."""

    def __init__(self) -> None:
        self._steps: dict[str, array[int]] = defaultdict(lambda: array("q"))
        # Of values without a step, which MLflow keeps at step 0: such a metric has few.
        self._times: dict[str, set[int]] = defaultdict(set)
        self._latest: dict[str, tuple[int, float]] = {}

    def add(self, key: str, *, step: int | None, time: int, value: float) -> None:
        """Remember a value; time in milliseconds."""
        steps, number = self._steps[key], step or 0
        if not steps or number > steps[-1]:
            steps.append(number)
        elif not _contains(steps, number):
            steps.insert(bisect_left(steps, number), number)
        if number == 0:
            self._times[key].add(time)
            if time >= self._latest.get(key, (time, value))[0]:
                self._latest[key] = time, value

    def has(self, key: str, *, step: int | None, time: int, value: float) -> bool:
        """Whether the value is there. One without a step may be corrected: then it is another one."""
        if key not in self._steps:
            return False
        if step is not None:
            return _contains(self._steps[key], step)
        if time in self._times[key]:
            return True
        latest = self._latest[key][1] if key in self._latest else None
        return latest is not None and (latest == value or (math.isnan(latest) and math.isnan(value)))


def _contains(steps: array[int], step: int) -> bool:
    index = bisect_left(steps, step)
    return index < len(steps) and steps[index] == step
