"""The processes that ingest spreads its work over: results in order, little in memory, none left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from types import TracebackType
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 8  # tasks a worker has waiting, so that it goes on while this process writes


class Workers:
    """Up to num_workers processes, started with the first task; 0: this process does the work itself."""

    def __init__(self, num_workers: int | None = None) -> None:
        """None: one process a core."""
        self._num_workers = count_cores() if num_workers is None else num_workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """The function's result for every task, in the tasks' order; tasks are taken as they are needed.

        Raises BrokenProcessPool when a worker dies.
        """
        if self._num_workers == 0:
            yield from map(function, tasks)
            return
        pool, upcoming = self._started(), iter(tasks)
        waiting: deque[Future[Result]] = deque()
        while True:
            free = _AHEAD * self._num_workers - len(waiting)
            waiting.extend(pool.submit(function, task) for task in islice(upcoming, free))
            if not waiting:
                return
            yield waiting.popleft().result()

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # spawn: a forked copy of a process that runs threads (polars, torch) may hang
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._num_workers, mp_context=context, initializer=_start_worker)
        return self._pool


def count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's workers wait for tasks forever when their parent is killed: end with it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
