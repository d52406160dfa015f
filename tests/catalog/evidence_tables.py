"""Small evidence tables and lists whose photo ids are class letter and position: a0, a1, ..., b0, ..."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import polars as pl

from catalog.content import CONTENT
from contracts.evidence import OUT_OF_FOLD

SCHEMA = pl.Schema(OUT_OF_FOLD.schema)
LIST_SCHEMA = {"photo_id": pl.String, "class": pl.Int32, "why": pl.String}
PATHS = {"base": "base.parquet", "evidence": "evidence.parquet"}


def with_content(table: pl.DataFrame, *, shot: int = 0) -> pl.DataFrame:
    """A table with the content that its photos have by their names; another shot: other photos so named."""
    digests = [hashlib.sha256(f"{photo} {shot}".encode()).digest() for photo in table["photo_id"]]
    hashes = [int.from_bytes(digest[:8], "big") for digest in digests]
    return table.with_columns(
        source_sha256=pl.Series(digests, dtype=pl.Binary), perceptual_hash=pl.Series(hashes, dtype=pl.UInt64)
    )


def told(rows: pl.DataFrame) -> list[tuple[str, int | None, str]]:
    """The rows of a list without the photos' content."""
    return rows.select("photo_id", "class", "why").rows()


def make_log(losses: Mapping[int, Sequence[float | None]], *, column: str = "mean_loss") -> pl.DataFrame:
    """Evidence with one number a photo, by class."""
    rows = [(f"{'abc'[c]}{i}", c, value) for c, values in losses.items() for i, value in enumerate(values)]
    schema = {"photo_id": pl.String, "class": pl.Int32, column: pl.Float32}
    return with_content(pl.DataFrame(rows, schema=schema, orient="row"))


def make_predictions(
    rows: Sequence[tuple[str, int | None, float | None, int | None, float | None]],
) -> pl.DataFrame:
    """Whole evidence rows of (photo, class, p of the label, other class, p of the other)."""
    table = pl.DataFrame(
        [
            {
                "photo_id": photo,
                "class": label,
                "mean_label_probability": p_label,
                "other_class": other,
                "mean_other_probability": p_other,
            }
            for photo, label, p_label, other, p_other in rows
        ],
        schema_overrides={
            name: SCHEMA[name]
            for name in ("class", "mean_label_probability", "other_class", "mean_other_probability")
        },
    )
    return with_content(table)


def make_base(evidence: pl.DataFrame, *, why: str = "full: split train") -> pl.DataFrame:
    """The list of the evidence's photos."""
    return evidence.select("photo_id", "class", pl.lit(why).alias("why"), *CONTENT)


def make_rows(*rows: tuple[str, int | None, str]) -> pl.DataFrame:
    """A list of (photo, class, why)."""
    return with_content(pl.DataFrame(rows, schema=LIST_SCHEMA, orient="row"))
