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

from tracking.runs.spool import Event
from tracking.store import Store

FINGERPRINT_TAG = "aisle.fingerprint"
_METRICS_PER_CALL = 800  # MLflow takes 1,000 in a call
_PARAMS_PER_CALL = 100  # MLflow's limit


class Sender:
    """Sends one run's events.

    `run_id` is None before the first event arrived; `finished` is True once the run is closed as FINISHED, by
    us or by an earlier process, and then everything but a new beginning is dropped.
    """

    def __init__(self, store: Store) -> None:
        self.run_id: str | None = None
        self.finished = False
        self._store = store
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
            self._store.client.set_terminated(self.run_id, status=first["status"], end_time=first["time"])
            self.finished = first["status"] == "FINISHED"

    def _begin(self, event: Event) -> None:
        experiment = self._store.get_or_create_experiment(event["experiment"])
        run = search_run(self._store.client, experiments=[experiment], fingerprint=event["fingerprint"])
        self.finished = run is not None and run.info.status == "FINISHED"
        if self.finished:
            self.run_id = run.info.run_id
            return
        if run is None:
            run = self._store.client.create_run(
                experiment, start_time=event["time"], tags=event["tags"], run_name=event["name"]
            )
        elif run.info.run_id != self.run_id:
            self._store.client.update_run(run.info.run_id, status="RUNNING")
            self._learn_metrics(run)
        self.run_id = run.info.run_id
        self._describe(event, known_params=set(run.data.params))

    def _describe(self, event: Event, *, known_params: set[str]) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in event["params"].items() if key not in known_params]
        tags = [RunTag(key, value) for key, value in event["tags"].items()]
        self._store.client.log_batch(self.run_id, params=params[:_PARAMS_PER_CALL], tags=tags)
        for start in range(_PARAMS_PER_CALL, len(params), _PARAMS_PER_CALL):
            self._store.client.log_batch(self.run_id, params=params[start : start + _PARAMS_PER_CALL])
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
        filter_string=f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'",
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
