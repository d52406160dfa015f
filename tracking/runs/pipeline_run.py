"""The parent run of a pipeline: one for each recipe, data, size, seed and parameters, above its phases.

Whoever is first makes it: two stages may begin at once, and the server may be away until both are over, so
every beginning in a spool carries what is needed to find or to make it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from filelock import FileLock

from tracking.store import Store

FINGERPRINT_TAG = "aisle.fingerprint"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
PIPELINE = "pipeline"
"""The tag aisle.kind of a parent."""
NOTE_END = "*Written by Aisle. Remove this line to keep a text of your own.*"
PARAMS_PER_CALL = 100
"""MLflow's limit."""
_SECONDS_FOR_LOCK = 60
_MADE_TAG = "aisle.made_at"


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """What finds or makes the parent: equal fingerprints are one run."""

    experiment: str
    name: str
    fingerprint: str
    params: Mapping[str, str]
    tags: Mapping[str, str]

    def to_event(self) -> dict[str, Any]:
        """As the beginning of a run carries it in its spool."""
        return asdict(self)


def find_or_make(store: Store, *, experiment: str, event: Mapping[str, Any], began: int) -> Any:
    """MLflow's run of the parent that `event` describes; `began`, in ms, is when the first stage began.

    MLflow knows no unique tag. On one machine a lock keeps a second stage waiting; of two machines that made
    one each, both take the older. Raises one of tracking.store.send_errors().
    """
    client = store.run_client
    (store.root / ".aisle").mkdir(exist_ok=True)
    with FileLock(store.root / ".aisle" / "parents.lock", timeout=_SECONDS_FOR_LOCK):
        found = _search(client, experiment=experiment, fingerprint=event["fingerprint"])
        if found:
            return found[0]
        _make(client, experiment=experiment, event=event, began=began)
        return _search(client, experiment=experiment, fingerprint=event["fingerprint"])[0]


def link_children(client: Any, *, parent: Any, fingerprints: Iterable[str]) -> None:
    """Put the runs with these fingerprints under the parent, unless they are under another pipeline already.

    A phase that came out of DVC's cache has no process that could do it.
    """
    for fingerprint in fingerprints:
        for run in client.search_runs([parent.info.experiment_id], with_fingerprint(fingerprint)):
            if PARENT_TAG not in run.data.tags:
                client.set_tag(run.info.run_id, PARENT_TAG, parent.info.run_id)


def with_fingerprint(fingerprint: str) -> str:
    """The filter of MLflow's search for it."""
    return f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'"


def may_replace_note(note: str) -> bool:
    """Whether a note or description is ours, so that no person's text is lost."""
    return not note.strip() or note.rstrip().endswith(NOTE_END)


def _search(client: Any, *, experiment: str, fingerprint: str) -> list[Any]:
    """The parents with a fingerprint, first the one that was made first; more than one by accident only."""
    found = client.search_runs([experiment], with_fingerprint(fingerprint))
    return sorted(found, key=lambda run: (int(run.data.tags.get(_MADE_TAG, 0)), run.info.run_id))


def _make(client: Any, *, experiment: str, event: Mapping[str, Any], began: int) -> None:
    from mlflow.entities import Param

    tags = {**event["tags"], FINGERPRINT_TAG: event["fingerprint"], _MADE_TAG: str(time.time_ns())}
    run = client.create_run(experiment, start_time=began, tags=tags, run_name=event["name"])
    params = [Param(key, value) for key, value in event["params"].items()]
    for start in range(0, len(params), PARAMS_PER_CALL):
        client.log_batch(run.info.run_id, params=params[start : start + PARAMS_PER_CALL])
