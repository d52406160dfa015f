"""What happens to a training photo at random, on uint8, so that a loader process stays light.

Without augmentation the way is recognition.preprocessing's, hence the same tensor as in serving. A random
box is drawn before the photo is decoded: the decoder then only computes the resolution that the box needs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor
from torchvision import transforms

from imaging.decode import open_photo
from recognition.preprocessing import (
    Preprocessing,
    load_stored,
    resize_to,
    resize_to_square,
    to_canvas,
)
from training.config import AugmentationConfig

Augmentation = Callable[[bytes], Tensor]
"""Stored bytes to a canvas uint8 [3, S, S]; draws from the global generators, raises PhotoError."""


def make_augmentation(config: AugmentationConfig, *, preprocessing: Preprocessing) -> Augmentation:
    """Build the augmentation that the phase names; ValueError for an auto_augment that timm does not know."""
    if config.name in ("none", "flip"):
        return Canvas(preprocessing, flip=config.name == "flip")
    cut = (
        RandomCrop(preprocessing, rotation=config.rotation)
        if config.name == "crop"
        else ResizedCrop(config, side=preprocessing.input_size)
    )
    return Augmented(cut, config=config, preprocessing=preprocessing)


class Canvas:
    """The photo as in serving, mirrored half of the time if asked."""

    def __init__(self, preprocessing: Preprocessing, *, flip: bool) -> None:
        self.preprocessing = preprocessing
        self.flip = flip

    def __call__(self, data: bytes) -> Tensor:
        """Return uint8 [3, S, S]."""
        photo = load_stored(data, preprocessing=self.preprocessing)
        canvas = to_canvas(photo, preprocessing=self.preprocessing)
        return _mirror_half(canvas) if self.flip else canvas


class Augmented:
    """A random cut of the photo, mirrored half of the time, recoloured and painted over as the phase says."""

    def __init__(
        self, cut: Augmentation, *, config: AugmentationConfig, preprocessing: Preprocessing
    ) -> None:
        self.cut = cut
        self.recolor, self.to_tensor = _timms_colors(config, preprocessing)
        mean_color = _mean_color(preprocessing)
        self.paint: list[Callable[[Tensor], Tensor]] = []
        if config.erasing:
            self.paint.append(transforms.RandomErasing(p=config.erasing, value=list(mean_color)))
        if config.cutout:
            self.paint.append(Cutout(config.cutout, color=mean_color))

    def __call__(self, data: bytes) -> Tensor:
        """Return uint8 [3, S, S]."""
        canvas = _mirror_half(self.cut(data))
        if self.recolor.transforms:  # timm recolours Pillow's images
            canvas = self.to_tensor(self.recolor(_to_image(canvas)))
        for paint in self.paint:
            canvas = paint(canvas)
        return canvas


class RandomCrop:
    """Report C's crop: the photo is resized, turned a little if asked, and a random square is cut out of it.

    Preprocessing says the size and whether the photo is squashed or keeps its shape. Turned corners are
    filled with the mean colour (ours; the DCL reference code leaves them black).
    """

    def __init__(self, preprocessing: Preprocessing, *, rotation: float) -> None:
        self.preprocessing = preprocessing
        self.rotation = rotation
        self.fill = _mean_color(preprocessing)

    def __call__(self, data: bytes) -> Tensor:
        """Return uint8 [3, S, S]."""
        resized, side = self._resize(data), self.preprocessing.input_size
        top = random.randint(0, resized.shape[1] - side)
        left = random.randint(0, resized.shape[2] - side)
        if not self.rotation:
            return resized[:, top : top + side, left : left + side]
        degrees = random.uniform(-self.rotation, self.rotation)
        return self._turn(resized, degrees=degrees, top=top, left=left)

    def _resize(self, data: bytes) -> Tensor:
        photo, side = load_stored(data, preprocessing=self.preprocessing), self.preprocessing.resize
        if self.preprocessing.whole_photo:
            return resize_to_square(photo, side=side)
        height, width = photo.shape[:2]
        shorter = min(height, width)
        return resize_to(photo, height=round(height * side / shorter), width=round(width * side / shorter))

    def _turn(self, resized: Tensor, *, degrees: float, top: int, left: int) -> Tensor:
        """Cut S x S at (top, left) out of the picture turned about its centre, anticlockwise.

        One interpolation makes the pixels of the cut alone: each is looked up where it lay before the turn.
        """
        center_y, center_x = resized.shape[1] / 2, resized.shape[2] / 2
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = left - center_x, top - center_y  # of the cut's corner, from the centre
        origin_x, origin_y = cos * x - sin * y + center_x, sin * x + cos * y + center_y
        side = self.preprocessing.input_size
        turned = _to_image(resized).transform(
            (side, side),
            Image.Transform.AFFINE,
            (cos, -sin, origin_x, sin, cos, origin_y),
            resample=Image.Resampling.BILINEAR,
            fillcolor=self.fill,
        )
        return torch.from_numpy(np.array(turned)).permute(2, 0, 1)


class ResizedCrop:
    """A random box of the photo at any scale, resized to S x S (Szegedy et al. 2015), drawn by timm."""

    def __init__(self, config: AugmentationConfig, *, side: int) -> None:
        self.config = config
        self.side = side

    def __call__(self, data: bytes) -> Tensor:
        """Return uint8 [3, S, S].

        The photo is decoded at the smallest scale at which the box still has S pixels a side. The box is
        drawn at full scale, so it does not depend on the decoder; at a smaller one it snaps to whole pixels.
        """
        photo = open_photo(data)
        outline = _outline(photo.height, photo.width)
        top, left, height, width = RandomResizedCropAndInterpolation.get_params(
            outline, self.config.scale, self.config.ratio
        )
        pixels = photo.decode(min_scale=self.side / min(height, width))
        y_scale, x_scale = pixels.shape[0] / photo.height, pixels.shape[1] / photo.width
        rows = slice(round(top * y_scale), round((top + height) * y_scale))
        columns = slice(round(left * x_scale), round((left + width) * x_scale))
        return resize_to_square(pixels[rows, columns], side=self.side)


class Cutout:
    """A square painted at a random place of every photo (DeVries and Taylor 2017).

    Its centre may be any pixel, so it may hang over the edge, as theirs does.
    """

    def __init__(self, side: int, *, color: tuple[int, ...]) -> None:
        self.side = side
        self.color = torch.tensor(color, dtype=torch.uint8)[:, None, None]

    def __call__(self, canvas: Tensor) -> Tensor:
        """Return uint8 [3, S, S] with the square in it."""
        top, left = (random.randrange(size) - self.side // 2 for size in canvas.shape[1:])
        painted = canvas.clone()
        painted[:, max(0, top) : top + self.side, max(0, left) : left + self.side] = self.color
        return painted


def _timms_colors(config: AugmentationConfig, preprocessing: Preprocessing) -> tuple[Any, Any]:
    """Return timm's transforms after the cut, and its way back to a tensor."""
    try:
        _, recolor, to_tensor = transforms_imagenet_train(
            preprocessing.input_size,
            auto_augment=config.auto_augment,
            color_jitter=config.color_jitter or None,
            force_color_jitter=True,
            mean=preprocessing.mean,
            use_prefetcher=True,
            separate=True,
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise ValueError(
            f"augmentation.auto_augment: expected a policy of timm such as rand-m7-mstd0.5, original or "
            f"augmix-m3-w3, received {config.auto_augment!r} ({error})."
        ) from error
    return recolor, to_tensor


def _mean_color(preprocessing: Preprocessing) -> tuple[int, ...]:
    """Return the grey levels that normalise to zero."""
    return tuple(round(255 * value) for value in preprocessing.mean)


def _to_image(canvas: Tensor) -> Image.Image:
    return Image.fromarray(canvas.permute(1, 2, 0).numpy())


def _mirror_half(canvas: Tensor) -> Tensor:
    """Mirror a canvas [3, S, S] half of the time."""
    return canvas.flip(-1) if random.random() < 0.5 else canvas


@lru_cache(maxsize=1024)  # most photos of a store have one of few sizes
def _outline(height: int, width: int) -> Tensor:
    """A picture without pixels: timm's draw of a box looks at the size only."""
    return torch.empty((height, width), device="meta")
