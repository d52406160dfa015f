"""What happens to a training photo at random, on uint8, so that a loader process stays light.

Without augmentation the way is recognition.preprocessing's, hence the same tensor as in serving.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_train
from torch import Tensor
from torchvision import transforms

from imaging.decode import Pixels
from recognition.preprocessing import Preprocessing, to_canvas
from training.config import AugmentationConfig

Augmentation = Callable[[Pixels], Tensor]
"""A decoded photo uint8 [H, W, 3] to a canvas uint8 [3, S, S]; draws from the global generators."""


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

    def __call__(self, photo: Pixels) -> Tensor:
        """Return uint8 [3, S, S]."""
        canvas = to_canvas(photo, preprocessing=self.preprocessing)
        return canvas.flip(-1) if self.flip and torch.rand(()) < 0.5 else canvas


class Crop:
    """timm's training transforms, and random erasing in the mean colour, which normalises to zero."""

    def __init__(self, config: AugmentationConfig, *, preprocessing: Preprocessing) -> None:
        try:
            self.transform = transforms_imagenet_train(
                preprocessing.input_size,
                scale=config.scale,
                ratio=config.ratio,
                auto_augment=config.auto_augment,
                color_jitter=config.color_jitter or None,
                force_color_jitter=True,
                interpolation="bilinear",
                mean=preprocessing.mean,
                use_prefetcher=True,
            )
        except (AssertionError, KeyError, ValueError) as error:
            raise ValueError(
                f"augmentation.auto_augment: expected a policy of timm such as rand-m7-mstd0.5, original or "
                f"augmix-m3-w3, received {config.auto_augment!r} ({error})."
            ) from error
        mean_color = [round(255 * value) for value in preprocessing.mean]
        self.erasing = transforms.RandomErasing(p=config.erasing, value=mean_color)

    def __call__(self, photo: Pixels) -> Tensor:
        """Return uint8 [3, S, S]."""
        canvas: Tensor = self.erasing(self.transform(Image.fromarray(photo)))
        return canvas
