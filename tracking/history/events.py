"""What the history records: events, and the hash that chains each of them to the one before."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["intent", "result", "outside", "approval", "note"]
"""intent, result: before and after an operation of ours; outside: a move that was noticed; note: all else."""
Outcome = Literal["completed", "reverted", "failed"]
"""How an operation ended, in the details of its result."""
FIRST_HASH = "0" * 64
"""What stands in the first row of a model in the place of a previous hash."""


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event to be appended."""

    model: str
    """The registered model's name."""
    kind: Kind
    action: str
    """promote, rollback, delete, approve, register, adopt."""
    by: str
    alias: str | None = None
    """The alias that moves, None where none does."""
    version: str | None = None
    """The version that it is about; where an alias moves, the one it moves to (None: it was removed)."""
    previous_version: str | None = None
    """Where the alias was before."""
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else belongs to it, as JSON: numbers of gates, outcome, process."""
    operation: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Shared by the intent and the result of one operation."""
    after: int | None = None
    """The sequence of the last event that the writer has seen, 0 for none; None: whatever came last."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A row of the history."""

    model: str
    sequence: int
    operation: str
    kind: Kind
    action: str
    alias: str | None
    version: str | None
    previous_version: str | None
    by: str
    at: datetime
    reason: str
    details: Mapping[str, Any]
    previous_hash: str
    hash: str

    @property
    def outcome(self) -> Outcome | None:
        """How the operation ended, of a result."""
        return self.details.get("outcome") if self.kind == "result" else None

    @property
    def moves_alias(self) -> bool:
        """Whether `alias` is on `version` since this event."""
        if self.alias is None:
            return False
        return self.kind in ("outside", "note") or self.outcome == "completed"

    @property
    def sentence(self) -> str:
        """Who did what, and when."""
        when = self.at.isoformat(timespec="seconds")
        if self.kind == "outside":
            where = "away" if self.version is None else f"to version {self.version}"
            return f"{self.alias} was moved {where} outside of Aisle, noticed at {when}"
        if self.kind == "intent":
            verb = _INFINITIVE.get(self.action, self.action)
            return f"{self.by} began to {verb} version {self.version} at {when}"
        did = f"{self.by} {_PAST.get(self.action, self.action)} version {self.version} at {when}"
        return did if self.outcome in (None, "completed") else f"{did}, which was {self.outcome}"


_INFINITIVE = {"rollback": "roll back to"}
_PAST = {
    "promote": "promoted",
    "rollback": "rolled back to",
    "delete": "deleted",
    "approve": "approved",
    "register": "registered",
}


def canonical_json(content: Any) -> str:
    """JSON that is the same for equal content: sorted keys, no spaces, ASCII; NaN and infinity as text."""
    return json.dumps(
        _plain(content), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _plain(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


def row_hash(row: Mapping[str, Any]) -> str:
    """The sha256 over all columns as they are stored, the hash of the row before among them, but `hash`."""
    content = {name: value for name, value in row.items() if name != "hash"}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def make_row(event: NewEvent, *, sequence: int, previous_hash: str, at: datetime) -> dict[str, Any]:
    """The columns of a new row, its hash among them."""
    row: dict[str, Any] = {
        "model": event.model,
        "sequence": sequence,
        "operation": event.operation,
        "kind": event.kind,
        "action": event.action,
        "alias": event.alias,
        "version": event.version,
        "previous_version": event.previous_version,
        "by": _storable(event.by),
        "at": at.isoformat(timespec="microseconds"),
        "reason": _storable(event.reason),
        "details": canonical_json(event.details),
        "previous_hash": previous_hash,
    }
    return row | {"hash": row_hash(row)}


def to_event(row: Mapping[str, Any]) -> Event:
    """A row as an event; ValueError where somebody has put no time or no JSON into it."""
    content = dict(row)
    return Event(
        **{
            **content,
            "at": datetime.fromisoformat(content["at"]),
            "details": json.loads(content["details"]),
        }
    )


def _storable(text: str) -> str:
    """Text without what PostgreSQL cannot store: NUL, and bytes of a command line that are no UTF-8."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
