"""The history of a registry: events of each model in order, appended and never changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import URL, Connection, Engine, insert, select
from sqlalchemy.exc import IntegrityError

from tracking.history.database import ensure_schema, explain_failure, find_url, make_engine, show, writing
from tracking.history.events import FIRST_HASH, Event, NewEvent, make_row, row_hash, to_event
from tracking.history.tables import EVENTS
from tracking.project import TrackingError
from tracking.registry.listing import RegisteredModel, load_model
from tracking.store import Store

HEAD_TAG = "aisle.history_head"
"""Tag of MLflow's registered model: sequence and hash of the newest event, so that a cut end is seen."""
_LOG = logging.getLogger("aisle.tracking")
_NUM_TRIES = 20
_NUM_NAMED = 5


class ConflictError(TrackingError):
    """Somebody else was faster; the message says who, what and when. `event` is theirs, where it is known."""

    def __init__(self, message: str, *, event: Event | None = None) -> None:
        super().__init__(message)
        self.event = event


@dataclass(frozen=True)
class History:
    """The events of the registry of one store."""

    store: Store
    url: URL
    engine: Engine

    @classmethod
    def at(cls, store: Store) -> History:
        """The history beside a store: AISLE_DATABASE_URL, else aisle.db in its root; made at first use.

        Raises TrackingError where there is no database that everyone shares, where it cannot be used,
        or where its schema is newer than this code.
        """
        url = find_url(store)
        engine = make_engine(url)
        with explain_failure(url, doing="open the history"):
            ensure_schema(engine)
        return cls(store, url, engine)

    @property
    def shown_url(self) -> str:
        """The database for a message: without a password."""
        return show(self.url)

    def events(self, model: str) -> list[Event]:
        """All events of a model in order of sequence; TrackingError where a row cannot be read as one."""
        return [self._to_event(row) for row in self._rows(model)]

    def models(self) -> list[str]:
        """The models that have events."""
        with self._reading("list the models") as connection:
            return list(connection.scalars(select(EVENTS.c.model).distinct().order_by(EVENTS.c.model)))

    def append(self, event: NewEvent) -> Event:
        """Append an event to those of its model.

        Raises ConflictError when `event.after` is no longer the last one, or when its operation has
        such a row already; TrackingError when the database cannot be used.
        """
        with explain_failure(self.url, doing=f"record {event.action} of {event.model}"):
            for _ in range(_NUM_TRIES):
                try:
                    with writing(self.engine) as connection:
                        return self._append(connection, event)
                except IntegrityError:  # PostgreSQL, when two insert the same row at once: look again
                    continue
        raise ConflictError(
            f"others write so much to the history of {event.model} that no row was free; try again"
        )

    def record(self, event: NewEvent) -> Event:
        """Append an event and let MLflow remember that it is the newest; raises as `append`.

        Where MLflow does not take it there is a warning: the next event is remembered in its place.
        """
        made = self.append(event)
        self.mark_head(event.model)
        return made

    def mark_head(self, model: str) -> None:
        """Write sequence and hash of the newest event on MLflow's registered model."""
        last = self._rows(model, newest=True)
        try:
            with self.store.explain_failure(doing=f"mark the newest event of {model}"):
                if last and load_model(self.store, name=model).exists:
                    mark = f"{last[0]['sequence']}:{last[0]['hash']}"
                    self.store.client.set_registered_model_tag(model, HEAD_TAG, mark)
        except TrackingError as error:
            _LOG.warning("%s", error)

    def verify(self, model: str) -> list[str]:
        """One sentence for each broken link of a model's chain, none where it is whole.

        A cut end is seen by what MLflow remembers. Raises TrackingError where one of the two cannot
        be reached.
        """
        rows = self._rows(model)
        problems = list(_broken_links(model, rows))
        if (more := len(problems) - _NUM_NAMED) > 0:
            problems[_NUM_NAMED:] = [f"{more} more rows of {model} do not follow either"]
        return problems + _head_problems(model, rows, found=load_model(self.store, name=model))

    def check_head(self, found: RegisteredModel) -> list[str]:
        """What `verify` says of the end of the chain, for a model that has been looked up already."""
        return _head_problems(found.name, self._rows(found.name), found=found)

    def _append(self, connection: Connection, event: NewEvent) -> Event:
        mine = EVENTS.c.model == event.model
        found = connection.execute(select(EVENTS).where(mine).order_by(EVENTS.c.sequence.desc()).limit(1))
        last = found.mappings().first()
        sequence = last["sequence"] if last else 0
        if event.after is not None and event.after != sequence:
            raise self._conflict(connection, event)
        same = (EVENTS.c.operation == event.operation) & (EVENTS.c.kind == event.kind)
        if twice := connection.execute(select(EVENTS).where(same)).mappings().first():
            theirs = self._to_event(dict(twice))
            raise ConflictError(
                f"expected an operation without a {event.kind}, but {theirs.sentence}", event=theirs
            )
        previous_hash = last["hash"] if last else FIRST_HASH
        row = make_row(event, sequence=sequence + 1, previous_hash=previous_hash, at=datetime.now(UTC))
        connection.execute(insert(EVENTS).values(row))
        return to_event(row)

    def _conflict(self, connection: Connection, event: NewEvent) -> ConflictError:
        """What came after the event that the writer has seen last."""
        newer = (EVENTS.c.model == event.model) & (EVENTS.c.sequence > event.after)
        found = connection.execute(select(EVENTS).where(newer).order_by(EVENTS.c.sequence).limit(1))
        row = found.mappings().first()
        if row is None:
            return ConflictError(f"the history of {event.model} has lost rows; run `aisle audit verify`")
        theirs = self._to_event(dict(row))
        return ConflictError(
            f"expected to be alone with {event.model}, but somebody was faster: {theirs.sentence}; look at "
            "`aisle audit` and run the same command again",
            event=theirs,
        )

    def _rows(self, model: str, *, newest: bool = False) -> list[Mapping[str, Any]]:
        """The rows of a model in order of sequence, or the last one alone."""
        query = select(EVENTS).where(EVENTS.c.model == model).order_by(EVENTS.c.sequence)
        if newest:
            query = query.order_by(None).order_by(EVENTS.c.sequence.desc()).limit(1)
        with self._reading(f"read the history of {model}") as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _to_event(self, row: Mapping[str, Any]) -> Event:
        try:
            return to_event(row)
        except (ValueError, TypeError) as error:
            raise TrackingError(
                f"row {row['sequence']} of {row['model']} in {self.shown_url} was altered and cannot be read "
                f"({error}); `aisle audit verify` names every such row, restore the database from a backup"
            ) from error

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Connection]:
        with explain_failure(self.url, doing=doing), self.engine.connect() as connection:
            yield connection


