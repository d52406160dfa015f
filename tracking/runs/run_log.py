"""Runs in MLflow that neither stop nor slow a training, and do not double themselves.

Every event goes to a spool on disk, and a thread sends it from there (tracking/runs/sending.py). When the
store cannot be reached, training goes on and the spool is sent by the next stage or by `aisle sync`. A run is
found by its fingerprint: an unfinished one is continued, a finished one is left as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tracking.lineage.origin import InputDataset, git_user, source_name
from tracking.runs.pipeline_run import FINGERPRINT_TAG, PipelineRun
from tracking.runs.sender import SPOOL_TAG, Sender
from tracking.runs.sending import SendingThread, warn_once
from tracking.runs.spool import Event, Spool, spool_address
from tracking.store import Store, all_errors, first_line, is_refusal

Status = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_PARAM_LENGTH = 6000
_SECONDS_FOR_ANSWER = 10.0
_SECONDS_AT_END = 30.0
_SECONDS_FOR_FILE = 300.0  # the project's own: others may be making it, or be writing


@dataclass(frozen=True)
class SyncReport:
    """How many spools were sent and how many are still waiting, with the reason (empty when none waits)."""

    num_sent: int
    num_left: int
    reason: str


class RunLog:
    """One run being recorded; use it as a context manager, or call `end` yourself."""

    def __init__(self, store: Store, *, spool: Spool, begin: Event) -> None:
        self._store = store
        self._spool = spool
        self._latest = 0
        self._ended = False
        self._record(begin)
        self._sending = SendingThread(store, spool=spool)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run, waited for up to ten seconds; None where the store does not answer."""
        return self._wait_for_begin().run_id

    @property
    def already_finished(self) -> bool:
        """True when a finished run with this fingerprint exists: nothing is recorded a second time.

        Waits up to ten seconds for the store's answer, and is False without one.
        """
        return self._wait_for_begin().finished

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record metrics at a step; they are sent a few seconds later, many in one call. Any thread may."""
        numbers = {key: float(value) for key, value in values.items()}
        self._record({"event": "metrics", "step": step, "values": numbers})

    def log_artifact(self, path: Path, artifact_path: str | None = None) -> None:
        """Store a file or folder with the run under `artifact_path`; what is sent is a copy as it is now."""
        if not path.exists():
            raise FileNotFoundError(f"cannot store {path} with the run: there is no such file or folder")
        copy = self._spool.keep_artifact(path)
        self._record({"event": "artifact", "path": str(copy), "artifact_path": artifact_path})

    def end(self, status: Status = "FINISHED") -> None:
        """Close the run and send the rest; what the store does not take stays in the spool.

        Waits 30 seconds at most, three where the last request failed, and 300 where the store is the
        project's own SQLite file.
        """
        if self._ended:
            return
        self._record({"event": "end", "status": status})
        self._ended = True
        if not self._sending.end(_SECONDS_FOR_FILE if self._store.is_own else _SECONDS_AT_END):
            warn_once(self._store, self._sending.error)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end("FINISHED" if kind is None else "FAILED" if issubclass(kind, Exception) else "KILLED")

    def _wait_for_begin(self) -> Sender:
        return self._sending.wait_for_begin(_SECONDS_FOR_FILE if self._store.is_own else _SECONDS_FOR_ANSWER)

    def _record(self, event: Event) -> None:
        if self._ended:
            raise ValueError(f"expected no {event['event']} after the end of the run in {self._spool.path}")
        self._latest = max(_now(), self._latest)  # MLflow sorts by time, and clocks are set back
        self._spool.append({**event, "time": self._latest})


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
    the pipeline whose part it is. Does not wait for the store, and never raises because it is down; raises
    TrackingError when another process records this fingerprint.
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
    import mlflow  # noqa: F401  here, not first in the thread, beside other imports

    opened = Spool.open(store.spools, fingerprint=spool)
    tags = dict(beginning["tags"])
    if not beginning.get("part"):  # a pipeline's run belongs to no one process
        tags[SPOOL_TAG] = spool_address(opened.path)
    return RunLog(store, spool=opened, begin={"event": "begin", **beginning, "tags": tags})


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

    Its phase goes on in that run when it is resumed. Where the store does not answer, the other spools are
    only counted; one that the store refuses holds up no other.
    """
    num_sent, num_left, reason, answers = 0, 0, "", True
    for spool in Spool.left_over(store.spools):
        try:
            if answers:
                _send_whole(store, spool)
        except all_errors() as error:
            reason = reason or first_line(error)
            answers = is_refusal(error)
            warn_once(store, error)
        num_sent += spool.is_removed
        num_left += not spool.is_removed
        spool.close()
    return SyncReport(num_sent=num_sent, num_left=num_left, reason=reason)


def _send_whole(store: Store, spool: Spool) -> None:
    sender = Sender(store, spool=spool)
    while not spool.is_wanted and sender.send_next():
        pass
    if not spool.is_wanted:  # else whoever wants to record in it sends it
        sender.close_left_over()
        spool.remove()


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


def _now() -> int:
    return time.time_ns() // 1_000_000
