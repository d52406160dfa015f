"""A registration in the history: it moves the alias challenger, and is no move outside of Aisle."""

from __future__ import annotations

import logging

from tracking.history.database import is_configured
from tracking.history.events import NewEvent
from tracking.history.history import History
from tracking.project import TrackingError
from tracking.registry.versions import CHALLENGER, ModelVersion
from tracking.store import Store

_LOG = logging.getLogger("aisle.tracking")


def note_registration(store: Store, version: ModelVersion, *, previous: str | None) -> None:
    """Record that a version was made the challenger; where the history is out of reach, warn and go on.

    The next command that decides about the registry adopts it then. A machine that only trains against a
    server needs no history at all.
    """
    if previous == version.version or not is_configured(store):
        return
    try:
        History.at(store).record(
            NewEvent(
                model=version.name,
                kind="note",
                action="register",
                alias=CHALLENGER,
                version=version.version,
                previous_version=previous,
                by=version.tags.get("aisle.registered_by", "unknown"),
                details={"bundle_digest": version.bundle_digest},
            )
        )
    except TrackingError as error:
        _LOG.warning(
            "Version %s is registered, but its registration is not recorded: %s", version.version, error
        )
