"""Aliases moved in MLflow's UI or by its client: noticed, and appended to the history as "outside".

MLflow keeps no history of aliases. What it says now is compared with where our events end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracking.history.events import Event, NewEvent
from tracking.history.history import ConflictError, History
from tracking.history.state import aliases_of, find_open
from tracking.lineage.origin import git_user
from tracking.registry.listing import RegisteredModel, load_model
from tracking.registry.versions import CHALLENGER, CHAMPION, MissingAlias, get_version, model_name

_UNKNOWN = "unknown"
_NUM_TRIES = 5


def adopt_outside_moves(history: History, *, data: str) -> list[Event]:
    """Append what happened outside of Aisle since the last event; the events that were appended.

    An alias that an open operation moves is left alone: `aisle doctor` decides about that. A chain whose
    end is missing is noted, so that it stays known when later events come.
    """
    model = model_name(data)
    for attempt in range(_NUM_TRIES):
        events = history.events(model)  # before the aliases: a move of ours in between makes `append` fail
        found = load_model(history.store, name=model)
        try:
            return [history.record(event) for event in _missing_events(history, events, found, data=data)]
        except ConflictError:
            if attempt == _NUM_TRIES - 1:
                raise
    raise AssertionError


def _missing_events(
    history: History, events: list[Event], found: RegisteredModel, *, data: str
) -> list[NewEvent]:
    last = events[-1].sequence if events else 0
    recorded = aliases_of(events)
    busy = {event.alias for event in find_open(events)}
    new = []
    if problems := history.check_head(found):
        note = {"kind": "note", "action": "lost", "reason": "; ".join(problems)}
        new.append({**note, "by": git_user(history.store.root)})
    for alias in (CHALLENGER, CHAMPION):
        now = found.aliases.get(alias)
        if alias not in busy and now != recorded.get(alias):
            is_first = alias not in recorded
            move = _describe(
                history, alias=alias, now=now, before=recorded.get(alias), data=data, first=is_first
            )
            new.append({"kind": "outside", "action": "adopt", "alias": alias, "version": now} | move)
    return [NewEvent(model=found.name, after=last + index, **event) for index, event in enumerate(new)]


def _describe(
    history: History, *, alias: str, now: str | None, before: str | None, data: str, first: bool
) -> dict[str, Any]:
    """Who, from where and why, as far as anybody knows."""
    details = {"noticed_by": git_user(history.store.root)}
    if now is None:
        gone = before is not None and _tags_of(history, data=data, version=before) is None
        why = f"version {before} was deleted outside of Aisle" if gone else "removed outside of Aisle"
        return {"by": _UNKNOWN, "previous_version": before, "reason": why, "details": details}
    tags = _tags_of(history, data=data, version=now) or {}
    if alias == CHALLENGER:
        by = tags.get("aisle.registered_by", _UNKNOWN)
        details |= {"registered_at": tags.get("aisle.registered_at", _UNKNOWN)}
        why = "registered while the history was not at hand, or moved outside of Aisle"
        return {"by": by, "previous_version": before, "reason": why, "details": details}
    if first and "aisle.promoted_at" in tags:  # by an Aisle that kept promotions in tags
        previous = tags.get("aisle.previous_champion", "none")
        return {
            "by": tags.get("aisle.promoted_by", _UNKNOWN),
            "previous_version": None if previous == "none" else previous,
            "reason": tags.get("aisle.promotion_reason", ""),
            "details": details | {"promoted_at": tags["aisle.promoted_at"]},
        }
    why = "set before this history, or outside of Aisle" if first else "moved outside of Aisle"
    return {"by": _UNKNOWN, "previous_version": before, "reason": why, "details": details}


def _tags_of(history: History, *, data: str, version: str) -> Mapping[str, str] | None:
    """The tags of a version, None where MLflow has no such version: an alias may be left on a deleted one."""
    try:
        return get_version(history.store, data=data, which=version).tags
    except MissingAlias:
        return None
