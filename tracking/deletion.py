"""Deleting a version: never one behind an alias, which MLflow itself deletes without a word."""

from __future__ import annotations

from tracking.history.events import Event, NewEvent
from tracking.history.history import History
from tracking.operations import delete_unaliased, prepare, run_operation
from tracking.project import TrackingError
from tracking.registry.versions import get_version
from tracking.store import Store


def delete_version(store: Store, *, data: str, version: str, by: str, reason: str) -> Event:
    """Delete a version in MLflow and record it; its files stay in the artifact store.

    Raises TrackingError for a version behind an alias, without a reason, and as `promote` does.
    """
    if not reason.strip():
        raise TrackingError(
            f"expected a reason to delete version {version}, received none; give --reason TEXT"
        )
    history = History.at(store)
    events = prepare(history, data=data)
    found = get_version(store, data=data, which=version)
    wish = NewEvent(
        model=found.name,
        kind="intent",
        action="delete",
        version=found.version,
        by=by,
        reason=reason,
        details={
            "bundle_digest": found.bundle_digest,
            "registered_by": found.tags.get("aisle.registered_by"),
        },
        after=events[-1].sequence if events else 0,
    )
    # The aliases are read after the intent: no promotion of ours can begin from then on.
    return run_operation(history, wish, act=lambda intent: delete_unaliased(store, intent))
