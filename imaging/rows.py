"""RGB rows of a picture, a strip at a time: a whole copy of it in another form is what large photos cost.

Pillow keeps 4 bytes a pixel of a colour picture and cannot decode a part of a PNG. The rows of a PNG are
compressed one after the other, so a strip of them, behind the last row before, is a PNG of its own.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile

from imaging.limits import PhotoError

Pixels = npt.NDArray[np.uint8]

STRIP_PIXELS = 1_000_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}  # of the PNG colour types of several channels: RGB, grey with alpha, RGBA
_COLOUR_CHUNKS = (b"PLTE", b"tRNS")
_READ = 1 << 16  # compressed bytes at a time
_NO_RANGE = ("I", "F", "LAB")


def check_mode(image: Image.Image) -> None:
    """Raise PhotoError (unsupported_format) for pixels that have no fixed range."""
    if image.mode in _NO_RANGE:
        raise PhotoError(
            f"The photo has pixels of kind {image.mode}, which have no fixed range of brightness: "
            "save it with 8 bits a channel.",
            reason="unsupported_format",
        )


def image_rows(image: ImageFile) -> Iterator[Pixels]:
    """Load an opened image and yield its rows as RGB `[n, W, 3]`, in order; raises what Pillow raises."""
    image.load()
    rows = strip_height(image.width)
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        whole = (top, bottom) == (0, image.height)
        yield np.asarray(_to_rgb(image if whole else image.crop((0, top, image.width, bottom))))


def is_png_of_strips(image: ImageFile) -> bool:
    """Whether png_rows reads it: 8 bits a channel, several channels, not interlaced, no animation.

    The others take Pillow 1 or 2 bytes a pixel, or are rare.
    """
    if not isinstance(image, PngImageFile) or image.mode not in ("RGB", "LA", "RGBA"):
        return False
    rawmode = image.tile[0][3] if image.tile else None
    return rawmode == image.mode and not image.info.get("interlace") and "bbox" not in image.info


def png_rows(data: bytes) -> Iterator[Pixels]:
    """Yield the rows of a PNG that is_png_of_strips as RGB `[n, W, 3]`, the same as image_rows.

    Raises what Pillow and zlib raise, EOFError where the rows end early.
    """
    header, kept, _ = _chunks_before_pixels(data)
    width, height, _, colour_type = struct.unpack(">IIBB", header[:10])
    num_bytes = 1 + width * _CHANNELS[colour_type]  # the row's filter, then its pixels
    last = b""  # the row above, unfiltered: filters refer to it
    source = _Inflated(data)
    rows = strip_height(width)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        filtered = source.read(count * num_bytes)
        above = 1 if last else 0
        size = struct.pack(">II", width, count + above)
        pixels = zlib.compress((b"\0" + last if last else b"") + filtered, 0)
        strip = [_SIGNATURE, _chunk(b"IHDR", size + header[8:]), *kept, _chunk(b"IDAT", pixels)]
        image = PngImageFile(BytesIO(b"".join([*strip, _chunk(b"IEND", b"")])))
        image.load()
        last = np.asarray(image)[-1].tobytes()
        yield np.asarray(_to_rgb(image))[above:]


def strip_height(width: int) -> int:
    """Rows in a strip of about STRIP_PIXELS."""
    return max(1, STRIP_PIXELS // width)


class _Inflated:
    """The decompressed bytes of a PNG's IDAT chunks, a piece at a time."""

    def __init__(self, data: bytes) -> None:
        self._pieces = _pixel_pieces(data)
        self._inflate = zlib.decompressobj()
        self._rest = b""

    def read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            if not self._rest:
                self._rest = next(self._pieces, b"")
            piece = self._inflate.decompress(self._rest, count - len(found))
            if not piece and not self._rest:
                raise EOFError("image file is truncated")
            self._rest = self._inflate.unconsumed_tail
            found += piece
        return bytes(found)


def _chunks_before_pixels(data: bytes) -> tuple[bytes, list[bytes], int]:
    """The header's content, the chunks that colours depend on, and where the first IDAT begins."""
    kept, at, header = [], len(_SIGNATURE), b""
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IHDR":
            header = data[at + 8 : at + 8 + length]
        elif kind in _COLOUR_CHUNKS:
            kept.append(data[at : at + 12 + length])
        elif kind == b"IDAT":
            return header, kept, at
        at += 12 + length


def _pixel_pieces(data: bytes) -> Iterator[bytes]:
    at = _chunks_before_pixels(data)[2]
    while data[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(data[at : at + 4], "big")
        for start in range(at + 8, at + 8 + length, _READ):
            yield data[start : min(start + _READ, at + 8 + length)]
        at += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16)
        grey = (wide >> 8).astype(np.uint8)
        grey[wide == image.info.get("transparency", -1)] = 255  # a PNG may name one transparent grey
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
