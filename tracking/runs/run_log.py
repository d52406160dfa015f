"""Runs in MLflow that neither stop a training nor double themselves.

Every event goes to a spool on disk first and to MLflow in batches. When the store cannot be reached, training
goes on and the spool is sent by the next stage or by `aisle sync`. A run is found by its fingerprint: an
unfinished one is continued, a finished one is left as it is.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tracking.lineage.origin import InputDataset, git_user, source_name
from tracking.runs.pipeline_run import FINGERPRINT_TAG, PipelineRun
from tracking.runs.sender import Sender
from tracking.runs.spool import Event, Spool
from tracking.store import Store, first_line, send_errors

Status = Literal["FINISHED", "FAILED", "KILLED"]

_LOG = logging.getLogger("aisle.tracking")
_SECONDS_BETWEEN_SENDS = 2.0
_SECONDS_BEFORE_RETRY = 60.0
_MAX_PARAM_LENGTH = 6000
_warned: set[str] = set()


@dataclass(frozen=True)
class SyncReport:
    """How many spools were sent and how many are still waiting, with the reason (empty when none waits)."""

    num_sent: int
    num_left: int
    reason: str


class RunLog:
    """One run being recorded; use it as a context manager, or call `end` yourself."""

    def __init__(self, store: Store, *, spool: Spool) -> None:
        self._sender = Sender(store)
        self._store = store
        self._spool = spool
        self._pending = spool.read()
        self._next_send = 0.0
        self._reachable = True
        self._ended = False
        self._lock = threading.RLock()  # system metrics come from a thread of their own

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, None as long as the store could not be reached."""
        return self._sender.run_id

    @property
    def already_finished(self) -> bool:
        """True when a finished run with this fingerprint exists: nothing is recorded a second time."""
        return self._sender.finished

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics at a step; they are sent at most every two seconds, many in one call."""
        numbers = {key: float(value) for key, value in values.items()}
        with self._lock:
            self._record({"event": "metrics", "step": step, "time": _now(), "values": numbers})
            if time.monotonic() >= self._next_send:
                self.flush()

    def log_artifact(self, path: Path, artifact_path: str | None = None) -> None:
        """Store a file or folder with the run under `artifact_path`; if it cannot be sent, a copy is kept."""
        if not path.exists():
            raise FileNotFoundError(f"cannot store {path} with the run: there is no such file or folder")
        event = {"event": "artifact", "path": str(path.resolve()), "artifact_path": artifact_path}
        with self._lock:
            self._pending.append(event)
            if not self.flush():
                event["path"] = str(self._spool.keep_artifact(path))
                self._spool.append(event)

    def flush(self, *, force: bool = False) -> bool:
        """Send what waits; False when the store did not take it, which is then asked again after a minute."""
        if not force and not self._reachable and time.monotonic() < self._next_send:
            return False
        try:
            self._sender.send(self._pending)
        except send_errors() as error:
            self._reachable = False
            self._next_send = time.monotonic() + _SECONDS_BEFORE_RETRY
            _warn(self._store, error)
            return False
        self._reachable = True
        self._next_send = time.monotonic() + _SECONDS_BETWEEN_SENDS
        return True

    def end(self, status: Status = "FINISHED") -> None:
        """Close the run and send everything; what the store does not take stays in the spool."""
        if self._ended:
            return
        self._record({"event": "end", "status": status, "time": _now()})
        self._ended = True
        if self.flush(force=True):
            self._spool.remove()
        else:
            self._spool.close()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def _record(self, event: Event) -> None:
        self._spool.append(event)
        self._pending.append(event)


def start_run(
    store: Store,
    *,
    experiment: str,
    name: str,
    fingerprint: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    inputs: Sequence[InputDataset] = (),
    parent: PipelineRun | None = None,
) -> RunLog:
    """Begin a run, or go on in the unfinished one with the same fingerprint; send what others left behind.

    `params` may be nested, `tags` should say aisle.kind, aisle.recipe, aisle.data and aisle.phase. `parent`:
    the pipeline whose part it is. Never raises because the store is down; raises TrackingError when another
    process records this fingerprint.
    """
    beginning = {
        "experiment": experiment,
        "name": name,
        "fingerprint": fingerprint,
        "tags": {**tags, FINGERPRINT_TAG: fingerprint, "mlflow.runName": name, **_who_and_how(store)},
        "params": flatten(params),
        "inputs": [asdict(dataset) for dataset in inputs],
        "parent": _complete(store, parent),
    }
    return _begin(store, beginning, spool=fingerprint)


def add_to_pipeline(
    store: Store,
    pipeline: PipelineRun,
    *,
    what: str,
    closes: bool = False,
    tags: Mapping[str, str] | None = None,
    inputs: Sequence[InputDataset] = (),
    children: Sequence[str] = (),
) -> RunLog:
    """Record on the pipeline's own run, finished or not: `what` tells one process that does so from another.

    closes: when this ends well, the pipeline is finished. children: fingerprints of runs that belong under
    it, for phases that came out of DVC's cache. Raises as `start_run`.
    """
    beginning = {
        "experiment": pipeline.experiment,
        "name": pipeline.name,
        "fingerprint": pipeline.fingerprint,
        "tags": dict(tags or {}),
        "params": {},
        "inputs": [asdict(dataset) for dataset in inputs],
        "parent": _complete(store, pipeline),
        "part": True,
        "closes": closes,
        "children": list(children),
    }
    return _begin(store, beginning, spool=f"{what}-{pipeline.fingerprint}")


def _begin(store: Store, beginning: Mapping[str, Any], *, spool: str) -> RunLog:
    run = RunLog(store, spool=Spool.open(store.spools, fingerprint=spool))
    run._record({"event": "begin", "time": _now(), **beginning})
    if run.flush():
        sync(store)
    return run


def _complete(store: Store, parent: PipelineRun | None) -> Event | None:
    if parent is None:
        return None
    # Of the parent the whole pipeline is the source, not the stage that happens to be the first.
    who = {**_who_and_how(store), "mlflow.source.name": "dvc repro"}
    return {**parent.to_event(), "tags": {**who, **parent.tags}}


def _who_and_how(store: Store) -> dict[str, str]:
    """What MLflow's UI shows as a run's user and source."""
    return {
        "mlflow.user": git_user(store.root),
        "mlflow.source.name": source_name(),
        "mlflow.source.type": "LOCAL",
    }


def sync(store: Store) -> SyncReport:
    """Send the spools that no living process holds; a run whose process was killed is closed as KILLED.

    Its phase goes on in that run when it is resumed. After the first spool that the store does not take, the
    others are only counted.
    """
    num_sent, num_left, reason = 0, 0, ""
    for spool in Spool.left_over(store.spools):
        events = spool.read()
        if events and events[-1]["event"] != "end":
            events.append({"event": "end", "status": "KILLED", "time": _now()})
        try:
            if not reason:
                Sender(store).send(events)
        except send_errors() as error:
            reason = first_line(error)
            _warn(store, error)
        if reason:
            num_left += 1
            spool.close()
        else:
            num_sent += 1
            spool.remove()
    return SyncReport(num_sent=num_sent, num_left=num_left, reason=reason)


def flatten(params: Mapping[str, Any], *, prefix: str = "") -> dict[str, str]:
    """Nested parameters as MLflow's flat ones: {"optimizer": {"lr": 0.1}} is {"optimizer.lr": "0.1"}.

    Lists become JSON. A value longer than MLflow's 6,000 characters is cut and says so.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, prefix=f"{prefix}{key}."))
            continue
        is_json = isinstance(value, (list, tuple, Mapping, bool, type(None)))
        text = json.dumps(value) if is_json else str(value)
        cut = f"... ({len(text)} characters)"
        flat[prefix + key] = (
            text if len(text) <= _MAX_PARAM_LENGTH else text[: _MAX_PARAM_LENGTH - len(cut)] + cut
        )
    return flat


def _warn(store: Store, error: Exception) -> None:
    """Say once per process and store that it cannot be reached."""
    if store.shown_uri not in _warned:
        _warned.add(store.shown_uri)
        _LOG.warning(
            "The request to MLflow at %s failed (%s): metrics are kept in .aisle/spool and sent by "
            "`aisle sync` or the next stage",
            store.shown_uri,
            first_line(error),
        )


def _now() -> int:
    return time.time_ns() // 1_000_000
