"""What happens to a training photo at random, on uint8, so that a loader process stays light.

Without augmentation the way is recognition.preprocessing's, hence the same tensor as in serving. A random
crop is drawn before the photo is decoded: the decoder then only computes the resolution that the crop needs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor
from torchvision import transforms

from imaging.decode import open_photo
from recognition.preprocessing import Preprocessing, load_stored, resize_to_square, to_canvas
from training.config import AugmentationConfig

Augmentation = Callable[[bytes], Tensor]
"""Stored bytes to a canvas uint8 [3, S, S]; draws from the global generators, raises PhotoError."""


def make_augmentation(config: AugmentationConfig, *, preprocessing: Preprocessing) -> Augmentation:
    """Build the augmentation that the phase names; ValueError for an auto_augment that timm does not know."""
    if config.name == "none":
        return Canvas(preprocessing, flip=False)
    if config.name == "flip":
        return Canvas(preprocessing, flip=True)
    return Crop(config, preprocessing=preprocessing)


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


class Crop:
    """timm's training transforms, and random erasing in the mean colour, which normalises to zero."""

    def __init__(self, config: AugmentationConfig, *, preprocessing: Preprocessing) -> None:
        self.side = preprocessing.input_size
        try:
            geometry, self.recolor, self.to_tensor = transforms_imagenet_train(
                preprocessing.input_size,
                scale=config.scale,
                ratio=config.ratio,
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
        self.box = geometry.transforms[0]
        mean_color = [round(255 * value) for value in preprocessing.mean]
        self.erasing = (
            transforms.RandomErasing(p=config.erasing, value=mean_color) if config.erasing else None
        )

    def __call__(self, data: bytes) -> Tensor:
        """Return uint8 [3, S, S]."""
        canvas = _mirror_half(self.cut(data))
        if self.recolor.transforms:  # timm recolours Pillow's images
            canvas = self.to_tensor(self.recolor(Image.fromarray(canvas.permute(1, 2, 0).numpy())))
        if self.erasing is not None:
            canvas = self.erasing(canvas)
        return canvas

    def cut(self, data: bytes) -> Tensor:
        """Draw a box, decode at the smallest scale at which it still has S pixels a side, resize it to S x S.

        The box is drawn at full scale, so it does not depend on the decoder; at a smaller one it snaps to
        whole pixels.
        """
        photo = open_photo(data)
        outline = _outline(photo.height, photo.width)
        top, left, height, width = self.box.get_params(outline, self.box.scale, self.box.ratio)
        pixels = photo.decode(min_scale=self.side / min(height, width))
        y_scale, x_scale = pixels.shape[0] / photo.height, pixels.shape[1] / photo.width
        rows = slice(round(top * y_scale), round((top + height) * y_scale))
        columns = slice(round(left * x_scale), round((left + width) * x_scale))
        return resize_to_square(pixels[rows, columns], side=self.side)


def _mirror_half(canvas: Tensor) -> Tensor:
    """Mirror a canvas [3, S, S] half of the time."""
    return canvas.flip(-1) if random.random() < 0.5 else canvas


@lru_cache(maxsize=1024)  # most photos of a store have one of few sizes
def _outline(height: int, width: int) -> Tensor:
    """A picture without pixels: timm's draw of a box looks at the size only."""
    return torch.empty((height, width), device="meta")
