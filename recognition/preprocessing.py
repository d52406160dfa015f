"""Pixels to tensors, in one place, so that training, evaluation and serving can never disagree.

The way is always bytes -> the store's own re-encoding -> pixels -> canvas (uint8) -> normalised float.
Evaluation enters at the second arrow (the store already holds re-encoded bytes), serving at the first.
Resizing is Pillow's: integer arithmetic, so the same bytes give the same canvas on every processor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imaging.decode import Pixels, decode
from imaging.limits import Limits
from imaging.storage import StoragePolicy, to_stored
from recognition.backbones import data_statistics

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


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
    """Resize a photo [H, W, 3] antialiased and cut its centre; returns uint8 [3, S, S] with S = input_size.

    Only the centre is computed, in one pass: the filter sees the pixels around it, so the result is that of
    resizing everything and cropping afterwards.
    """
    height, width = photo.shape[:2]
    side, crop = preprocessing.resize, preprocessing.input_size
    resized_width = resized_height = side
    if not preprocessing.whole_photo:
        scale = side / min(height, width)
        resized_width, resized_height = max(side, round(width * scale)), max(side, round(height * scale))
    left, top = (resized_width - crop) // 2, (resized_height - crop) // 2
    x_scale, y_scale = width / resized_width, height / resized_height
    right, bottom = min((left + crop) * x_scale, width), min((top + crop) * y_scale, height)
    canvas = Image.fromarray(photo).resize(
        (crop, crop), Image.Resampling.BILINEAR, box=(left * x_scale, top * y_scale, right, bottom)
    )
    return torch.from_numpy(np.array(canvas).transpose(2, 0, 1).copy())


def normalize(batch: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Scale uint8 [B, 3, S, S] to float32 [B, 3, S, S] with mean 0 and deviation 1, on the batch's device."""
    mean = torch.tensor(preprocessing.mean, device=batch.device).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, device=batch.device).view(1, 3, 1, 1)
    return batch.float().div_(255).sub_(mean).div_(std)
