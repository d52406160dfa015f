"""The columns that most tables share: which photo a row is about, and what class it has."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from contracts.table import Column

PHOTO_ID = Column(name="photo_id", type=pa.string(), meaning="The photo's name in the photo store.")
CLASS = Column(name="class", type=pa.int32(), meaning="Index of the photo's class in classes.json.")
CLASS_OR_NULL = replace(
    CLASS, nullable=True, meaning="Index of the photo's class in classes.json; null: unlabelled."
)
SOURCE_SHA256 = Column(
    name="source_sha256",
    type=pa.binary(32),
    meaning="SHA-256 of the original bytes that the source gave: which photo the name meant.",
)
PERCEPTUAL_HASH = Column(
    name="perceptual_hash",
    type=pa.uint64(),
    nullable=True,
    meaning="Hash of the pixels, for near-duplicates; null: not compared.",
)
CONTENT = (SOURCE_SHA256, PERCEPTUAL_HASH)
"""What a photo is, whatever its file is called (docs/decisions/007-a-photo-is-its-content.md)."""
