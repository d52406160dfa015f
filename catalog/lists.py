"""Lists on disk: the rows that a phase trains on, each with the reason why it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa

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


def check_list(rows: pl.DataFrame, known_ids: pl.Series | Sequence[str] | pa.ChunkedArray) -> None:
    """Raise ValueError where a list names photos that are not among the known ids, or names one twice."""
    known = pl.Series("photo_id", known_ids, pl.String)
    missing = rows["photo_id"].filter(~rows["photo_id"].is_in(known.implode()))
    if len(missing):
        raise ValueError(
            f"The list names {len(missing)} photos that do not exist, first {_name(missing)}; the store has "
            f"{len(known)} photos. Make the list again from the store's splits, or correct these rows."
        )
    twice = rows["photo_id"].filter(rows["photo_id"].is_duplicated()).unique(maintain_order=True)
    if len(twice):
        raise ValueError(
            f"The list names {len(twice)} photos more than once, first {_name(twice)}. Remove the repeated "
            "rows."
        )


def _name(photo_ids: pl.Series) -> str:
    return ", ".join(repr(photo_id) for photo_id in photo_ids[:5])


def _check_columns(rows: pl.DataFrame, path: Path) -> None:
    if dict(rows.schema) != SCHEMA:
        raise ValueError(f"{path.name}: expected a list with columns {SCHEMA}, received {dict(rows.schema)}.")