def _broken_links(model: str, rows: list[Mapping[str, Any]]) -> Iterator[str]:
    """One sentence for each row that was altered, or does not follow on the one before."""
    expected, previous_hash = 1, FIRST_HASH
    for row in rows:
        number = row["sequence"]
        if number > expected:
            missing = (
                f"row {expected} is" if number == expected + 1 else f"rows {expected} to {number - 1} are"
            )
            yield f"{missing} missing of the history of {model}"
        elif row_hash(row) != row["hash"]:
            yield f"row {number} of the history of {model} was altered: its hash is not that of its columns"
        elif row["previous_hash"] != previous_hash:
            yield (
                f"row {number} of the history of {model} does not follow on row {number - 1}: one of the two "
                "was inserted or altered"
            )
        expected, previous_hash = number + 1, row["hash"]


def _head_problems(model: str, rows: list[Mapping[str, Any]], *, found: RegisteredModel) -> list[str]:
    """Whether the chain still holds the event that MLflow remembers as the newest.

    A process may be killed between an event and MLflow's mark, so that one event may have come after it.
    """
    decided = [row["sequence"] for row in rows if row["kind"] != "intent"]
    sequence, _, digest = found.tags.get(HEAD_TAG, "").partition(":")
    last = rows[-1]["sequence"] if rows else 0
    remembered = int(sequence) if sequence.isdigit() else 0
    if remembered > last:
        return [
            f"the history of {model} ends with row {last}, but MLflow remembers row {remembered}: the rows "
            f"after row {last} were deleted, or the database was restored from an older backup"
        ]
    if remembered and digest not in {row["hash"] for row in rows if row["sequence"] == remembered}:
        return [
            f"row {remembered} of the history of {model} is not the one that MLflow remembers: it was "
            "rewritten"
        ]
    if found.exists and sum(number > remembered for number in decided) > 1:
        return [
            f"MLflow remembers row {remembered} as the newest of {model}, but rows up to {last} follow: they "
            "were added by hand, or MLflow's store was restored from an older backup"
        ]
    return []
