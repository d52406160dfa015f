"""The table of photos that ingest refused: nothing is dropped without a reason that a person can read."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from catalog.photo_store import QUARANTINE_FILE

SCHEMA = {"photo_id": pl.String, "reason": pl.String, "message": pl.String}


def save_quarantine(rows: list[tuple[str, str, str]], store: Path) -> None:
    """Write (photo_id, reason, message) rows into the quarantine table of a store folder; also when none."""
    pl.DataFrame(rows, schema=SCHEMA, orient="row").write_parquet(store / QUARANTINE_FILE)


def load_quarantine(store: Path) -> pl.DataFrame:
    """Read a store's quarantine table: photo_id, reason, message, in the source's order."""
    return pl.read_parquet(store / QUARANTINE_FILE)


def count_reasons(quarantine: pl.DataFrame) -> dict[str, int]:
    """The number of refused photos of each reason, most frequent first."""
    counts = quarantine.group_by("reason").len().sort(["len", "reason"], descending=[True, False])
    return dict(counts.iter_rows())
