"""Photo bytes to upright RGB pixels, whatever the format and colour mode.

JPEGs take libjpeg-turbo's scaled decoding, which costs a fraction of a full decode when only a small picture
is needed; everything else, and what simplejpeg refuses, goes through Pillow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageFile

from imaging.formats import corrupt, format_of, open_image, orientation_of
from imaging.limits import Limits, PhotoError

Pixels = npt.NDArray[np.uint8]

# libjpeg's words for damage inside the picture. Its other warnings (stray bytes before a marker, odd
# metadata) leave the picture whole, and Pillow decides about those.
_DAMAGE = ("premature end of data segment", "bad huffman code", "bad arithmetic code", "resync")


def decode(data: bytes, *, min_side: int | None = None, limits: Limits | None = None) -> Pixels:
    """Decode a photo to upright RGB, `[H, W, 3]` uint8, C-contiguous; the first frame of an animation.

    Transparency is laid over white, 16-bit grey keeps its upper 8 bits, palette and CMYK become RGB. With
    `min_side` in pixels a JPEG may come at the smallest DCT scale whose shorter side is still at least that;
    other formats come whole. Raises PhotoError, also for truncated data.
    """
    image = open_image(data, limits=limits or Limits())
    orientation = 1 if format_of(image) == "TIFF" else orientation_of(image)  # Pillow turns a TIFF itself
    pixels = None
    if format_of(image) == "JPEG" and image.mode in ("RGB", "L"):
        pixels = _decode_jpeg(data, min_side=min_side)
    if pixels is None:
        pixels = _decode_pillow(image, min_side=min_side)
    return np.ascontiguousarray(_turn_upright(pixels, orientation))


def _decode_jpeg(data: bytes, *, min_side: int | None) -> Pixels | None:
    """Pixels by simplejpeg, or None where it refuses a photo that Pillow may still read."""
    side = min_side or 0
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side)
    except ValueError as error:
        if any(words in str(error).lower() for words in _DAMAGE):
            raise corrupt("JPEG", error) from error
        return None
    return pixels


def _decode_pillow(image: ImageFile.ImageFile, *, min_side: int | None) -> Pixels:
    name = format_of(image)
    try:
        if min_side is not None and name == "JPEG":
            image.draft(None, (min_side, min_side))
        image.load()
        return np.asarray(_to_rgb(image), dtype=np.uint8)
    except (MemoryError, PhotoError):
        raise
    except Exception as error:  # decoders raise whatever the broken bytes lead them to
        raise corrupt(name, error) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16)
        return Image.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F", "LAB"):
        raise PhotoError(
            f"The photo has pixels of kind {image.mode}, which have no fixed range of brightness: "
            "save it with 8 bits a channel.",
            reason="unsupported_format",
        )
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (TIFF 6.0, tag 274: where the stored row 0 and column 0 belong)."""
    if orientation in (2, 7):
        pixels = pixels[:, ::-1]
    elif orientation == 3:
        pixels = pixels[::-1, ::-1]
    elif orientation in (4, 5):
        pixels = pixels[::-1]
    if orientation in (5, 6, 7):
        return np.rot90(pixels, -1)
    return np.rot90(pixels) if orientation == 8 else pixels
