"""A member as it answers: a bundle's weights on a device and in a precision, beside what prepares its photos.

Serving, the stages `embed` and `predict`, `aisle predict --split`, the gate and distillation's teacher all
load members here, so that a bundle answers alike wherever it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from recognition.backbones import Model
from recognition.bundle import (
    MEMBERS_FOLDER,
    EnsembleConfig,
    MemberConfig,
    bundle_kind,
    load_bundle_config,
    load_member,
)
from recognition.heads import LinearHead
from recognition.loader import Reader, make_inference_loader
from recognition.precision import cast_for_inference
from recognition.preprocessing import Preprocessing, normalize
from recognition.views import View, distinct_crops

Features = npt.NDArray[np.float32]
Progress = Callable[[int], object]
"""Called with the number of photos of each batch that is done, such as a progress bar's `update`."""


@dataclass(frozen=True, kw_only=True)
class LoadedMember:
    """One member's weights, ready for photos; the head stays float32."""

    config: MemberConfig
    backbone: nn.Module
    """In evaluation mode and channels-last, on `device` and in `dtype`."""
    head: LinearHead
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(
        cls, model: Model, config: MemberConfig, *, device: torch.device | str, dtype: torch.dtype
    ) -> LoadedMember:
        """Make one of a copy of a model's weights."""
        return cls(
            config=config,
            backbone=cast_for_inference(model.backbone, device=device, dtype=dtype),
            head=model.linear_head(device=device),
            device=torch.device(device),
            dtype=dtype,
        )

    @classmethod
    def load(cls, bundle: Path, *, device: torch.device | str, dtype: torch.dtype) -> LoadedMember:
        """Read a member's bundle; ValueError where the folder is none or its weights do not fit."""
        model, config = load_member(bundle)
        return cls.of(model, config, device=device, dtype=dtype)

    @property
    def preprocessing(self) -> Preprocessing:
        """What prepares its photos."""
        return self.config.preprocessing

    def features(self, canvases: Tensor, *, views: Sequence[str]) -> Tensor:
        """Return pooled features float32 [B, D] of crops uint8 [B, V, 3, S, S], as `pooled_features` does."""
        return pooled_features(
            self.backbone,
            canvases,
            views=views,
            preprocessing=self.preprocessing,
            device=self.device,
            dtype=self.dtype,
        )

    def embed(
        self,
        reader: Reader,
        rows: npt.NDArray[np.int64],
        *,
        views: Sequence[str],
        batch_size: int,
        num_workers: int = 0,
        progress: Progress | None = None,
    ) -> Features:
        """Return pooled features float32 [N, D] of rows [N] of a photo store."""
        loader = self._make_loader(reader, rows, views=views, batch_size=batch_size, num_workers=num_workers)
        return extract_features(self, loader, views=views, progress=progress)

    def answer(
        self,
        reader: Reader,
        rows: npt.NDArray[np.int64],
        *,
        batch_size: int,
        num_workers: int = 0,
        progress: Progress | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (logits float32 [B, K], positions int64 [B] among the rows) of the centre of each photo."""
        views = ("center",)
        for canvases, positions in self._make_loader(
            reader, rows, views=views, batch_size=batch_size, num_workers=num_workers
        ):
            yield self.head(self.features(canvases, views=views)), positions
            if progress is not None:
                progress(len(positions))

    def _make_loader(
        self,
        reader: Reader,
        rows: npt.NDArray[np.int64],
        *,
        views: Sequence[str],
        batch_size: int,
        num_workers: int,
    ) -> DataLoader[tuple[Tensor, Tensor]]:
        return make_inference_loader(
            reader,
            rows,
            preprocessing=self.preprocessing,
            views=views,
            batch_size=batch_size,
            num_workers=num_workers,
        )


def load_members(
    bundle: Path, *, device: torch.device | str, dtype: torch.dtype
) -> tuple[EnsembleConfig, list[LoadedMember]]:
    """Read an ensemble's bundle with its members, in the order in which they are merged.

    A member's own bundle is an ensemble of one that sees the view "center". ValueError where a member's class
    names are not those of the ensemble.
    """
    config = load_bundle_config(bundle)
    is_member = bundle_kind(bundle) == "member"
    members = []
    for name in config.members:
        path = bundle if is_member else bundle / MEMBERS_FOLDER / name
        member = LoadedMember.load(path, device=device, dtype=dtype)
        if member.config.class_names != config.class_names:
            raise ValueError(f"The class names of {path} are not those of its ensemble: build it again.")
        members.append(member)
    return config, members


def extract_features(
    member: LoadedMember,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    views: Sequence[str],
    progress: Progress | None = None,
) -> Features:
    """Return float32 [N, D] for the batches (canvases, positions 0..N-1) of a loader, by position."""
    parts = []
    for canvases, positions in loader:
        parts.append((positions.numpy(), member.features(canvases, views=views).cpu().numpy()))
        if progress is not None:
            progress(len(positions))
    num_photos = sum(len(positions) for positions, _ in parts)
    features = np.empty((num_photos, member.head.num_features), dtype=np.float32)
    while parts:  # freed one by one: the features never lie in memory twice
        rows, part = parts.pop()
        features[rows] = part
    return features


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
