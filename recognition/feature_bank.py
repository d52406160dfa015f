"""Feature banks: each member's pooled features of the evaluation photos, kept instead of its outputs.

At 50,030 classes the outputs of 250,130 photos are 50 GB, the features 2 GB; heads are linear and applied
later. Views are averaged before the head, not summed: a sum would underweight the head's bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from contracts.evaluation import FEATURES
from contracts.values import UNLABELLED
from imaging.atomic_write import atomic_folder
from recognition.bundle import copy_member
from recognition.member import Features


@dataclass(frozen=True, kw_only=True)
class FeatureBank:
    """The features of one member, row by row beside the photos they belong to."""

    features: Features
    """float32 [N, D], averaged over views; a memory map when loaded."""
    photo_ids: list[str]
    classes: npt.NDArray[np.int64]
    """[N]; UNLABELLED where a photo has no label."""
    bundle_dir: Path
    """The member's bundle, whose head turns the features into logits."""


def save_feature_bank(
    path: Path,
    *,
    features: Features,
    photo_ids: Sequence[str],
    classes: npt.NDArray[np.int64],
    bundle_dir: Path,
) -> None:
    """Write a feature bank with a copy of its member's bundle; classes of UNLABELLED become null."""
    if not len(features) == len(photo_ids) == len(classes):
        raise ValueError(
            f"Expected as many features as photos and classes, received {len(features)}, {len(photo_ids)}, "
            f"{len(classes)}."
        )
    labels = pa.array(np.asarray(classes, dtype=np.int32), mask=np.asarray(classes) == UNLABELLED)
    table = pa.table({"photo_id": pa.array(photo_ids, pa.string()), "class": labels})
    with atomic_folder(path) as folder:
        np.save(folder / "features.npy", np.ascontiguousarray(features, dtype=np.float32))
        FEATURES.write(folder / "photos.parquet", table)
        copy_member(bundle_dir, folder / "bundle")


def load_feature_bank(path: Path) -> FeatureBank:
    """Open a feature bank; the features stay on disk until read. ValueError where rows do not match."""
    try:
        features = np.load(path / "features.npy", mmap_mode="r", allow_pickle=False)
        table = FEATURES.read(path / "photos.parquet")
    except OSError as error:
        raise ValueError(f"Expected a feature bank at {path}: {error}. Run the embed stage.") from error
    if len(features) != table.num_rows:
        raise ValueError(f"{path} holds {len(features)} features for {table.num_rows} photos: embed again.")
    classes = table["class"].fill_null(UNLABELLED).to_numpy().astype(np.int64)
    return FeatureBank(
        features=features,
        photo_ids=table["photo_id"].to_pylist(),
        classes=classes,
        bundle_dir=path / "bundle",
    )
