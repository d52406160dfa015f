"""Promotion and rollback: the alias champion moves only as a recorded operation (tracking/operations.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracking.gates.report import GateReport
from tracking.history.events import Event, NewEvent
from tracking.history.history import History
from tracking.history.state import champions
from tracking.operations import move_alias, prepare
from tracking.project import TrackingError
from tracking.registry.listing import load_model
from tracking.registry.versions import (
    CHALLENGER,
    CHAMPION,
    MissingAlias,
    download,
    find_champion,
    get_version,
    model_name,
)
from tracking.store import Store


@dataclass(frozen=True)
class Promotion:
    """What `promote` or `rollback` did.

    `moved` is False when the gate refused or the version is the champion already, `forced` is True when
    it was promoted although a gate failed, `event` is the result in the history where something moved.
    """

    moved: bool
    version: str
    previous_champion: str | None
    reasons: list[str]
    forced: bool = False
    event: Event | None = None


def promote(
    store: Store,
    *,
    data: str,
    gate_result: GateReport,
    by: str,
    reason: str = "",
    force: str | None = None,
    report: str | None = None,
) -> Promotion:
    """Move the alias champion to the version that the gates looked at, and record it.

    A refused gate moves nothing, unless `force` says why it should. `report` is where the gates' report
    is kept. Raises ConflictError when somebody else was faster, BlockedError when an operation is open,
    TrackingError when challenger or champion changed since the gates looked at them, or MLflow or the
    history cannot be reached.
    """
    wanted, previous = gate_result.challenger, gate_result.champion
    forced = bool(force) and not gate_result.passed
    if wanted == previous or not (gate_result.passed or forced):
        return Promotion(False, wanted, previous, gate_result.reasons)
    history = History.at(store)
    events = prepare(history, data=data)
    name = model_name(data)
    _refuse_changed(history, name=name, expected={CHALLENGER: wanted, CHAMPION: previous})
    wish = NewEvent(
        model=name,
        kind="intent",
        action="promote",
        alias=CHAMPION,
        version=wanted,
        previous_version=previous,
        by=by,
        reason=force if force and forced else reason,
        details=_describe(gate_result, forced=forced, report_path=report),
        after=events[-1].sequence if events else 0,
    )
    event = move_alias(history, wish)
    return Promotion(True, wanted, previous, gate_result.reasons, forced=forced, event=event)


def rollback(store: Store, *, data: str, by: str, to: str | None = None, reason: str = "") -> Promotion:
    """Move the alias champion back to version `to`, or to the champion before the present one.

    The version's bundle is checked before anything moves. A second rollback goes back further, never to a
    version that the first one left. Raises MissingAlias where there is no such version or no earlier
    champion, and what `promote` raises.
    """
    history = History.at(store)
    events = prepare(history, data=data)
    champion = find_champion(store, data=data)
    now = champion.version if champion else None
    target, notes = (to, []) if to is not None else _champion_before(store, events, data=data)
    version = get_version(store, data=data, which=target)
    if version.version == now:
        return Promotion(False, now, now, [])
    download(store, version=version)
    wish = NewEvent(
        model=version.name,
        kind="intent",
        action="rollback",
        alias=CHAMPION,
        version=version.version,
        previous_version=now,
        by=by,
        reason=reason,
        details={"bundle_digest": version.bundle_digest},
        after=events[-1].sequence if events else 0,
    )
    event = move_alias(history, wish)
    notes.append(f"its bundle is whole ({version.bundle_digest[:12]})")
    return Promotion(True, version.version, now, notes, event=event)


def _refuse_changed(history: History, *, name: str, expected: Mapping[str, str | None]) -> None:
    """Raise TrackingError where an alias is no longer where it was when the gates looked."""
    aliases = load_model(history.store, name=name).aliases
    for alias, version in expected.items():
        if aliases.get(alias) != version:
            moved = [
                e for e in history.events(name) if e.alias == alias and (e.moves_alias or e.kind == "intent")
            ]
            who = f" ({moved[-1].sentence})" if moved else ""
            raise TrackingError(
                f"expected version {version} to be the {alias}, as when the gate looked at it, but it is "
                f"version {aliases.get(alias)} now{who}; run `aisle promote` again"
            )


def _champion_before(store: Store, events: list[Event], *, data: str) -> tuple[str, list[str]]:
    """The nearest earlier champion that still exists, and sentences about those that do not."""
    *earlier, now = champions(events, alias=CHAMPION) or [None]
    gone = list[str]()
    for version in reversed(earlier):
        if version is None or version == now:
            continue
        try:
            return get_version(store, data=data, which=version).version, gone
        except MissingAlias:
            gone.append(f"version {version}, the champion before, was deleted")
    found = "; ".join(gone) or f"version {now} is the first that the history knows"
    raise MissingAlias(
        f"expected an earlier champion of {model_name(data)} to go back to, found none: {found}. `aisle "
        "versions` lists what there is; name one with `aisle rollback --to VERSION`"
    )


def _describe(report: GateReport, *, forced: bool, report_path: str | None) -> dict[str, Any]:
    """What the gates said, for the history: outcomes and numbers; the whole report by its digest."""
    return {
        "gates": {
            answer.gate: {
                "outcome": answer.outcome,
                "sentence": answer.sentence,
                "numbers": dict(answer.numbers),
            }
            for answer in report.answers
        },
        "forced": forced,
        "report": report_path,
        "report_digest": report.digest,
    }
