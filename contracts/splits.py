"""Which split each photo is in, with what is known of right labels and of leaks between splits."""

from __future__ import annotations

import pyarrow as pa

from contracts.columns import CLASS_OR_NULL, CONTENT, PHOTO_ID
from contracts.table import Column, Table

_REMAKE = "run `dvc repro split`"

SPLITS = Table(
    name="splits table",
    version=1,
    columns=(
        PHOTO_ID,
        CLASS_OR_NULL,
        Column(
            name="coarse",
            type=pa.string(),
            nullable=True,
            meaning="The class's coarse class; null: it has none.",
        ),
        Column(
            name="split",
            type=pa.string(),
            meaning="train, val, test, holdout, or unused: neither learnt from nor measured on.",
        ),
        *CONTENT,
    ),
    remake=_REMAKE,
    meaning="Every photo of the store with its class and split, in the store's order.",
    location="data/splits/<data>/splits.parquet",
    written_by="split",
    read_by=(
        "lists",
        "train",
        "predict",
        "refine",
        "embed",
        "evaluate",
        "explore",
        "register",
        "aisle lists",
    ),
)

TRUTH = Table(
    name="true labels table",
    version=1,
    columns=(
        PHOTO_ID,
        Column(name="class", type=pa.int32(), meaning="Index of the photo's right class in classes.json."),
    ),
    remake=_REMAKE,
    meaning="The right classes as far as they are known; nothing that trains reads them.",
    location="data/splits/<data>/truth.parquet",
    written_by="split",
    read_by=("explore", "aisle lists score"),
)

COPIES_ACROSS = Table(
    name="copies across splits table",
    version=1,
    columns=(
        PHOTO_ID,
        Column(name="split", type=pa.string(), meaning="The photo's split."),
        Column(name="other_id", type=pa.string(), meaning="Its nearest duplicate in the other split."),
        Column(name="other_split", type=pa.string(), meaning="An earlier one of train, holdout, val, test."),
        Column(name="kind", type=pa.string(), meaning="exact or near."),
        Column(
            name="distance", type=pa.int32(), meaning="Bits of 64 in which their perceptual hashes differ."
        ),
    ),
    remake=_REMAKE,
    meaning="Labelled photos with a duplicate in another split: errors measured on them look too small.",
    location="data/splits/<data>/copies_across_splits.parquet",
    written_by="split",
    read_by=("aisle photos copies",),
)
