"""Runs that nobody records any more, and events that wait for a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tracking.doctor.finding import Finding
from tracking.project import TrackingError
from tracking.runs.pipeline_run import FINGERPRINT_TAG, PIPELINE
from tracking.runs.run_log import sync
from tracking.runs.sender import SPOOL_TAG
from tracking.runs.spool import Spool, spool_address
from tracking.store import Store

_DAYS_OF_SILENCE = 7
"""After so many days without a value a run that another machine records counts as orphaned."""
_NUM_METRICS_LOOKED_AT = 5


def check_spools(store: Store) -> list[Finding]:
    """What outages and killed processes left: sent by `aisle sync`."""
    found = []
    for spool in Spool.left_over(store.spools):
        num_bytes = spool.path.stat().st_size
        spool.close()
        found.append(
            Finding(
                kind="waiting events",
                sentence=f"{num_bytes:,} bytes of events wait in {spool.path}, which no process writes to",
                run="`aisle sync` sends them, and closes the run of a killed process as KILLED",
                fix=partial(_sync, store),
            )
        )
    for path in sorted(store.spools.glob("*.damaged")):
        found.append(
            Finding(
                kind="waiting events",
                sentence=f"{path} holds lines that are not events, and were not sent with the others",
                run="look at it, then delete it; the metrics in those lines are lost",
            )
        )
    return found


def check_runs(store: Store) -> list[Finding]:
    """Runs whose status is RUNNING though no process records them; raises one of send_errors."""
    found = []
    for run in _running(store):
        fingerprint, recorder = (run.data.tags.get(tag) for tag in (FINGERPRINT_TAG, SPOOL_TAG))
        if fingerprint is None:  # not ours
            continue
        path = store.spools / f"{fingerprint}.jsonl"
        if path.exists():  # held by a living process, or waiting events
            continue
        # Between two stages no process records a pipeline.
        is_here = recorder == spool_address(path) or (
            store.is_own and run.data.tags.get("aisle.kind") != PIPELINE
        )
        last = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        if not is_here:
            if _silent_days(last) < _DAYS_OF_SILENCE:
                continue
            last = _last_value(store, run, default=last)
            if _silent_days(last) < _DAYS_OF_SILENCE:
                continue
        name, run_id = run.info.run_name, run.info.run_id
        where = "here" if is_here else f"at {recorder or 'an unknown place'}, silent since {last:%Y-%m-%d}"
        found.append(
            Finding(
                kind="orphaned run",
                sentence=f"run {name} ({run_id}) is RUNNING, but no process records it {where}",
                run="`aisle doctor --fix` closes it as KILLED; its phase goes on in it when it is run again",
                fix=partial(_close, store, run_id=run_id, fingerprint=fingerprint),
            )
        )
    return found


def _running(store: Store) -> Iterator[Any]:
    experiments = [
        each.experiment_id for each in store.client.search_experiments() if each.name.startswith("aisle-")
    ]
    token = None
    while experiments:
        page = store.client.search_runs(
            experiments, filter_string="attributes.status = 'RUNNING'", page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _last_value(store: Store, run: Any, *, default: datetime) -> datetime:
    times = [
        datetime.fromtimestamp(metric.timestamp / 1000, UTC)
        for key in sorted(run.data.metrics)[:_NUM_METRICS_LOOKED_AT]
        for metric in store.client.get_metric_history(run.info.run_id, key)[-1:]
    ]
    return max([default, *times])


def _silent_days(last: datetime) -> float:
    return (time.time() - last.timestamp()) / 86400


def _close(store: Store, *, run_id: str, fingerprint: str) -> None:
    """Close a run as KILLED unless a process has begun to record it meanwhile; raises TrackingError then."""
    spool = Spool.open(store.spools, fingerprint=fingerprint)
    try:
        with store.explain_failure(doing=f"close the run {run_id}"):
            if store.client.get_run(run_id).info.status == "RUNNING":
                store.client.set_terminated(run_id, status="KILLED")
    finally:
        if not spool.read():
            spool.remove()
        spool.close()


def _sync(store: Store) -> None:
    report = sync(store)
    if report.num_left:
        raise TrackingError(f"{report.num_left} spools could not be sent: {report.reason}")
