"""What is evaluated, what was answered, and what was trained on: the gate's tables."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from contracts.columns import CLASS_OR_NULL, CONTENT, PHOTO_ID
from contracts.keyed import KeyedTable
from contracts.table import Column, Table

_REGISTERED = (
    "Versions registered before tables carried a version count as version 1; those registered before photos "
    "carried their content have names alone."
)
_LABEL = Column(name="label", type=pa.int32(), meaning="Index of the photo's class.")
_ANSWERS = (
    Column(name="classes", type=pa.list_(pa.int32()), meaning="The best classes, best first."),
    Column(name="probabilities", type=pa.list_(pa.float32()), meaning="Their probabilities."),
)
_STORED_CONTENT = tuple(replace(column, required=False) for column in CONTENT)

FEATURES = Table(
    name="feature bank's photos table",
    version=1,
    columns=(PHOTO_ID, CLASS_OR_NULL),
    remake="run `dvc repro embed`",
    meaning="The photo of each row of features.npy.",
    location="data/features/<recipe>/<member>/photos.parquet",
    written_by="embed",
    read_by=("ensemble", "evaluate"),
)

PREDICTIONS = Table(
    name="evaluation predictions table",
    version=1,
    columns=(PHOTO_ID, _LABEL, *_ANSWERS, *_STORED_CONTENT),
    remake="run `dvc repro evaluate`",
    unmarked=_REGISTERED,
    meaning="The ensemble's answers for the photos of the evaluation split, stored with each version.",
    location="data/evaluations/<recipe>/predictions.parquet",
    written_by="evaluate",
    read_by=("register", "aisle promote", "python -m bench.parity"),
)

TRAINED_ON = KeyedTable(
    name="trained-on table",
    version=2,
    columns=(
        PHOTO_ID,
        *(replace(column, nullable=True) for column in _STORED_CONTENT),
        Column(
            name="lists",
            type=pa.list_(pa.string()),
            nullable=True,
            required=False,
            meaning=(
                "The lists through which it was learnt, sorted; `<model>/<version>:<list>` for one of a "
                "registered version that a phase started or learnt from, `<model>/<version>` where that one "
                "does not know its lists."
            ),
        ),
    ),
    remake="register the version again (`aisle register`)",
    unmarked=_REGISTERED,
    key="source_sha256",
    since={"lists": 2},
    meaning="What a version and the versions that it started from were trained on, one row a content.",
    location="trained_on.parquet of a registered version",
    written_by="register",
    read_by=("register", "aisle promote", "aisle lineage"),
)

EVALUATED_ON = KeyedTable(
    name="evaluated-on table",
    version=1,
    columns=(
        PHOTO_ID,
        *CONTENT,
        Column(name="split", type=pa.string(), meaning="The photo's split."),
        Column(
            name="use",
            type=pa.string(),
            meaning="validation: training watched its error; evaluation: errors are reported on it.",
        ),
    ),
    remake="register the version again (`aisle register`)",
    key="source_sha256",
    meaning="The photos that a version was validated and evaluated on, one row a name, learnt from or not.",
    location="evaluated_on.parquet of a registered version",
    written_by="register",
    read_by=("aisle lineage",),
)

SCORES = Table(
    name="scores table",
    version=1,
    columns=(
        PHOTO_ID,
        replace(_LABEL, nullable=True, meaning="Index of the photo's class in the bundle; null: none."),
        *_ANSWERS,
        *CONTENT,
        Column(
            name="label_name",
            type=pa.string(),
            nullable=True,
            meaning="The photo's class as the data name it; null: unlabelled.",
        ),
    ),
    remake="run `aisle predict` again",
    meaning="The answers of any bundle for a split.",
    location="the file given to `aisle predict --out`",
    written_by="aisle predict",
    read_by=("people",),
)
