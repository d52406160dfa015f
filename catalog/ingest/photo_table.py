"""The table of a store's photos, in the source's order whatever the history of the shards.

Labels come from the source as it is now, facts from the shards: changed labels change this file only.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.ingest.shards import PlacedShard
from contracts.photos import PHOTOS

_ROWS = 10_000  # in memory at a time: strings take some hundred bytes a row on their way


def write_photo_table(listing: pl.DataFrame, shards: list[PlacedShard], file: BinaryIO) -> None:
    """Write the photos table, one row a photo."""
    facts = pa.concat_tables([shard.facts for shard in shards])
    positions = np.concatenate([shard.positions for shard in shards])
    order = np.argsort(positions)
    with pq.ParquetWriter(file, PHOTOS.schema) as table:
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            listed, known = listing[positions[rows]], pl.DataFrame(facts.take(pa.array(rows)))
            assert listed["photo_id"].equals(known["photo_id"]), "a shard holds other photos than was planned"
            columns = pl.concat([listed, known.drop("photo_id")], how="horizontal").with_columns(
                pl.col("sha256").bin.encode("hex"),
                pl.col("label", "true_label", "coarse_label", "group", "split").cast(pl.String),
            )
            table.write_table(PHOTOS.conform(columns.select(PHOTOS.names), where="photos of the store"))
