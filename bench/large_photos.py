"""Large photos of every kind that the decoder reads.

The kinds that Pillow reads and cannot write (tiled TIFF, run-length encoded BMP, interlaced PNG) are put
together by hand.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

Make = Callable[[int, int], bytes]
"""Width and height to a file's bytes."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def by_pillow(mode: str, format: str, **options: Any) -> Make:
    """A picture of two colours, saved by Pillow."""

    def make(width: int, height: int) -> bytes:
        colour: Any = {"1": 1, "L": 90, "P": 3, "I;16": 30_000}.get(mode, (10, 90, 200, 128)[: len(mode)])
        image = Image.new(mode, (width, height), colour)
        if mode == "P":
            image.putpalette(bytes(range(256)) * 3)
        image.paste(0 if len(mode) == 1 or mode == "I;16" else tuple(colour[::-1]), (0, 0, 1 + width // 3, 1))
        return _saved(image, format, **options)

    return make


def turned(mode: str, format: str, **options: Any) -> Make:
    """The same, to be turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return by_pillow(mode, format, exif=exif, **options)


def animated(format: str, **options: Any) -> Make:
    """Two frames, each of the whole size."""

    def make(width: int, height: int) -> bytes:
        frames = [Image.new("P" if format == "GIF" else "RGB", (width, height), colour) for colour in (1, 2)]
        return _saved(frames[0], format, save_all=True, append_images=frames[1:], **options)

    return make


def jpeg(subsampling: str) -> Make:
    """A baseline JPEG."""

    def make(width: int, height: int) -> bytes:
        row = np.linspace(0, 255, width * 3).astype(np.uint8).reshape(1, width, 3)
        pixels = np.repeat(row, height, axis=0)
        return bytes(
            simplejpeg.encode_jpeg(pixels, quality=85, colorspace="RGB", colorsubsampling=subsampling)
        )

    return make


def png(bits: int, colour_type: int, *, interlaced: bool = False, extra: bytes = b"") -> Make:
    """A PNG of equal rows."""

    def make(width: int, height: int) -> bytes:
        def rows(columns: int, count: int) -> bytes:
            row = b"\x01" + b"\x01" * (-(-columns * bits * _PNG_CHANNELS[colour_type] // 8))  # filter: Sub
            return b"".join(squeeze.compress(row) for _ in range(count if columns else 0))

        squeeze = zlib.compressobj(1)
        passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
        pixels = b"".join(
            rows(-(-max(0, width - x) // across), -(-max(0, height - y) // down))
            for x, y, across, down in passes
        )
        header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
        body = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", pixels + squeeze.flush())
        return b"\x89PNG\r\n\x1a\n" + body + _chunk(b"IEND", b"")

    return make


PALETTE = b"".join(
    (struct.pack(">I", 768), b"PLTE", bytes(768), struct.pack(">I", zlib.crc32(b"PLTE" + bytes(768))))
)


def tiff_tiles(side: int, *, channels: int = 3) -> Make:
    """A deflated TIFF of square tiles, 8 bits a channel."""

    def make(width: int, height: int) -> bytes:
        tile = zlib.compress(b"\x50" * (side * side * channels), 1)
        count = -(-width // side) * -(-height // side)
        start = 8 + 2 + 11 * 12 + 4
        bits, offsets, sizes = start, start + 8, start + 8 + 4 * count
        data = sizes + 4 * count
        one = count == 1
        tags = [
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, channels, bits),
            (259, 3, 1, 8),
            (262, 3, 1, 2),
            (277, 3, 1, channels),
            (284, 3, 1, 1),
            (322, 4, 1, side),
            (323, 4, 1, side),
            (324, 4, count, data if one else offsets),
            (325, 4, count, len(tile) if one else sizes),
        ]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
        tables = struct.pack("<4H", 8, 8, 8, 8) + struct.pack(f"<{count}I", *[data] * count)
        return head + tables + struct.pack(f"<{count}I", *[len(tile)] * count) + tile

    return make


def bmp_runs(width: int, height: int) -> bytes:
    """A BMP of runs (BI_RLE8)."""
    row = b"\xff\x01" * (width // 255) + (bytes([width % 255, 1]) if width % 255 else b"") + b"\0\0"
    pixels = row * height + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(pixels), 0, 0, 1078) + header + bytes(1024) + pixels


KINDS: dict[str, Make] = {
    "JPEG 4:2:0": jpeg("420"),
    "JPEG 4:4:4": jpeg("444"),
    "JPEG grey": by_pillow("L", "JPEG"),
    "JPEG CMYK": by_pillow("CMYK", "JPEG"),
    "JPEG turned": turned("RGB", "JPEG"),
    "JPEG progressive 4:2:0": by_pillow("RGB", "JPEG", progressive=True, subsampling=2),
    "JPEG progressive 4:4:4": by_pillow("RGB", "JPEG", progressive=True, subsampling=0),
    "JPEG progressive CMYK": by_pillow("CMYK", "JPEG", progressive=True),
    "PNG 1 bit": png(1, 0),
    "PNG grey": png(8, 0),
    "PNG grey 16 bit": png(16, 0),
    "PNG grey alpha": png(8, 4),
    "PNG palette": png(8, 3, extra=PALETTE),
    "PNG RGB": png(8, 2),
    "PNG RGBA": png(8, 6),
    "PNG RGB 16 bit": png(16, 2),
    "PNG RGBA 16 bit": png(16, 6),
    "PNG RGB interlaced": png(8, 2, interlaced=True),
    "PNG palette interlaced": png(8, 3, interlaced=True, extra=PALETTE),
    "PNG RGB turned": turned("RGB", "PNG", compress_level=1),
    "PNG animated": animated("PNG", compress_level=1),
    "WEBP lossy": by_pillow("RGB", "WEBP", method=0),
    "WEBP lossless": by_pillow("RGB", "WEBP", lossless=True, method=0, quality=0),
    "WEBP lossy alpha": by_pillow("RGBA", "WEBP", method=0),
    "WEBP animated": animated("WEBP", method=0),
    "GIF": by_pillow("P", "GIF"),
    "GIF transparent": by_pillow("P", "GIF", transparency=3),
    "GIF animated": animated("GIF"),
    "BMP 1 bit": by_pillow("1", "BMP"),
    "BMP palette": by_pillow("P", "BMP"),
    "BMP runs": bmp_runs,
    "BMP RGB": by_pillow("RGB", "BMP"),
    "TIFF grey raw": by_pillow("L", "TIFF"),
    "TIFF RGB LZW": by_pillow("RGB", "TIFF", compression="tiff_lzw"),
    "TIFF RGB one strip": by_pillow("RGB", "TIFF", compression="tiff_lzw", strip_size=2**31 - 1),
    "TIFF RGB tiled": tiff_tiles(256),
    "TIFF RGB turned": turned("RGB", "TIFF", compression="tiff_lzw"),
    "TIFF RGB JPEG": by_pillow("RGB", "TIFF", compression="jpeg"),
    "TIFF CMYK LZW": by_pillow("CMYK", "TIFF", compression="tiff_lzw"),
    "TIFF palette packbits": by_pillow("P", "TIFF", compression="packbits"),
    "TIFF 1 bit group 4": by_pillow("1", "TIFF", compression="group4"),
    "TIFF grey 16 bit": by_pillow("I;16", "TIFF", compression="tiff_lzw"),
    "TIFF RGBA deflate": by_pillow("RGBA", "TIFF", compression="tiff_adobe_deflate"),
}


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
