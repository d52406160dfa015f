"""What the events of a model say: where its aliases are, which operations are open, who approved what."""

from __future__ import annotations

from collections.abc import Iterable

from tracking.history.events import Event
from tracking.history.history import History


def aliases_of(events: Iterable[Event]) -> dict[str, str | None]:
    """The version behind each alias that was ever recorded; None for one that was removed."""
    return {event.alias: event.version for event in events if event.alias and event.moves_alias}


def champions(events: Iterable[Event], *, alias: str) -> list[str | None]:
    """The versions that a rollback goes back through, oldest first; the last one is where the alias is now.

    A promotion adds one. A rollback takes away those that it went back over, or the one that it left where it
    went to a version that was never there: a second rollback never comes to what the first one left. A move
    outside of Aisle counts as a rollback where it went back, else as a promotion.
    """
    past: list[str | None] = []
    for event in events:
        if event.alias != alias or not event.moves_alias or (past and past[-1] == event.version):
            continue
        if not past and event.previous_version is not None:  # from before the history
            past.append(event.previous_version)
        if event.action != "promote" and event.version in past:
            del past[len(past) - past[::-1].index(event.version) :]
            continue
        if event.action == "rollback":
            del past[-1:]
        past.append(event.version)
    return past


def find_open(events: Iterable[Event]) -> list[Event]:
    """The intents without a result."""
    open_ones: dict[str, Event] = {}
    for event in events:
        if event.kind == "intent":
            open_ones[event.operation] = event
        elif event.kind == "result":
            open_ones.pop(event.operation, None)
    return list(open_ones.values())


def open_operations(history: History, model: str) -> list[Event]:
    """The intents of a model without a result: they are being done now, or their process was killed."""
    return find_open(history.events(model))


def approvals(history: History, model: str, version: str) -> list[Event]:
    """The approvals of a version, oldest first."""
    return [event for event in history.events(model) if event.kind == "approval" and event.version == version]
