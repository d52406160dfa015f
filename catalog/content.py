"""A photo is its content: the two columns that say which photo a row means, whatever its file is called.

Names are used again: a product is photographed again under its old file name, a folder is sorted into another
split. So every table that outlives one state of the photo store (splits, lists, evidence, predictions,
trained-on) carries what the photo was, and whoever puts two of them side by side compares that.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from contracts import columns

CONTENT = dict(pl.Schema(pa.schema([(column.name, column.type) for column in columns.CONTENT])))
"""source_sha256 and perceptual_hash with their types."""

_NUM_SHOWN = 3


def require_content(table: pl.DataFrame, *, name: str) -> None:
    """Raise ValueError for a table without these columns, or with rows whose content is unknown."""
    lacking = [column for column in CONTENT if column not in table.columns]
    if lacking:
        raise ValueError(
            f"Expected the columns {list(CONTENT)} in {name}, which lacks {lacking}: it is from before "
            "photos carried their content. Run `dvc repro`."
        )
    num_unknown = table["source_sha256"].null_count()
    if num_unknown:
        first = table.filter(pl.col("source_sha256").is_null())["photo_id"][0]
        raise ValueError(
            f"Expected a source_sha256 on every row of {name}, received {num_unknown:,} of {len(table):,} "
            f"without one, first {first!r}. Run `dvc repro`."
        )


def add_content(rows: pl.DataFrame, *, splits: pl.DataFrame, name: str) -> pl.DataFrame:
    """Rows that name photos (photo_id), with the content that the splits table has for each, in their order.

    Raises ValueError for photos that the splits lack, and for splits made before photos carried content.
    """
    require_content(splits, name="the splits table")
    known = splits.select("photo_id", *CONTENT)
    filled = rows.drop(CONTENT, strict=False).join(known, on="photo_id", how="left", maintain_order="left")
    lacking = filled.filter(pl.col("source_sha256").is_null())["photo_id"]
    if len(lacking):
        shown = ", ".join(repr(photo_id) for photo_id in lacking[:_NUM_SHOWN])
        raise ValueError(
            f"Expected photos of the splits table in {name}, received {len(lacking):,} of {len(rows):,} that "
            f"it lacks, first {shown}: make the list from the photos as they are now."
        )
    return filled


def refuse_other_content(both: pl.DataFrame, *, suffix: str, one: str, other: str) -> None:
    """Raise ValueError where one name means two contents in two joined tables (source_sha256 and a suffix).

    A null on either side is a row that only one of the tables has.
    """
    differing = both.filter(pl.col("source_sha256") != pl.col(f"source_sha256{suffix}"))["photo_id"]
    if len(differing):
        shown = ", ".join(repr(photo_id) for photo_id in differing[:_NUM_SHOWN])
        raise ValueError(
            f"Expected the same photos under the same names in {one} and {other}, received other content for "
            f"{len(differing):,}, first {shown}: one of them was made before these photos changed. Make it "
            "again (`dvc repro` makes all that dvc.yaml knows)."
        )
