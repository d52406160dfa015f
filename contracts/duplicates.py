"""Which photos are duplicates of each other."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from contracts.columns import PHOTO_ID
from contracts.table import Column, Table

_REMAKE = "run the stage that finds copies (`dvc repro duplicates`)"
_READERS = ("split", "refine", "explore", "aisle photos copies")

EXACT_DUPLICATES = Table(
    name="exact duplicates table",
    version=1,
    columns=(
        Column(name="group", type=pa.int64(), meaning="Number of a group of photos with the same bytes."),
        PHOTO_ID,
    ),
    remake=_REMAKE,
    meaning="Photos whose stored bytes another photo has, too.",
    location="data/duplicates/<data>/exact.parquet",
    written_by="duplicates",
    read_by=_READERS,
)

NEAR_DUPLICATES = Table(
    name="near duplicates table",
    version=1,
    columns=(
        replace(PHOTO_ID, meaning="The photo whose name comes first."),
        Column(name="other_id", type=pa.string(), meaning="The other photo."),
        Column(
            name="distance", type=pa.int32(), meaning="Bits of 64 in which their perceptual hashes differ."
        ),
    ),
    remake=_REMAKE,
    meaning="Pairs of photos that look alike; of photos with equal hashes the first stands for all.",
    location="data/duplicates/<data>/near.parquet",
    written_by="duplicates",
    read_by=_READERS,
)
