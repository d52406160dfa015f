"""Photo bytes to upright RGB pixels, whatever the format and colour mode.

JPEGs take libjpeg-turbo's scaled decoding, which costs a fraction of a full decode when only a small picture
is needed; everything else, and what simplejpeg refuses, goes through Pillow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
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
from imaging.memory import (
    LARGE_PIXELS,
    RGB_BYTES,
    WORK_BYTES,
    check_memory,
    jpeg_coefficient_bytes,
    memory_given_back,
    picture_bytes,
)
from imaging.rows import Pixels, check_mode, image_rows, is_png_of_strips, png_rows, strip_height

__all__ = ["OpenPhoto", "Pixels", "decode", "open_photo"]

# The scales of a JPEG that are worth asking for. libjpeg-turbo also has 3/8, 5/8, 6/8 and 7/8, without vector
# instructions: from 5/8 on they cost more than the whole photo, and 3/8 as much as 1/2 with fewer pixels.
_EIGHTHS = (1, 2, 4, 8)

# The orientation that undoes another: only the quarter turns are not their own opposite.
_INVERSE = {6: 8, 8: 6}

# Of very long photos: bytes a column, whose row passes through several forms, and bytes a row, which has a
# pointer in Pillow; both with Pillow's six coefficients of 8 bytes for each side that is resized.
COLUMN_BYTES, ROW_BYTES = 128, 80

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
        other formats come whole. Raises PhotoError for damaged photos, and for those that take more memory
        than the limit.
        """
        eighths = next((step for step in _EIGHTHS if step >= 8 * min_scale), 8)
        with memory_given_back(pixels=self.width * self.height):
            pixels = self._decode_jpeg(eighths) if self.simple else None
            if pixels is None:
                return self._by_pillow(eighths, _Whole(self.orientation))
            return np.ascontiguousarray(turn_upright(pixels, self.orientation))

    def shrink(self, *, width: int, height: int) -> Pixels:
        """Decode to upright RGB `[height, width, 3]`, resized with Pillow's Lanczos filter.

        The same as resizing what `decode` gives, without the whole photo in memory where its rows can be
        resized as they come. Raises PhotoError as `decode` does.
        """
        min_scale = min(width, height) / min(self.width, self.height)
        eighths = next((step for step in _EIGHTHS if step >= 8 * min_scale), 8)
        form = _Shrunk(width, height)
        with memory_given_back(pixels=self.width * self.height):
            if not self.simple and self.orientation == 1 and (width, height) != (self.width, self.height):
                return self._by_pillow(eighths, form)
            scale = eighths if self.format == "JPEG" else 8
            size = -(-self.width * scale // 8), -(-self.height * scale // 8)
            self._check_memory(RGB_BYTES * size[0] * size[1] + form.num_bytes(size), kind=self.format)
            pixels = self.decode(min_scale=min_scale)
            return form.take(strips_of(pixels), size=size)

    def _decode_jpeg(self, eighths: int) -> Pixels | None:
        """Pixels by simplejpeg, or None where it refuses a photo that Pillow may still read."""
        width, height = (-(-side * eighths // 8) for side in (self.width, self.height))
        copies = 1 if self.orientation == 1 else 2
        self._check_memory(RGB_BYTES * copies * width * height, kind="JPEG")
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

    def _by_pillow(self, eighths: int, form: _Whole | _Shrunk) -> Pixels:
        """What `form` makes of the rows that Pillow decodes."""
        try:
            return self._take_rows(eighths, form)
        except (MemoryError, PhotoError):
            raise
        except Exception as error:  # decoders raise whatever the broken bytes lead them to
            refusal = corrupt(self.format, error)
        # Raised out here, since the decoder's traceback would keep the half-decoded picture in memory.
        raise refusal

    def _take_rows(self, eighths: int, form: _Whole | _Shrunk) -> Pixels:
        image = open_image(self.data, limits=self.limits)
        check_mode(image)
        if self.format == "JPEG":
            image.draft(None, (image.width * eighths // 8 or 1, image.height * eighths // 8 or 1))
        in_strips = image.width * image.height >= LARGE_PIXELS and is_png_of_strips(image)
        loading, picture = (0, 0) if in_strips else picture_bytes(image)
        kind = f"interlaced {self.format}" if image.info.get("interlace") else self.format
        sides = COLUMN_BYTES * image.width + ROW_BYTES * image.height
        self._check_memory(sides + max(loading, picture + form.num_bytes(image.size)), kind=kind)
        rows = png_rows(self.data) if in_strips else image_rows(image)
        return form.take(rows, size=image.size)

    def _check_memory(self, needed: int, *, kind: str) -> None:
        """Refuse where the buffers of decoding, beside the file itself, exceed the limit."""
        needed += len(self.data) + WORK_BYTES
        if kind == "JPEG" and self.width * self.height > LARGE_PIXELS:
            coefficients = jpeg_coefficient_bytes(self.data)
            needed += coefficients
            kind = "progressive JPEG" if coefficients else kind
        check_memory(needed, kind=kind, width=self.width, height=self.height, limits=self.limits)


class _Whole:
    """All rows, upright, in one array."""

    def __init__(self, orientation: int) -> None:
        self._orientation = orientation

    def num_bytes(self, size: tuple[int, int]) -> int:
        return RGB_BYTES * size[0] * size[1]

    def take(self, rows: Iterable[Pixels], *, size: tuple[int, int]) -> Pixels:
        """Write each strip to where it belongs in the upright photo, which saves a second copy."""
        width, height = size if self._orientation < 5 else size[::-1]
        pixels = np.empty((height, width, 3), dtype=np.uint8)
        stored = turn_upright(pixels, _INVERSE.get(self._orientation, self._orientation))
        top = 0
        for strip in rows:
            stored[top : top + len(strip)] = strip
            top += len(strip)
        return pixels


class _Shrunk:
    """All rows, resized with Pillow's Lanczos filter, which goes along the rows first, then down.

    Along them a row needs no other, so that strips give the same as the whole picture.
    """

    def __init__(self, width: int, height: int) -> None:
        self._width, self._height = width, height

    def num_bytes(self, size: tuple[int, int]) -> int:
        return 2 * 4 * self._width * size[1] + 4 * self._width * self._height

    def take(self, rows: Iterable[Pixels], *, size: tuple[int, int]) -> Pixels:
        if size == (self._width, self._height):
            return _Whole(1).take(rows, size=size)
        narrow = Image.new("RGB", (self._width, size[1]))
        top = 0
        for strip in rows:
            along = Image.fromarray(strip).resize((self._width, len(strip)), Image.Resampling.LANCZOS)
            narrow.paste(along, (0, top))
            top += len(strip)
        return np.array(narrow.resize((self._width, self._height), Image.Resampling.LANCZOS))


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


def strips_of(pixels: Pixels) -> Iterator[Pixels]:
    """The rows of a photo `[H, W, 3]`, a strip at a time."""
    rows = strip_height(pixels.shape[1])
    for top in range(0, len(pixels), rows):
        yield pixels[top : top + rows]


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
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
