"""What ingest writes beside the shards: the photos that it stored and the files that it rejected."""

from __future__ import annotations

import pyarrow as pa

from contracts.columns import CONTENT, PHOTO_ID
from contracts.table import Column, Table

PHOTOS = Table(
    name="photos table",
    version=1,
    columns=(
        PHOTO_ID,
        Column(
            name="label", type=pa.string(), nullable=True, meaning="The source's label; null: unlabelled."
        ),
        Column(
            name="true_label",
            type=pa.string(),
            nullable=True,
            meaning="The right label where the source knows it beside a wrong one; nothing trains on it.",
        ),
        Column(
            name="coarse_label",
            type=pa.string(),
            nullable=True,
            meaning="The label's coarse class; null: the source has none.",
        ),
        Column(
            name="group",
            type=pa.string(),
            nullable=True,
            meaning="Photos of one group stay in one split; null: a group of its own.",
        ),
        Column(
            name="split",
            type=pa.string(),
            nullable=True,
            meaning="The split that the source gives: train, val or test; null: none.",
        ),
        Column(name="width", type=pa.int32(), meaning="Of the stored photo, in pixels."),
        Column(name="height", type=pa.int32(), meaning="Of the stored photo, in pixels."),
        Column(name="source_width", type=pa.int32(), meaning="Of the source's photo, in pixels."),
        Column(name="source_height", type=pa.int32(), meaning="Of the source's photo, in pixels."),
        Column(name="num_bytes", type=pa.int64(), meaning="Size of the stored photo."),
        Column(
            name="sha256",
            type=pa.string(),
            meaning="SHA-256 of the stored bytes, in hexadecimal digits: exact duplicates have one.",
        ),
        *CONTENT,
    ),
    remake="run `dvc repro ingest`, which decodes no photo again",
    meaning="The photos of the store, in the source's order.",
    location="data/photos/<data>/photos.parquet",
    written_by="ingest",
    read_by=("duplicates", "split", "explore", "aisle data review"),
)

REJECTED = Table(
    name="rejected files table",
    version=1,
    columns=(
        Column(name="photo_id", type=pa.string(), meaning="The file's or row's name in the source."),
        Column(name="reason", type=pa.string(), meaning="A word for the kind of fault, for counting."),
        Column(name="message", type=pa.string(), meaning="What is wrong with it and what to do."),
    ),
    remake="run `dvc repro ingest`",
    meaning="The files and rows of the source that ingest rejected.",
    location="data/photos/<data>/quarantine.parquet",
    written_by="ingest",
    read_by=("split", "explore", "aisle photos quarantine", "aisle predict"),
)
