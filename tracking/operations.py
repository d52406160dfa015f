"""An operation on the registry in three steps: intent row, the act in MLflow, result row.

A process may be killed between any two of them. The intent stays open then, blocks further operations, and
`aisle doctor` ends it with `complete` or `revert`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from tracking.history.events import Event, NewEvent, Outcome
from tracking.history.history import History
from tracking.history.outside import adopt_outside_moves
from tracking.history.state import find_open
from tracking.lineage.origin import git_user
from tracking.project import TrackingError
from tracking.registry.listing import load_model
from tracking.registry.versions import model_name
from tracking.store import Store

Standing = Literal["done", "not done", "elsewhere"]


class BlockedError(TrackingError):
    """Another operation on the same model has no result yet; the message says whose."""


def prepare(history: History, *, data: str) -> list[Event]:
    """Adopt what happened outside, and return all events of the model.

    Raises BlockedError where an operation has no result.
    """
    adopt_outside_moves(history, data=data)
    events = history.events(model_name(data))
    for intent in find_open(events):
        raise BlockedError(
            f"expected no other operation on {intent.model}, but one has no result yet ({intent.sentence}): "
            f"it is running {where(intent)}, or its process was killed there. Wait for it, or run `aisle "
            "doctor`"
        )
    return events


def move_alias(history: History, wanted: NewEvent) -> Event:
    """Record the intent, move the alias, record the result, which is returned.

    Raises ConflictError when somebody was faster, TrackingError when MLflow or the database fails: the
    message says whether the alias was moved.
    """
    return run_operation(history, wanted, act=lambda intent: set_alias(history.store, intent, intent.version))


def run_operation(history: History, wanted: NewEvent, *, act: Callable[[Event], None]) -> Event:
    """Record the intent, act, record the result."""
    intent = history.append(_with_process(wanted))
    try:
        act(intent)
    except TrackingError as error:
        _settle_failure(history, intent, error=error)
        raise
    return record_result(history, intent, outcome="completed", by=intent.by)


def record_result(
    history: History, intent: Event, *, outcome: Outcome, by: str, details: Mapping[str, Any] | None = None
) -> Event:
    """Append the result of an operation; ConflictError where it has one already."""
    return history.record(
        NewEvent(
            model=intent.model,
            operation=intent.operation,
            kind="result",
            action=intent.action,
            alias=intent.alias,
            version=intent.version,
            previous_version=intent.previous_version,
            by=by,
            reason=intent.reason,
            details={**(details or {}), "outcome": outcome},
        )
    )


def standing(history: History, intent: Event) -> Standing:
    """Whether MLflow shows what the operation was to do, what was before it, or neither of the two."""
    if intent.action == "delete":
        return "not done" if version_exists(history.store, intent) else "done"
    now = load_model(history.store, name=intent.model).aliases.get(str(intent.alias))
    return "done" if now == intent.version else "not done" if now == intent.previous_version else "elsewhere"


def may_be_running(intent: Event) -> bool:
    """Whether the process that recorded the intent lives; of another machine nobody here knows, so True."""
    process = intent.details.get("process")
    if intent.details.get("host") != socket.gethostname() or not isinstance(process, int):
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def where(intent: Event) -> str:
    """The machine and process of an intent, for a message."""
    return (
        f"on {intent.details.get('host', 'an unknown host')} (process {intent.details.get('process', '?')})"
    )


def complete(history: History, intent: Event, *, by: str | None = None) -> Event:
    """End an open operation by doing what is left of it; its result, which says so.

    Raises TrackingError where the alias is at a third version by now, or MLflow refuses.
    """
    stands = standing(history, intent)
    if stands == "elsewhere":
        raise TrackingError(
            f"cannot complete the {intent.action} of version {intent.version} of {intent.model}: the alias "
            f"{intent.alias} was moved to another version since; revert it instead"
        )
    if stands == "not done":
        if intent.action == "delete":
            delete_unaliased(history.store, intent)
        else:
            set_alias(history.store, intent, intent.version)
    return _record_doctor(history, intent, outcome="completed", by=by)


def revert(history: History, intent: Event, *, by: str | None = None) -> Event:
    """End an open operation by undoing what was done of it; its result, which says so.

    An alias that was moved to a third version since stays there, and is adopted as a move outside of Aisle.
    Raises TrackingError for a version that is deleted already, or when MLflow refuses.
    """
    if standing(history, intent) == "done":
        if intent.action == "delete":
            raise TrackingError(
                f"cannot revert the deletion of version {intent.version} of {intent.model}: MLflow has "
                "deleted it already; complete it instead"
            )
        set_alias(history.store, intent, intent.previous_version)
    return _record_doctor(history, intent, outcome="reverted", by=by)


def set_alias(store: Store, intent: Event, version: str | None) -> None:
    """Put the intent's alias on a version, or take it away for None."""
    alias = str(intent.alias)
    with store.explain_failure(doing=f"move {alias} of {intent.model} to version {version}"):
        if version is None:
            store.client.delete_registered_model_alias(intent.model, alias)
        else:
            store.client.set_registered_model_alias(intent.model, alias, version)


def delete_unaliased(store: Store, intent: Event) -> None:
    """Delete the intent's version in MLflow; TrackingError where an alias is on it."""
    found = load_model(store, name=intent.model).aliases
    if behind := sorted(alias for alias, version in found.items() if version == intent.version):
        raise TrackingError(
            f"expected a version without an alias, received version {intent.version} of {intent.model}, "
            f"which is the {' and '.join(behind)}; promote or roll back to another version first"
        )
    with store.explain_failure(doing=f"delete version {intent.version} of {intent.model}"):
        store.client.delete_model_version(intent.model, str(intent.version))


def version_exists(store: Store, intent: Event) -> bool:
    """Whether MLflow still has the intent's version."""
    from mlflow.exceptions import MlflowException

    with store.explain_failure(doing=f"look up version {intent.version} of {intent.model}"):
        try:
            store.client.get_model_version(intent.model, str(intent.version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
    return True


def _with_process(wanted: NewEvent) -> NewEvent:
    return replace(wanted, details={**wanted.details, "host": socket.gethostname(), "process": os.getpid()})


def _settle_failure(history: History, intent: Event, *, error: TrackingError) -> None:
    """Record what came of an act that MLflow refused; where MLflow does not say, the intent stays open."""
    try:
        stands = standing(history, intent)
    except TrackingError:
        raise TrackingError(
            f"{error}. Whether the {intent.action} of version {intent.version} was done is unknown: run "
            "`aisle doctor` when MLflow answers again"
        ) from error
    if stands == "done":  # the request was carried out, its answer got lost
        record_result(history, intent, outcome="completed", by=intent.by)
        raise TrackingError(
            f"{error}. The {intent.action} of version {intent.version} was done nevertheless, and is recorded"
        ) from error
    record_result(history, intent, outcome="failed", by=intent.by, details={"error": str(error)})


def _record_doctor(history: History, intent: Event, *, outcome: Outcome, by: str | None) -> Event:
    details = {"settled_by": "aisle doctor"}
    return record_result(
        history, intent, outcome=outcome, by=by or git_user(history.store.root), details=details
    )
