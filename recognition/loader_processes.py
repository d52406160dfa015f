"""Loader processes that leave the decisions and the processor to the process they serve.

Slurm, systemd and Ctrl-C signal every process of a job. The main process then still needs its loader
processes, to finish its step and write a checkpoint, but a DataLoader's own would die at once.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, TypeVar

from torch.utils.data import DataLoader, Dataset

_T_co = TypeVar("_T_co", covariant=True)
_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
_NICENESS = 10  # at 19 they starved beside strangers: training waited 13 % of its time for photos, here 2 %


class ProcessLoader(DataLoader[_T_co]):
    """A DataLoader whose processes obey no stop signal but their main process's own SIGTERM.

    They end when the iterator is dropped, when the main process is gone, and when it sends SIGTERM, as Python
    does at exit (and would wait for ever if they ignored it).

    in_background: at a low priority, for a main process that computes on the CPU itself. Its threads wait
    for each other at each operation: a neighbour that keeps the core of one keeps them all. One of low
    priority gives it back as soon as that thread has work, and has the cores while training waits for photos.
    """

    def __init__(self, dataset: Dataset[_T_co], *, in_background: bool, **options: Any) -> None:
        start = _start_in_background if in_background else _start
        super().__init__(dataset, worker_init_fn=start, **options)

    def __iter__(self) -> Any:
        """Start the processes and return their batches in order."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        try:
            return super().__iter__()  # a forked process begins with its signals blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(worker_id: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _start_in_background(worker_id: int) -> None:
    _start(worker_id)
    os.nice(_NICENESS)


def _obey(main_process: int) -> None:
    """Wait for SIGTERM, and end when it comes from the main process."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process:
        pass
    os._exit(0)
