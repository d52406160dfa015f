"""Replays the events of a spool into MLflow, so that sending one twice changes nothing.

That is what lets a run survive a dead server, a killed process and a second try alike: whoever comes next
sends the whole spool again, and what the server has is skipped.
"""

from __future__ import annotations

import json
import math
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracking.runs.pipeline_run import (
    FINGERPRINT_TAG,
    NOTE_TAG,
    PARAMS_PER_CALL,
    PARENT_TAG,
    find_or_make,
    link_children,
    may_replace_note,
    with_fingerprint,
)
from tracking.runs.spool import Event
from tracking.store import Store

__all__ = ["FINGERPRINT_TAG", "Sender", "search_run"]

_METRICS_PER_CALL = 800  # MLflow takes 1,000 in a call


class Sender:
    """Sends one run's events.

    `run_id` is None before the first event arrived; `finished` is True once the run is closed as FINISHED, by
    us or by an earlier process, and then everything but a new beginning is dropped.
    """

    def __init__(self, store: Store) -> None:
        self.run_id: str | None = None
        self.finished = False
        self._store = store
        self._parent_id: str | None = None
        self._is_part = False
        self._closes = False
        self._known: dict[tuple[str, int], float] = {}

    def send(self, pending: list[Event]) -> None:
        """Send the events and take each off the list once the store has it.

        Raises one of tracking.store.send_errors() and leaves what was not sent.
        """
        while pending:
            events = _one_call(pending)
            self._send(events)
            del pending[: len(events)]

    def _send(self, events: list[Event]) -> None:
        first = events[0]
        if first["event"] == "begin":
            self._begin(first)
        elif self.finished:
            return
        elif first["event"] == "metrics":
            self._metrics(events)
        elif first["event"] == "artifact":
            self._artifact(first)
        else:
            self._end(first)

    def _begin(self, event: Event) -> None:
        client, parent = self._store.client, None
        experiment = self._store.get_or_create_experiment(event["experiment"])
        if event.get("parent"):  # spools of earlier versions have none
            parent = find_or_make(
                self._store, experiment=experiment, event=event["parent"], began=event["time"]
            )
            self._parent_id = parent.info.run_id
        self._is_part, self._closes = event.get("part", False), event.get("closes", False)
        run: Any = parent
        if not self._is_part:
            run = search_run(client, experiments=[experiment], fingerprint=event["fingerprint"])
        self.finished = not self._is_part and run is not None and run.info.status == "FINISHED"
        if parent is not None and not self.finished and parent.info.status in ("FAILED", "KILLED"):
            client.update_run(parent.info.run_id, status="RUNNING")
        if self.finished:
            self.run_id = run.info.run_id
            self._adopt(run)
            return
        if run is None:
            run = client.create_run(
                experiment, start_time=event["time"], tags=event["tags"], run_name=event["name"]
            )
        elif run.info.run_id != self.run_id:
            if not self._is_part:  # a finished parent stays so while something is added to it
                client.update_run(run.info.run_id, status="RUNNING")
            self._learn_metrics(run)
        self.run_id = run.info.run_id
        self._describe(event, run=run)
        self._adopt(run)
        link_children(client, parent=parent, fingerprints=event.get("children", ()))

    def _adopt(self, run: Any) -> None:
        """Put a run under its pipeline's; one that another pipeline made, by the same phase, stays there."""
        if not self._is_part and self._parent_id is not None and PARENT_TAG not in run.data.tags:
            self._store.client.set_tag(run.info.run_id, PARENT_TAG, self._parent_id)

    def _end(self, event: Event) -> None:
        client, status = self._store.client, event["status"]
        if not self._is_part:
            client.set_terminated(self.run_id, status=status, end_time=event["time"])
            self.finished = status == "FINISHED"
        if self._parent_id is None or (status == "FINISHED" and not self._closes):
            return
        # A failure leaves a pipeline finished that was finished before.
        if status == "FINISHED" or client.get_run(self._parent_id).info.status == "RUNNING":
            client.set_terminated(self._parent_id, status=status, end_time=event["time"])

    def _describe(self, event: Event, *, run: Any) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in event["params"].items() if key not in run.data.params]
        keeps_note = not may_replace_note(run.data.tags.get(NOTE_TAG, ""))
        tags = [
            RunTag(key, value) for key, value in event["tags"].items() if not (key == NOTE_TAG and keeps_note)
        ]
        self._store.client.log_batch(self.run_id, params=params[:PARAMS_PER_CALL], tags=tags)
        for start in range(PARAMS_PER_CALL, len(params), PARAMS_PER_CALL):
            self._store.client.log_batch(self.run_id, params=params[start : start + PARAMS_PER_CALL])
        if event["inputs"]:
            self._store.client.log_inputs(
                self.run_id, datasets=[_dataset_input(item) for item in event["inputs"]]
            )

    def _metrics(self, events: list[Event]) -> None:
        from mlflow.entities import Metric

        new: dict[tuple[str, int], float] = {}
        known = ChainMap(new, self._known)
        metrics = []
        for event in events:
            for key, value in event["values"].items():
                if not _is_known(known, key=key, step=event["step"], value=value):
                    new[key, event["step"] or 0] = value
                    metrics.append(Metric(key, value, event["time"], event["step"] or 0))
        if metrics:
            self._store.client.log_batch(self.run_id, metrics=metrics)
        self._known.update(new)

    def _artifact(self, event: Event) -> None:
        path = Path(event["path"])
        if path.is_dir():
            folder = "/".join(part for part in (event["artifact_path"], path.name) if part)
            self._store.client.log_artifacts(self.run_id, str(path), folder)
        else:
            self._store.client.log_artifact(self.run_id, str(path), event["artifact_path"])

    def _learn_metrics(self, run: Any) -> None:
        for key in run.data.metrics:
            for metric in self._store.client.get_metric_history(run.info.run_id, key):
                self._known[key, metric.step] = metric.value


def search_run(client: Any, *, experiments: list[str], fingerprint: str) -> Any:
    """The run with this fingerprint: the latest finished one, else the latest, else None."""
    runs = client.search_runs(
        experiments,
        filter_string=with_fingerprint(fingerprint),
        order_by=["attributes.start_time DESC"],
    )
    finished = [run for run in runs if run.info.status == "FINISHED"]
    return finished[0] if finished else runs[0] if runs else None


def _one_call(pending: list[Event]) -> list[Event]:
    """The first events that one call can send: metrics up to a limit, or one event of another kind."""
    events: list[Event] = []
    count = 0
    for event in pending:
        if event["event"] != "metrics" or (events and count + len(event["values"]) > _METRICS_PER_CALL):
            break
        events.append(event)
        count += len(event["values"])
    return events or pending[:1]


def _is_known(known: Mapping[tuple[str, int], float], *, key: str, step: int | None, value: float) -> bool:
    """A resumed phase repeats the steps after its checkpoint; a metric without a step may be corrected."""
    before = known.get((key, step or 0))
    if before is None:
        return False
    return step is not None or before == value or (math.isnan(before) and math.isnan(value))


def _dataset_input(item: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=item["name"],
        digest=item["md5"][:36],  # MLflow takes 36 characters: an md5 and ".dir"
        source_type="local",
        source=json.dumps({"uri": item["path"]}),
    )
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", item["context"])])
