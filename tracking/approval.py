"""A person's approval of a version, which the gate `approval` may ask for; not by who registered it."""

from __future__ import annotations

from tracking.history.events import Event, NewEvent
from tracking.history.history import History
from tracking.history.outside import adopt_outside_moves
from tracking.history.state import approvals
from tracking.lineage.origin import git_user
from tracking.project import TrackingError
from tracking.registry.versions import CHALLENGER, get_version
from tracking.store import Store


def approve(
    store: Store, *, data: str, by: str, version: str | None = None, reason: str = ""
) -> tuple[Event, bool]:
    """Record that a person approves a version, by default the challenger; the event, and whether it is new.

    Raises TrackingError for the person who registered the version, and where MLflow or the history cannot be
    reached.
    """
    history = History.at(store)
    adopt_outside_moves(history, data=data)
    found = get_version(store, data=data, which=version or CHALLENGER)
    registered_by = found.tags.get("aisle.registered_by", "")
    if _same_person(by, registered_by):
        raise TrackingError(
            f"expected somebody else to approve version {found.version} of {found.name}, received {by}, who "
            "registered it; let another person run `aisle approve`"
        )
    for given in approvals(history, found.name, found.version):
        if _same_person(given.by, by):
            return given, False
    event = NewEvent(
        model=found.name,
        kind="approval",
        action="approve",
        version=found.version,
        by=by,
        reason=reason,
        details={
            "bundle_digest": found.bundle_digest,
            "registered_by": registered_by,
            "entered_by": git_user(store.root),  # --by is a name that anybody can type
        },
    )
    return history.record(event), True


def _same_person(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
