"""How busy the machine is while a phase runs: MLflow's system metrics, through our own spool.

MLflow's monitor sends from its own thread to a server that may be away; its collectors are good, so this
takes their numbers, under the names that its UI shows under "System metrics", and hands them to the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from types import TracebackType
from typing import Any

SECONDS_BETWEEN_SAMPLES = 10.0
_LOG = logging.getLogger("aisle.tracking")

Record = Callable[[Mapping[str, float], int], None]


class SystemMonitor(Thread):
    """Samples until the block is left, and once more then, so that a short phase has a sample, too.

    A sample's step is the number of its interval since 1970: after a resume none has another one's.
    """

    def __init__(self, record: Record, *, seconds: float = SECONDS_BETWEEN_SAMPLES) -> None:
        super().__init__(name="aisle-system-metrics", daemon=True)
        self._record = record
        self._seconds = seconds
        self._over = Event()

    def run(self) -> None:
        """Sample; what goes wrong here never reaches the training."""
        try:
            collectors = _make_collectors()
            for collector in collectors:  # the first look at the processor has nothing to compare with
                collector.collect_metrics()
                collector.clear_metrics()
            while not self._over.wait(self._seconds):
                self._sample(collectors)
            self._sample(collectors)
        except Exception:
            _LOG.warning("system metrics are no longer recorded", exc_info=True)

    def _sample(self, collectors: list[Any]) -> None:
        values: dict[str, float] = {}
        for collector in collectors:
            collector.collect_metrics()
            values |= {f"system/{key}": float(value) for key, value in collector.aggregate_metrics().items()}
            collector.clear_metrics()
        self._record(values, int(time.time() / self._seconds))

    def __enter__(self) -> SystemMonitor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join(timeout=5)


def _make_collectors() -> list[Any]:
    """MLflow's collectors; that of GPUs where there are some and nvidia-ml-py is installed."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    collectors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        collectors.append(GPUMonitor())
    except Exception as error:  # no GPU, no driver or no nvidia-ml-py: its own kinds of error
        _LOG.debug("no GPU metrics: %s", error)
    return collectors
