"""Whether the history, its chain, and MLflow's aliases and versions say the same."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import partial

from tracking.doctor.finding import Finding
from tracking.doctor.stores import history_schema
from tracking.history.events import Event
from tracking.history.history import History
from tracking.history.outside import adopt_outside_moves
from tracking.history.state import aliases_of, find_open
from tracking.operations import complete, may_be_running, revert, standing, where
from tracking.project import TrackingError
from tracking.registry.listing import RegisteredModel, load_model
from tracking.registry.versions import CHALLENGER, CHAMPION, MODEL_PREFIX
from tracking.store import Store

_LONGEST_OPERATION = timedelta(hours=1)
"""An intent that is older was left, whatever process now has its number or records on another machine."""
_YOUNG = timedelta(minutes=1)


def find_models(store: Store) -> list[str]:
    """The models of Aisle in MLflow; raises one of send_errors."""
    names, token = set(), None
    while True:
        page = store.client.search_registered_models(page_token=token)
        names |= {model.name for model in page if model.name.startswith(MODEL_PREFIX)}
        token = page.token
        if not token:
            return sorted(names)


def recorded_models(store: Store) -> list[str]:
    """The models in the history, also those that MLflow has lost; TrackingError as History.at."""
    return History.at(store).models() if history_schema(store) is not None else []


def check_registry(store: Store, model: str, *, versions: Collection[str]) -> list[Finding]:
    """What is wrong with one model, whose `versions` exist in MLflow.

    Raises TrackingError where MLflow or the history cannot be reached.
    """
    found = load_model(store, name=model)
    if not found.aliases and history_schema(store) is None:
        return []  # nothing was ever decided: no history has to be made for that
    history = History.at(store)
    findings = [
        Finding(
            kind="broken chain",
            sentence=problem,
            run="restore the history's database from a backup; compare with `aisle audit` of before",
        )
        for problem in history.verify(model)
    ]
    try:
        events = history.events(model)
    except TrackingError as error:  # a row that is no event
        return [*findings, _unreadable(error)]
    return [
        *findings,
        *(finding for intent in find_open(events) for finding in _check_open(history, intent)),
        *_check_aliases(history, found, events, versions=versions),
    ]


def _unreadable(error: TrackingError) -> Finding:
    return Finding(kind="broken chain", sentence=str(error), run="restore the database from a backup")


def _check_open(history: History, intent: Event) -> list[Finding]:
    """An intent without a result, unless its process may still be at it."""
    age = datetime.now(UTC) - intent.at
    running = may_be_running(intent) and age < _LONGEST_OPERATION
    if running and age < _YOUNG:
        return []
    stands = standing(history, intent)
    state = {
        "done": "it was done",
        "not done": "it was not done",
        "elsewhere": f"the alias {intent.alias} is at another version by now",
    }[stands]
    verb = "completes" if stands == "done" else "reverts"
    run = f"`aisle doctor --fix` {verb} it"
    if running:
        run = f"wait for it, or end it; after an hour {run}"
    return [
        Finding(
            kind="open operation",
            sentence=f"{intent.sentence} {where(intent)}, and the history has no result of it: {state}",
            run=run,
            fix=None if running else partial(_settle, history, intent),
        )
    ]


def _settle(history: History, intent: Event) -> None:
    """Complete an operation that was done, revert any other; asked again, since time has passed."""
    if standing(history, intent) == "done":
        complete(history, intent)
    else:
        revert(history, intent)


def _check_aliases(
    history: History, found: RegisteredModel, events: list[Event], *, versions: Collection[str]
) -> list[Finding]:
    model, recorded = found.name, aliases_of(events)
    busy = {event.alias for event in find_open(events)}
    findings = []
    for alias in (CHALLENGER, CHAMPION):
        now, known = found.aliases.get(alias), recorded.get(alias)
        if now is not None and now not in versions:
            findings.append(_dangling(history.store, model, alias=alias, version=now))
        elif alias not in busy and now != known:
            gone = known is not None and known not in versions
            findings.append(_unrecorded(history, model, alias=alias, now=now, known=known, gone=gone))
    return findings


def _dangling(store: Store, model: str, *, alias: str, version: str) -> Finding:
    def remove() -> None:
        with store.explain_failure(doing=f"take the alias {alias} away from {model}"):
            if load_model(store, name=model).aliases.get(alias) == version:
                store.client.delete_registered_model_alias(model, alias)

    return Finding(
        kind="version gone",
        sentence=f"the alias {alias} of {model} is on version {version}, which MLflow no longer has",
        run=f"`aisle doctor --fix` takes the alias away, since nobody can load it; then {_what_next(alias)}",
        fix=remove,
    )


def _unrecorded(
    history: History, model: str, *, alias: str, now: str | None, known: str | None, gone: bool
) -> Finding:
    is_at = "on no version" if now is None else f"on version {now}"
    was_at = "knows of none" if known is None else f"ends with version {known}"
    if gone:
        sentence = (
            f"version {known} of {model}, the {alias} by the history, was deleted outside of Aisle; the "
            f"alias is {is_at} now"
        )
        run = f"`aisle doctor --fix` records it; then {_what_next(alias)}"
    else:
        sentence = f"the alias {alias} of {model} is {is_at}, but its history {was_at}"
        run = "`aisle doctor --fix` records it as a move outside of Aisle, as `aisle audit` does"
    data = model.removeprefix(MODEL_PREFIX)
    return Finding(
        kind="version gone" if gone else "outside move",
        sentence=sentence,
        run=run,
        fix=partial(adopt_outside_moves, history, data=data),
    )


def _what_next(alias: str) -> str:
    if alias == CHAMPION:
        return "`aisle rollback` goes back to the champion before"
    return "`aisle register` registers the ensemble again"
