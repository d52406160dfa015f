"""Lists on disk: the rows that a phase trains on, each with the reason why it is there."""

from __future__ import annotations

from pathlib import Path

import polars as pl

SCHEMA = {"photo_id": pl.String(), "class": pl.Int32(), "why": pl.String()}


def save_list(rows: pl.DataFrame, path: Path) -> None:
    """Write a list (photo_id, class, why) as Parquet. Raises ValueError where its columns differ."""
    _check_columns(rows, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(path)


def load_list(path: Path) -> pl.DataFrame:
    """Read a list: photo_id, class (Int32), why. Raises FileNotFoundError; ValueError for another table."""
    if not path.exists():
        raise FileNotFoundError(f"Expected the list {path.name}, found none: run the stage that makes it.")
    rows = pl.read_parquet(path)
    _check_columns(rows, path)
    return rows


def _check_columns(rows: pl.DataFrame, path: Path) -> None:
    if dict(rows.schema) != SCHEMA:
        raise ValueError(f"{path.name}: expected a list with columns {SCHEMA}, received {dict(rows.schema)}.")
