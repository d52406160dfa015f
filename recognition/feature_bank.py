"""Feature banks: each member's pooled features of the evaluation photos, kept instead of its outputs.

At 50,030 classes the outputs of 250,130 photos are 50 GB, the features 2 GB; heads are linear and applied
later. Views are averaged before the head, not summed: a sum would underweight the head's bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor, nn

from imaging.atomic_write import atomic_folder
from recognition.backbones import Model
from recognition.bundle import copy_member
from recognition.precision import cast_for_inference
from recognition.preprocessing import Preprocessing, normalize
from recognition.views import View, distinct_crops
from tables.evaluation import FEATURES
from tables.values import UNLABELLED

Features = npt.NDArray[np.float32]


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


@torch.inference_mode()
def pooled_features(
    backbone: nn.Module,
    canvases: Tensor,
    *,
    views: Sequence[str],
    preprocessing: Preprocessing,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Tensor:
    """Return float32 [B, D], the mean over the views, of their crops uint8 [B, V, 3, S, S].

    The backbone is one that `cast_for_inference` made for this device and dtype, the crops are those that a
    loader or a recognizer makes for the same views and preprocessing. Serving uses this too.
    """
    resolved = preprocessing.views(views)
    crops = distinct_crops(resolved)
    if canvases.ndim != 5 or canvases.shape[1] != len(crops):
        raise ValueError(
            f"Expected canvases [B, {len(crops)}, 3, S, S] for the views {', '.join(views)}, received "
            f"{tuple(canvases.shape)}: make the loader for these views."
        )
    canvases = canvases.to(device)
    total: Tensor | None = None
    for number, crop in enumerate(crops):
        batch = normalize(canvases[:, number], preprocessing)
        batch = batch.to(dtype).contiguous(memory_format=torch.channels_last)
        for view in resolved:
            if view.crop == crop:
                features: Tensor = backbone(_see(batch, view)).float()
                total = features if total is None else total + features
    assert total is not None
    return total / len(resolved)


def _see(batch: Tensor, view: View) -> Tensor:
    """Return square photos [B, 3, S, S] as a view shows them: mirrored, then turned anticlockwise."""
    mirrored = batch.flip(-1) if view.mirrored else batch
    if not view.turns:
        return mirrored
    turned = torch.rot90(mirrored, view.turns, dims=(-2, -1))
    return turned.contiguous(memory_format=torch.channels_last)


def extract_features(
    model: Model,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    views: Sequence[str],
    preprocessing: Preprocessing,
    device: torch.device | str,
    dtype: torch.dtype,
) -> Features:
    """Return float32 [N, D] for the batches (canvases, positions 0..N-1) of a loader, by position."""
    backbone = cast_for_inference(model.backbone, device=device, dtype=dtype)
    parts = []
    for canvases, positions in loader:
        pooled = pooled_features(
            backbone, canvases, views=views, preprocessing=preprocessing, device=device, dtype=dtype
        )
        parts.append((positions.numpy(), pooled.cpu().numpy()))
    num_photos = sum(len(positions) for positions, _ in parts)
    features = np.empty((num_photos, model.head.in_features), dtype=np.float32)
    while parts:  # freed one by one: the features never lie in memory twice
        rows, part = parts.pop()
        features[rows] = part
    return features


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
