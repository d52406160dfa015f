"""Aliases moved in MLflow's UI or by its client: noticed, and appended to the history as "outside".

MLflow keeps no history of aliases. What it says now is compared with where our events end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
    recorded = aliases_of(events)
    busy = {event.alias for event in find_open(events)}
    new = []
    if problems := history.check_head(found):
        by, reason = git_user(history.store.root), "; ".join(problems)
        new.append(NewEvent(model=found.name, kind="note", action="lost", by=by, reason=reason))
    for alias in (CHALLENGER, CHAMPION):
        before, now = recorded.get(alias), found.aliases.get(alias)
        if alias not in busy and before != now:
            move = NewEvent(
                model=found.name,
                kind="outside",
                action="adopt",
                by=_UNKNOWN,
                alias=alias,
                version=now,
                previous_version=before,
                details={"noticed_by": git_user(history.store.root)},
            )
            new.append(_describe(history, move, data=data, is_first=alias not in recorded))
    last = events[-1].sequence if events else 0
    return [replace(event, after=last + index) for index, event in enumerate(new)]


def _describe(history: History, move: NewEvent, *, data: str, is_first: bool) -> NewEvent:
    """The move with who and why, as far as anybody knows."""
    if move.version is None:
        before = move.previous_version
        gone = before is not None and _tags_of(history, data=data, version=before) is None
        why = f"version {before} was deleted outside of Aisle" if gone else "removed outside of Aisle"
        return replace(move, reason=why)
    tags = _tags_of(history, data=data, version=move.version) or {}
    if move.alias == CHALLENGER:
        return replace(
            move,
            by=tags.get("aisle.registered_by", _UNKNOWN),
            reason="registered while the history was not at hand, or moved outside of Aisle",
            details={**move.details, "registered_at": tags.get("aisle.registered_at", _UNKNOWN)},
        )
    if is_first and "aisle.promoted_at" in tags:  # by an Aisle that kept promotions in tags
        previous = tags.get("aisle.previous_champion", "none")
        return replace(
            move,
            by=tags.get("aisle.promoted_by", _UNKNOWN),
            previous_version=None if previous == "none" else previous,
            reason=tags.get("aisle.promotion_reason", ""),
            details={**move.details, "promoted_at": tags["aisle.promoted_at"]},
        )
    why = "set before this history, or outside of Aisle" if is_first else "moved outside of Aisle"
    return replace(move, reason=why)


def _tags_of(history: History, *, data: str, version: str) -> Mapping[str, str] | None:
    """The tags of a version, None where MLflow has no such version: an alias may be left on a deleted one."""
    try:
        return get_version(history.store, data=data, which=version).tags
    except MissingAlias:
        return None
