"""Pixels to tensors, in one place, so that training, evaluation and serving can never disagree.

The way is always bytes -> the store's own re-encoding -> pixels -> canvas (uint8) -> normalised float.
Evaluation enters at the second arrow (the store already holds re-encoded bytes), serving at the first, with
imaging.storage's `to_stored`.
Resizing is torch's antialiased filter on uint8: Pillow's algorithm in integer arithmetic with vector
instructions, so the same bytes give the same canvas on every processor (tested without them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imaging.decode import Pixels, decode, open_photo
from imaging.limits import Limits
from imaging.storage import StoragePolicy
from recognition.backbones import data_statistics
from recognition.views import POSITIONS, Crop, View, resolve_views

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

    def views(self, names: Sequence[str]) -> tuple[View, ...]:
        """Return what names of views stand for at these sizes; ValueError where a crop is too large."""
        return resolve_views(names, input_size=self.input_size, resize=self.resize)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` reads them back to an equal object."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        storage = self.storage.model_dump(mode="json")
        return {**values, "mean": list(self.mean), "std": list(self.std), "storage": storage}

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
    """Build a backbone's preprocessing: mean and std are those of its pretrained weights (timm's record)."""
    mean, std = data_statistics(backbone)
    return Preprocessing(
        input_size=input_size,
        resize=resize,
        whole_photo=whole_photo,
        mean=mean,
        std=std,
        storage=StoragePolicy() if storage is None else storage,
    )


def load_stored(data: bytes, *, preprocessing: Preprocessing, limits: Limits | None = None) -> Pixels:
    """Decode bytes of the photo store, scaled down in the decoder where the resize allows.

    Returns uint8 [H, W, 3]; PhotoError where the bytes do not decode.
    """
    return decode(data, min_side=preprocessing.resize, limits=limits)


def to_canvas(photo: Pixels, *, preprocessing: Preprocessing) -> Tensor:
    """Resize a photo [H, W, 3] antialiased, cut its centre; returns uint8 [3, S, S] with S = input_size."""
    center = Crop("center", preprocessing.resize)
    return next(_cut(photo, [center], preprocessing=preprocessing))


def load_canvases(
    data: bytes, *, preprocessing: Preprocessing, crops: Sequence[Crop], limits: Limits | None = None
) -> Tensor:
    """Turn bytes of the photo store into crops uint8 [V, 3, S, S], each what it would be without the others.

    The photo is decoded once for each scale that the decoder offers and once resized for each size asked for
    (a long photo that is not squashed, for each end asked for). PhotoError where the bytes do not decode.
    """
    photo = open_photo(data, limits=limits)
    shorter, whole = min(photo.width, photo.height), (photo.height, photo.width)
    canvases: dict[Crop, Tensor] = {}
    pixels = None
    for side in sorted({crop.resize for crop in crops}):
        if pixels is None or (pixels.shape[:2] != whole and min(pixels.shape[:2]) <= side):
            pixels = photo.decode(min_scale=side / shorter)
        alike = [crop for crop in crops if crop.resize == side]
        canvases.update(zip(alike, _cut(pixels, alike, preprocessing=preprocessing), strict=True))
    if len(crops) == 1:
        return canvases[crops[0]][None]  # a copy would cost as much again as making the batch
    return stack_canvases([canvases[crop] for crop in crops])


def _cut(photo: Pixels, crops: Sequence[Crop], *, preprocessing: Preprocessing) -> Iterator[Tensor]:
    """Yield crops uint8 [3, S, S] of one resize out of a photo [H, W, 3].

    Of a photo that is not squashed only the square at the crop's end is resized: its costs do not grow with
    its length. Where one side is longer by an odd number, that square is one pixel longer than wide.
    """
    height, width = photo.shape[:2]
    spare_rows, spare_columns = max(0, height - width) // 2 * 2, max(0, width - height) // 2 * 2
    if preprocessing.whole_photo:
        spare_rows = spare_columns = 0
    squares: dict[tuple[int, int], Tensor] = {}
    for position, side in crops:
        down, right = POSITIONS[position]
        top, left = int(spare_rows * down), int(spare_columns * right)
        if (top, left) not in squares:
            square = photo[top : top + height - spare_rows, left : left + width - spare_columns]
            squares[top, left] = resize_to_square(square, side=side)
        size, spare = preprocessing.input_size, side - preprocessing.input_size
        row, column = int(spare * down), int(spare * right)
        yield squares[top, left][:, row : row + size, column : column + size]


def resize_to_square(photo: Pixels, *, side: int) -> Tensor:
    """Resize uint8 [H, W, 3] antialiased to uint8 [3, side, side]; see `resize_to`."""
    return resize_to(photo, height=side, width=side)


def resize_to(photo: Pixels, *, height: int, width: int) -> Tensor:
    """Resize uint8 [H, W, 3] antialiased to uint8 [3, height, width], to one grey level what Pillow gives.

    The colours of a pixel stay side by side in memory. Rows first: the filter is faster down than along, and
    then has fewer rows to go along.
    """
    resized = torch.from_numpy(np.ascontiguousarray(photo))[None].permute(0, 3, 1, 2)
    for size in ((height, photo.shape[1]), (height, width)):
        out = torch.empty((1, *size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
        resized = _resize(resized, list(size), False, out=out)
    return resized[0]


def stack_canvases(canvases: Sequence[Tensor]) -> Tensor:
    """Stack uint8 [..., 3, S, S] to [B, ..., 3, S, S], the colours of a pixel side by side in memory."""
    return torch.stack([canvas.movedim(-3, -1) for canvas in canvases]).movedim(-1, -3)


def normalize(batch: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Scale uint8 [B, 3, S, S] to float32 [B, 3, S, S] with mean 0 and deviation 1, on the batch's device.

    The result is in memory format channels_last, whose rows of pixels are filled three times faster than
    channel by channel.
    """
    height, width = batch.shape[2:]
    mean = _row(preprocessing.mean, width, batch.device)
    std = _row(preprocessing.std, width, batch.device)
    pixels = batch.float().contiguous(memory_format=torch.channels_last).div_(255)
    pixels.movedim(1, 3).view(len(batch), height, 3 * width).sub_(mean).div_(std)
    return pixels


@lru_cache(maxsize=64)  # sent to a GPU at each call, they would wait for all that it has to do
def _row(values: tuple[float, float, float], width: int, device: torch.device) -> Tensor:
    """One value for each colour of each pixel of a row, [3 width]."""
    with torch.inference_mode(False):  # whoever comes first, training may use them, too
        return torch.tensor(values).repeat(width).to(device)
