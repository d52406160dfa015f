"""Small evidence tables and lists whose photo ids are class letter and position: a0, a1, ..., b0, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from catalog.refinement.evidence import SCHEMA

LIST_SCHEMA = {"photo_id": pl.String, "class": pl.Int32, "why": pl.String}
PATHS = {"base": "base.parquet", "evidence": "evidence.parquet"}


def make_log(losses: Mapping[int, Sequence[float | None]], *, column: str = "mean_loss") -> pl.DataFrame:
    """Evidence with one number a photo, by class."""
    rows = [(f"{'abc'[c]}{i}", c, value) for c, values in losses.items() for i, value in enumerate(values)]
    schema = {"photo_id": pl.String, "class": pl.Int32, column: pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def make_predictions(
    rows: Sequence[tuple[str, int | None, float | None, int | None, float | None]],
) -> pl.DataFrame:
    """Whole evidence rows of (photo, class, p of the label, other class, p of the other)."""
    return pl.DataFrame(
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


def make_base(evidence: pl.DataFrame, *, why: str = "full: split train") -> pl.DataFrame:
    """The list of the evidence's photos."""
    return evidence.select("photo_id", "class", why=pl.lit(why))


def make_rows(*rows: tuple[str, int | None, str]) -> pl.DataFrame:
    """A list of (photo, class, why)."""
    return pl.DataFrame(rows, schema=LIST_SCHEMA, orient="row")
