"""The form in which a photo is kept: small enough for millions of them, and the same for ingest and serving.

Both call `to_stored` on the original bytes: a model meets in production the pixels it was evaluated on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import simplejpeg
from pydantic import Field

from imaging.config import Config
from imaging.decode import Pixels, open_photo
from imaging.limits import Limits

PREVIEW_SIDE = 64
_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")


class StoragePolicy(Config):
    """Which photos are kept as they came, and how the others are re-encoded."""

    max_side: int = Field(default=512, ge=1)
    """Longer side in pixels; larger photos are shrunk to it."""
    quality: int = Field(default=90, ge=1, le=100)
    """JPEG quality of re-encoded photos, 1 to 100."""
    max_bytes: int = Field(default=1024 * 1024, ge=1)
    """Largest file that is kept as it came; a larger one is re-encoded even when its sides are small."""


@dataclass(frozen=True, kw_only=True)
class StoredPhoto:
    """A photo as it is kept; widths and heights are those of the upright photo."""

    data: bytes
    width: int
    height: int
    source_width: int
    """Before it was shrunk."""
    source_height: int
    preview: Pixels = field(repr=False, compare=False)
    """Pixels that were decoded on the way, shorter side at least PREVIEW_SIDE where the photo has that."""


def to_stored(
    data: bytes, *, policy: StoragePolicy | None = None, limits: Limits | None = None
) -> StoredPhoto:
    """Keep a photo's bytes where the policy allows, else shrink it and encode it as JPEG.

    Kept unchanged: a still JPEG, PNG or WEBP within max_side and max_bytes that decodes. Raises PhotoError
    for photos that do not decode.
    """
    policy = policy or StoragePolicy()
    photo = open_photo(data, limits=limits)
    width, height = photo.width, photo.height
    still = photo.format in _KEPT_FORMATS and photo.num_frames == 1
    if still and max(width, height) <= policy.max_side and len(data) <= policy.max_bytes:
        # reads every byte, computes few pixels
        preview = photo.decode(min_scale=PREVIEW_SIDE / min(width, height))
    else:
        scale = min(1.0, policy.max_side / max(width, height))
        width, height = max(1, round(width * scale)), max(1, round(height * scale))
        preview = photo.shrink(width=width, height=height)
        data = simplejpeg.encode_jpeg(
            preview, quality=policy.quality, colorspace="RGB", colorsubsampling="420"
        )
    return StoredPhoto(
        data=data,
        width=width,
        height=height,
        source_width=photo.width,
        source_height=photo.height,
        preview=preview,
    )
