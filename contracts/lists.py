"""The rows that a phase trains on."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from contracts.columns import CLASS_OR_NULL, CONTENT, PHOTO_ID
from contracts.table import Column, Table

LIST = Table(
    name="list",
    version=1,
    columns=(
        PHOTO_ID,
        replace(CLASS_OR_NULL, meaning="Index of the photo's class; null on every row of unlabelled photos."),
        Column(
            name="why",
            type=pa.string(),
            nullable=True,
            required=False,
            meaning="The rule and the number that kept the photo; null: a person's own list says nothing.",
        ),
        *(replace(column, required=False) for column in CONTENT),
    ),
    remake="run the stage that makes it (`dvc repro`), or make your own again",
    unmarked=(
        "A list of your own carries no version. A training job needs photo_id and class of it, stages also "
        "why; without content its names mean the photos of the splits table."
    ),
    meaning="The photos of a list, or refinement list, and in a job folder those of val.parquet.",
    location="data/lists/<data>/<list>.parquet",
    written_by="lists, refine; train for a job folder's val.parquet",
    read_by=("train", "predict", "refine", "explore", "register", "aisle lists", "python -m training"),
)
