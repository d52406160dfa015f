"""Photo bytes to upright RGB pixels, whatever the format and colour mode.

JPEGs take libjpeg-turbo's scaled decoding, which costs a fraction of a full decode when only a small picture
is needed; everything else, and what simplejpeg refuses, goes through Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from imaging.formats import (
    corrupt,
    format_of,
    num_frames_of,
    open_image,
    orientation_of,
    plain_jpeg_size,
    upright_size,
)
from imaging.limits import Limits, PhotoError

Pixels = npt.NDArray[np.uint8]

# The scales of a JPEG that are worth asking for. libjpeg-turbo also has 3/8, 5/8, 6/8 and 7/8, without vector
# instructions: from 5/8 on they cost more than the whole photo, and 3/8 as much as 1/2 with fewer pixels.
_EIGHTHS = (1, 2, 4, 8)

# libjpeg's words for damage inside the picture. Its other warnings (stray bytes before a marker, odd
# metadata) leave the picture whole, and Pillow decides about those.
_DAMAGE = ("premature end of data segment", "bad huffman code", "bad arithmetic code", "resync")


@dataclass(frozen=True, kw_only=True)
class OpenPhoto:
    """A photo within the limits whose header is read; its pixels wait until the needed scale is known."""

    data: bytes
    format: str
    """One of imaging.formats.FORMATS."""
    num_frames: int
    width: int
    """Of the upright photo at full scale, pixels."""
    height: int
    """Of the upright photo at full scale, pixels."""
    limits: Limits
    orientation: int
    """EXIF orientation 1 to 8 that decode still has to apply."""
    simple: bool
    """True for a JPEG of a kind that simplejpeg decodes."""

    def decode(self, *, min_scale: float = 1.0) -> Pixels:
        """Decode to upright RGB, `[H, W, 3]` uint8, C-contiguous and writable.

        A JPEG comes at the smallest of 1/8, 1/4, 1/2 and 1 that is at least `min_scale`, sides rounded up;
        other formats come whole. Raises PhotoError for damaged photos.
        """
        eighths = next((step for step in _EIGHTHS if step >= 8 * min_scale), 8)
        pixels = self._decode_jpeg(eighths) if self.simple else None
        if pixels is None:
            pixels = self._decode_pillow(eighths)
        return np.ascontiguousarray(_turn_upright(pixels, self.orientation))

    def _decode_jpeg(self, eighths: int) -> Pixels | None:
        """Pixels by simplejpeg, or None where it refuses a photo that Pillow may still read."""
        width, height = (-(-side * eighths // 8) for side in (self.width, self.height))
        if self.orientation >= 5:
            width, height = height, width
        if eighths == 8:  # in a tiny photo 7/8 has as many pixels; 0 asks for no scaling at all
            width = height = 0
        try:
            pixels: Pixels = simplejpeg.decode_jpeg(self.data, "RGB", min_width=width, min_height=height)
        except ValueError as error:
            if any(words in str(error).lower() for words in _DAMAGE):
                raise corrupt("JPEG", error) from error
            return None
        return pixels

    def _decode_pillow(self, eighths: int) -> Pixels:
        image = open_image(self.data, limits=self.limits)
        try:
            if format_of(image) == "JPEG":
                image.draft(None, (image.width * eighths // 8 or 1, image.height * eighths // 8 or 1))
            image.load()
            return np.array(_to_rgb(image), dtype=np.uint8)
        except (MemoryError, PhotoError):
            raise
        except Exception as error:  # decoders raise whatever the broken bytes lead them to
            raise corrupt(format_of(image), error) from error


def open_photo(data: bytes, *, limits: Limits | None = None) -> OpenPhoto:
    """Read a photo's size and orientation, and check the limits. Raises PhotoError as open_image does."""
    limits = limits or Limits()
    size = plain_jpeg_size(data, limits=limits)
    if size is not None:
        return OpenPhoto(
            data=data,
            format="JPEG",
            num_frames=1,
            width=size[0],
            height=size[1],
            limits=limits,
            orientation=1,
            simple=True,
        )
    image = open_image(data, limits=limits)
    name, (width, height) = format_of(image), upright_size(image)
    return OpenPhoto(
        data=data,
        format=name,
        num_frames=num_frames_of(image),
        width=width,
        height=height,
        limits=limits,
        orientation=1 if name == "TIFF" else orientation_of(image),  # Pillow turns a TIFF itself
        simple=name == "JPEG" and image.mode in ("RGB", "L"),
    )


def decode(data: bytes, *, min_side: int | None = None, limits: Limits | None = None) -> Pixels:
    """Decode a photo to upright RGB, `[H, W, 3]` uint8, C-contiguous; the first frame of an animation.

    Transparency is laid over white, 16-bit grey keeps its upper 8 bits, palette and CMYK become RGB. With
    `min_side` in pixels a JPEG may come at the smallest scale (see OpenPhoto.decode) whose shorter side is
    still at least that; other formats come whole. Raises PhotoError, also for truncated data.
    """
    photo = open_photo(data, limits=limits)
    return photo.decode(min_scale=1 if min_side is None else min_side / min(photo.width, photo.height))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16)
        grey = (wide >> 8).astype(np.uint8)
        grey[wide == image.info.get("transparency", -1)] = 255  # a PNG may name one transparent grey
        return Image.fromarray(grey).convert("RGB")
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
