"""What happens to a training photo at random, drawn from the seed, the epoch and the photo's place in it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from imaging.config import Config, require


class AugmentationConfig(Config):
    """From nothing to report C's whole set."""

    name: Literal["none", "flip", "crop", "resized_crop"] = "flip"
    """none: the photo as in serving; flip: mirrored half of the time; crop: resize, then a random square of
    input_size, and flip; resized_crop: a random box of the photo at any scale, and flip."""

    scale: tuple[float, float] = (0.35, 1.0)
    """Smallest and largest share of the photo's area that resized_crop keeps."""

    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Narrowest and widest shape (width / height) that resized_crop cuts."""

    rotation: float = Field(default=0.0, ge=0, le=180)
    """Largest random rotation either way in degrees, before crop cuts; 0 is none."""

    auto_augment: str | None = None
    """A timm policy such as `rand-m7-mstd0.5` or `original` (AutoAugment), after the crop; null is none."""

    color_jitter: float = Field(default=0.0, ge=0)
    """Strength of random brightness, contrast and saturation after the crop; 0 is none, 0.4 is usual."""

    erasing: float = Field(default=0.0, ge=0, le=1)
    """Share of the photos of which a random rectangle is painted in the mean colour (random erasing)."""

    cutout: int = Field(default=0, ge=0)
    """Side, in pixels, of a square painted in the mean colour at a random place of every photo; 0 is none."""

    @model_validator(mode="after")
    def _ranges_rise_and_nothing_is_ignored(self) -> Self:
        for key in ("scale", "ratio"):
            low, high = getattr(self, key)
            require(0 < low <= high, key=key, expected="0 < low <= high", received=(low, high))
        require(self.scale[1] <= 1, key="scale", expected="a share up to 1", received=self.scale)
        if self.name in ("none", "flip"):
            self._refuse("auto_augment", "color_jitter", "erasing", "cutout", instead="crop or resized_crop")
        if self.name != "crop":
            self._refuse("rotation", instead="crop")
        return self

    def _refuse(self, *keys: str, instead: str) -> None:
        for key in keys:
            require(
                not getattr(self, key),
                key=key,
                expected=f"nothing beside name = {self.name} (use name = {instead})",
                received=getattr(self, key),
            )
