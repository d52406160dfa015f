"""The table of photos that ingest refused: nothing is dropped without a reason that a person can read."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from catalog.photo_store import QUARANTINE_FILE
from contracts.photos import REJECTED

_SCHEMA = pl.Schema(REJECTED.schema)
_PART_ROWS = 10_000


def load_quarantine(store: Path) -> pl.DataFrame:
    """Read a store's quarantine table: photo_id, reason, message.

    In the source's order, then what the source itself set aside.
    """
    return pl.DataFrame(REJECTED.read(store / QUARANTINE_FILE))


def count_reasons(quarantine: pl.DataFrame) -> dict[str, int]:
    """The number of refused photos of each reason, most frequent first."""
    counts = quarantine.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(counts.iter_rows())


class Quarantine:
    """Collects refusals in columns: a wrong root may refuse millions."""

    def __init__(self) -> None:
        self._parts = [pl.DataFrame(schema=_SCHEMA)]
        self._rows: list[tuple[str, str, str]] = []
        self._num_parted = 0

    def __len__(self) -> int:
        return self._num_parted + len(self._rows)

    def add(self, photo_id: str, *, reason: str, message: str) -> None:
        """Set one photo aside."""
        self._rows.append((photo_id, reason, message))
        if len(self._rows) == _PART_ROWS:
            self._part()

    def table(self) -> pl.DataFrame:
        """All refusals as they came: photo_id, reason, message."""
        self._part()
        return pl.concat(self._parts, rechunk=True)

    def _part(self) -> None:
        self._parts.append(pl.DataFrame(self._rows, schema=_SCHEMA, orient="row"))
        self._num_parted += len(self._rows)
        self._rows = []
