"""Small real photos, made on the spot."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture
def encode() -> Encode:
    """Encode a Pillow image into the bytes of a file."""

    def _encode(image: Image.Image, format: str, **options: Any) -> bytes:
        buffer = BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    return _encode


@pytest.fixture
def picture() -> Image.Image:
    """70 wide, 90 high, smooth and without any symmetry."""
    y, x = np.mgrid[0:90, 0:70]
    pixels = np.stack([x * 3, y * 2, (x + y) % 256], axis=2).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Write a PNG of raw rows, each with its filter byte: the kinds that Pillow reads and cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def write(
        width: int, height: int, *, bits: int, color_type: int, rows: bytes, transparency: bytes = b""
    ) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
        keyed = chunk(b"tRNS", transparency) if transparency else b""
        pixels = chunk(b"IDAT", zlib.compress(rows, 9))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + keyed + pixels + chunk(b"IEND", b"")

    return write
