"""Small real sources and stores in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

WritePhoto = Callable[..., Path]


@pytest.fixture
def write_photo() -> WritePhoto:
    """Write a one-coloured photo into a file, whose folders are made."""

    def _write(
        path: Path, *, color: str = "red", size: tuple[int, int] = (24, 16), format: str = "JPEG"
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, color).save(path, format)
        return path

    return _write


@pytest.fixture
def photo_folder(tmp_path: Path, write_photo: WritePhoto) -> Path:
    """Two classes with three photos each."""
    for label, color in (("jam", "red"), ("tea", "green")):
        for number in range(3):
            write_photo(tmp_path / "raw" / label / f"{number}.jpg", color=color)
    return tmp_path / "raw"


@pytest.fixture
def photo_table() -> pl.DataFrame:
    """What splits read of photos.parquet: 300 photos of jam, 60 of tea, one of soup, two without label."""
    labels = ["jam"] * 300 + ["tea"] * 60 + ["soup"] + [None] * 2
    none = pl.Series([None] * len(labels), dtype=pl.String)
    return pl.DataFrame(
        {
            "photo_id": [f"{number:04d}.jpg" for number in range(len(labels))],
            "label": labels,
            "true_label": none,
            "coarse_label": none,
            "group": none,
            "split": none,
            "sha256": [f"{number:064x}" for number in range(len(labels))],
            "source_sha256": [number.to_bytes(32) for number in range(len(labels))],
            "perceptual_hash": pl.Series(range(len(labels)), dtype=pl.UInt64),
        }
    )
