"""Many photos answered by a bundle as the stages `embed` and `evaluate` would; it keeps the best classes.

A split may be a challenge's: 250,130 photos of 50,030 classes are 50 GB of outputs. Some thousand photos at a
time are embedded by every member, with the ensemble's views, and merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from contracts.values import UNLABELLED
from imaging.storage import StoragePolicy, to_stored
from recognition.feature_bank import FeatureBank
from recognition.loader import Reader
from recognition.member import Progress, load_members
from recognition.merge import predict_bank
from recognition.precision import Precision, choose_device

PHOTOS_AT_A_TIME = 4096
"""Their features of one member are 34 MB at 2,048 dimensions."""


@dataclass(frozen=True)
class _StoredAs:
    """A photo store read as a member of another storage policy would have stored its photos."""

    reader: Reader
    policy: StoragePolicy

    def read(self, row: int) -> bytes:
        """Return the bytes that serving would have made of the stored ones."""
        return to_stored(self.reader.read(row), policy=self.policy).data


def score_rows(
    bundle: Path,
    reader: Reader,
    rows: npt.NDArray[np.int64],
    *,
    policy: StoragePolicy,
    precision: Precision,
    batch_size: int,
    num_workers: int = 0,
    top_k: int = 5,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the best classes int64 [N, k] and their probabilities float32 [N, k] of rows [N] of a store.

    policy: by which the store was made. An ensemble answers with its views and merge, a member with its
    centre. progress is called with the number of photos that one member has embedded.
    """
    if len(rows) == 0:
        raise ValueError("Expected at least one photo to score, received none.")
    device, dtype = choose_device(precision)
    config, members = load_members(bundle, device=device, dtype=dtype)
    heads = [member.head for member in members]
    parts = []
    for start in range(0, len(rows), PHOTOS_AT_A_TIME):
        some = rows[start : start + PHOTOS_AT_A_TIME]
        no_class = np.full(len(some), UNLABELLED, dtype=np.int64)
        banks = []
        for member in members:
            own = member.preprocessing.storage
            features = member.embed(
                reader if own == policy else _StoredAs(reader, own),
                some,
                views=config.views,
                batch_size=batch_size,
                num_workers=num_workers,
                progress=progress,
            )
            banks.append(FeatureBank(features=features, photo_ids=[], classes=no_class, bundle_dir=bundle))
        parts.append(predict_bank(banks, heads, merge=config.merge, k=top_k))
    classes, probabilities = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return classes, probabilities
