"""Pixels to tensors, in one place, so that training, evaluation and serving can never disagree.

The way is always bytes -> the store's own re-encoding -> pixels -> canvas (uint8) -> normalised float.
Evaluation enters at the second arrow (the store already holds re-encoded bytes), serving at the first.
Resizing is torch's antialiased filter on uint8: Pillow's algorithm in integer arithmetic with vector
instructions, so the same bytes give the same canvas on every processor (tested without them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imaging.decode import Pixels, decode
from imaging.limits import Limits
from imaging.storage import StoragePolicy, to_stored
from recognition.backbones import data_statistics

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# What F.interpolate(..., mode="bilinear", antialias=True) calls. Called directly it may write channels last,
# as every model here reads them; F.interpolate reorders its result, which takes a third of its time.
_resize = torch.ops.aten._upsample_bilinear2d_aa.out


@dataclass(frozen=True)
class Preprocessing:
    """How one member turns a photo into its input; stored in the member's bundle."""

    input_size: int = 224
    """Side of the square the backbone sees, pixels."""
    resize: int = 256
    """Side the photo is resized to before the centre crop of `input_size`, pixels."""
    whole_photo: bool = True
    """True squashes the whole photo to resize x resize (reports A, B); False resizes its shorter side."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Per channel, on the 0..1 scale."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Per channel, on the 0..1 scale."""
    storage: StoragePolicy = field(default_factory=StoragePolicy)
    """The photo store's re-encoding, which serving repeats on an upload."""

    def __post_init__(self) -> None:
        if not 1 <= self.input_size <= self.resize:
            raise ValueError(
                f"Expected 1 <= input_size <= resize, received input_size={self.input_size}, "
                f"resize={self.resize}. The centre crop is cut out of the resized photo: raise `resize`."
            )
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or (name == "std" and min(values) <= 0):
                raise ValueError(f"Expected three numbers for {name} (std above 0), received {values}.")
            object.__setattr__(self, name, values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` reads them back to an equal object."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Read what `to_dict` wrote; ValueError names keys that are unknown or missing."""
        known = {item.name for item in fields(cls)}
        if set(values) != known:
            raise ValueError(
                f"Expected the preprocessing keys {sorted(known)}, received {sorted(values)}. "
                "Was this bundle written by another version?"
            )
        return cls(**{**values, "storage": StoragePolicy(**values["storage"])})


def make_preprocessing(
    backbone: str,
    *,
    input_size: int,
    resize: int,
    whole_photo: bool = True,
    storage: StoragePolicy | None = None,
) -> Preprocessing:
    """Build a backbone's preprocessing: mean and std are those of its ImageNet weights (timm's record)."""
    mean, std = data_statistics(backbone)
    return Preprocessing(
        input_size=input_size,
        resize=resize,
        whole_photo=whole_photo,
        mean=mean,
        std=std,
        storage=StoragePolicy() if storage is None else storage,
    )


def load_photo(data: bytes, *, preprocessing: Preprocessing, limits: Limits | None = None) -> Pixels:
    """Decode an original file as serving does: through the store's re-encoding.

    Returns uint8 [H, W, 3]; PhotoError where the file is refused.
    """
    stored = to_stored(data, policy=preprocessing.storage, limits=limits)
    return load_stored(stored.data, preprocessing=preprocessing, limits=limits)


def load_stored(data: bytes, *, preprocessing: Preprocessing, limits: Limits | None = None) -> Pixels:
    """Decode bytes of the photo store, scaled down in the decoder where the resize allows.

    Returns uint8 [H, W, 3]; PhotoError where the bytes do not decode.
    """
    return decode(data, min_side=preprocessing.resize, limits=limits)


def to_canvas(photo: Pixels, *, preprocessing: Preprocessing) -> Tensor:
    """Resize a photo [H, W, 3] antialiased, cut its centre; returns uint8 [3, S, S] with S = input_size."""
    if not preprocessing.whole_photo:
        photo = _centre_square(photo)
    start = (preprocessing.resize - preprocessing.input_size) // 2
    end = start + preprocessing.input_size
    return resize_to_square(photo, side=preprocessing.resize)[:, start:end, start:end]


def resize_to_square(photo: Pixels, *, side: int) -> Tensor:
    """Resize uint8 [H, W, 3] antialiased to uint8 [3, side, side], to one grey level what Pillow gives.

    The colours of a pixel stay side by side in memory. Rows first: the filter is faster down than along, and
    then has fewer rows to go along.
    """
    resized = torch.from_numpy(np.ascontiguousarray(photo))[None].permute(0, 3, 1, 2)
    for height, width in ((side, photo.shape[1]), (side, side)):
        out = torch.empty((1, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        resized = _resize(resized, [height, width], False, out=out)
    return resized[0]


def stack_canvases(canvases: Sequence[Tensor]) -> Tensor:
    """Stack canvases uint8 [3, S, S] to a batch [B, 3, S, S] in memory format channels_last."""
    return torch.stack([canvas.permute(1, 2, 0) for canvas in canvases]).permute(0, 3, 1, 2)


def _centre_square(photo: Pixels) -> Pixels:
    """Cut equal strips off the longer side; one pixel more than the shorter side stays where one is odd."""
    height, width = photo.shape[:2]
    top, left = max(0, height - width) // 2, max(0, width - height) // 2
    return photo[top : height - top, left : width - left]


def normalize(batch: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Scale uint8 [B, 3, S, S] to float32 [B, 3, S, S] with mean 0 and deviation 1, on the batch's device."""
    mean = torch.tensor(preprocessing.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=batch.device).view(1, 3, 1, 1)
    return batch.float().div_(255).sub_(mean).div_(std)
