"""Replays the events of a spool into MLflow, so that sending one twice changes nothing.

That is what lets a run survive a dead server, a killed process and a second try alike: whoever comes next
sends the whole spool again, and what the server has is skipped. After a request that failed nobody knows
whether it arrived: before the next one the sender asks the server what it has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracking.project import TrackingError
from tracking.runs.known_metrics import KnownMetrics
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
from tracking.runs.spool import Event, Spool
from tracking.store import Store

SPOOL_TAG = "aisle.spool"  # spool_address
_METRICS_PER_CALL = 800  # MLflow takes 1,000 in a call


class Sender:
    """Sends one run's events.

    `run_id` is None before the first event arrived; `finished` is True once the run is closed as FINISHED, by
    us or by an earlier process, and then everything but a new beginning is dropped.
    """

    def __init__(self, store: Store, *, spool: Spool) -> None:
        self.run_id: str | None = None
        self.finished = False
        self._store = store
        self._spool = spool
        self._offset = 0
        self._last: Event | None = None
        self._begun: dict[str, str] = {}
        self._parent_id: str | None = None
        self._is_part = False
        self._closes = False
        self._known = KnownMetrics()
        self._unsure = False

    def send_next(self) -> bool:
        """Send what fits into one call; False where nothing waits.

        Raises one of tracking.store.send_errors(), and sends the same again at the next call; TrackingError
        where the spool does not say what run it is about.
        """
        if self._unsure:
            self._look_again()
        call = _one_call(self._spool.read(self._offset))
        if not call:
            return False
        self._unsure = True
        self._send([event for event, _ in call])
        self._unsure = False
        self._last, self._offset = call[-1]
        return True

    def close_left_over(self) -> None:
        """Close the run of a killed process as KILLED, at the time of its last event; raises as above."""
        if self._last is not None and self._last["event"] != "end":
            at = self._last.get("time", time.time_ns() // 1_000_000)
            self._send([{"event": "end", "status": "KILLED", "time": at}])

    def _send(self, events: list[Event]) -> None:
        first = events[0]
        if first["event"] == "begin":
            self._begin(first)
        elif self.finished or first["event"] == "damaged":
            return
        elif self.run_id is None:
            raise TrackingError(
                f"expected the beginning of a run in {self._spool.path}, received {first['event']}: the "
                "file is damaged; restore it from a backup, or move it away"
            )
        elif first["event"] == "metrics":
            self._metrics(events)
        elif first["event"] == "artifact":
            self._artifact(first)
        else:
            self._end(first)

    @property
    def _client(self) -> Any:
        return self._store.run_client

    def _begin(self, event: Event) -> None:
        client, parent = self._client, None
        experiment = self._store.get_or_create_experiment(event["experiment"])
        if event.get("parent"):  # spools of earlier versions have none
            parent = find_or_make(
                self._store, experiment=experiment, event=event["parent"], began=event["time"]
            )
            self._parent_id = parent.info.run_id
        self._begun = {**event["tags"], "experiment": experiment}
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
            self._learn_metrics(run.info.run_id, keys=run.data.metrics)
        self.run_id = run.info.run_id
        self._describe(event, run=run)
        self._adopt(run)
        link_children(client, parent=parent, fingerprints=event.get("children", ()))

    def _adopt(self, run: Any) -> None:
        """Put a run under its pipeline's; one that another pipeline made, by the same phase, stays there."""
        if not self._is_part and self._parent_id is not None and PARENT_TAG not in run.data.tags:
            self._client.set_tag(run.info.run_id, PARENT_TAG, self._parent_id)

    def _end(self, event: Event) -> None:
        client, status = self._client, event["status"]
        if not self._is_part:
            self._remove_twins()
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
        self._client.log_batch(self.run_id, params=params[:PARAMS_PER_CALL], tags=tags)
        for start in range(PARAMS_PER_CALL, len(params), PARAMS_PER_CALL):
            self._client.log_batch(self.run_id, params=params[start : start + PARAMS_PER_CALL])
        if event["inputs"]:
            self._client.log_inputs(self.run_id, datasets=[_dataset_input(item) for item in event["inputs"]])

    def _metrics(self, events: list[Event]) -> None:
        from mlflow.entities import Metric

        new = KnownMetrics()  # within this call: what was sent is only known once the server has answered
        metrics = []
        for event in events:
            for key, value in event["values"].items():
                told = {"step": event["step"], "time": event["time"], "value": value}
                if not (self._known.has(key, **told) or new.has(key, **told)):
                    new.add(key, **told)
                    metrics.append(Metric(key, value, event["time"], event["step"] or 0))
        if metrics:
            self._client.log_batch(self.run_id, metrics=metrics)
        for metric in metrics:
            self._known.add(metric.key, step=metric.step, time=metric.timestamp, value=metric.value)

    def _artifact(self, event: Event) -> None:
        path = Path(event["path"])
        if not path.exists():  # it was dropped when it had arrived: this is a replay
            return
        if path.is_dir():
            folder = "/".join(part for part in (event["artifact_path"], path.name) if part)
            self._client.log_artifacts(self.run_id, str(path), folder)
        else:
            self._client.log_artifact(self.run_id, str(path), event["artifact_path"])
        self._spool.drop_artifact(path)

    def _look_again(self) -> None:
        """Learn what the server has of the request that failed; start over where it has lost the run."""
        from mlflow.exceptions import MlflowException

        if self.run_id is None:
            return  # a beginning looks for its run anyway
        try:
            is_there = self._client.get_run(self.run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            is_there = False
        if is_there:
            failed = [event for event, _ in _one_call(self._spool.read(self._offset))]
            self._learn_metrics(
                self.run_id, keys={key for event in failed for key in event.get("values", ())}
            )
        else:
            self.run_id, self.finished, self._offset, self._known = None, False, 0, KnownMetrics()
        self._unsure = False

    def _learn_metrics(self, run_id: str, *, keys: Iterable[str]) -> None:
        """Note the history of each metric, which the client reads in pages of 25,000 values."""
        for key in sorted(keys):
            for metric in self._client.get_metric_history(run_id, key):
                self._known.add(key, step=metric.step, time=metric.timestamp, value=metric.value)

    def _remove_twins(self) -> None:
        """Delete empty runs that requests to make ours have made whose answers were lost."""
        fingerprint, spool = (self._begun.get(tag) for tag in (FINGERPRINT_TAG, SPOOL_TAG))
        if not fingerprint or not spool:  # of a spool from before
            return
        for run in _search_runs(self._client, [self._begun["experiment"]], fingerprint=fingerprint):
            ours = run.data.tags.get(SPOOL_TAG) == spool and run.info.run_id != self.run_id
            if ours and run.info.status == "RUNNING" and not run.data.metrics:
                self._client.delete_run(run.info.run_id)


def search_run(client: Any, *, experiments: list[str], fingerprint: str) -> Any:
    """The run with this fingerprint: the latest finished one, else the latest, else None."""
    runs = _search_runs(client, experiments, fingerprint=fingerprint)
    finished = [run for run in runs if run.info.status == "FINISHED"]
    return finished[0] if finished else runs[0] if runs else None


def _search_runs(client: Any, experiments: list[str], *, fingerprint: str) -> Sequence[Any]:
    """The runs with this fingerprint that are not deleted, the latest first."""
    return client.search_runs(  # type: ignore[no-any-return]
        experiments,
        filter_string=with_fingerprint(fingerprint),
        order_by=["attributes.start_time DESC"],
    )


def _one_call(waiting: list[tuple[Event, int]]) -> list[tuple[Event, int]]:
    """The first events that one call can send: metrics up to a limit, or one event of another kind."""
    count = num_values = 0
    for event, _ in waiting:
        if event["event"] != "metrics" or (count and num_values + len(event["values"]) > _METRICS_PER_CALL):
            break
        count, num_values = count + 1, num_values + len(event["values"])
    return waiting[: count or 1]


def _dataset_input(item: Mapping[str, str]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=item["name"],
        digest=item["md5"][:36],  # MLflow takes 36 characters: an md5 and ".dir"
        source_type="local",
        source=json.dumps({"uri": item["path"]}),
    )
    return DatasetInput(dataset=dataset, tags=[InputTag("mlflow.data.context", item["context"])])
