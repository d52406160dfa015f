"""What decoding a photo takes in memory, told from its header, and how the memory goes back to the system.

A few kilobytes may announce gigabytes of a decoder's buffers. The factors below are those of the decoders in
use, rounded up; `python -m bench.decode_memory` measures every kind of photo against the limit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from typing import Any

from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from imaging.limits import Limits, PhotoError

RGB_BYTES = 3
WORK_BYTES = 24 * 1024 * 1024  # strips of rows on their way, and what the decoders allocate besides
LARGE_PIXELS = 4_000_000  # of smaller photos no decoder takes a quarter of the default limit

# Bytes a pixel of Pillow's picture: 4 for every mode of several channels.
_MODE_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# libwebp's animation decoder keeps two canvases of 4 and hands out a copy, before Pillow's picture is there
# (imaging/formats.py lets go of the decoder).
_WEBP_BYTES = 12
# Pillow reads run-length encoded BMPs in Python, through two copies.
_RLE_BYTES = 2
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH, _TIFF_ROWS_PER_STRIP = 322, 323, 278
_TIFF_BITS, _TIFF_SAMPLES, _TIFF_ORIENTATION = 258, 277, 274


def picture_bytes(image: ImageFile) -> tuple[int, int]:
    """Bytes at the peak of loading an opened image, and bytes of Pillow's picture, which stays.

    For a JPEG after `draft`, at that scale and without its coefficients (jpeg_coefficient_bytes).
    """
    pixels = image.width * image.height
    size = pixels * _MODE_BYTES.get(image.mode, 4)
    if image.format == "WEBP":
        return pixels * _WEBP_BYTES, size
    if image.format == "BMP" and image.tile and image.tile[0][0] == "bmp_rle":
        return size + pixels * _RLE_BYTES, size
    if isinstance(image, TiffImageFile):
        turned = size if image.tag_v2.get(_TIFF_ORIENTATION, 1) != 1 else 0  # Pillow turns a copy
        return size + max(turned, _tiff_buffer_bytes(image)), size
    return size, size


def _tiff_buffer_bytes(image: TiffImageFile) -> int:
    """Bytes of libtiff's strip or tile, which may be much larger than the picture."""
    tags = image.tag_v2
    width, height = image._tile_size
    if _TIFF_TILE_WIDTH in tags:
        part = _number(tags[_TIFF_TILE_WIDTH]) * _number(tags.get(_TIFF_TILE_LENGTH, height))
    else:
        part = width * min(height, _number(tags.get(_TIFF_ROWS_PER_STRIP, height)))
    bits = tags.get(_TIFF_BITS, (1,))
    samples = _number(tags.get(_TIFF_SAMPLES, len(bits)))
    sample_bytes: int = max(4, samples * -(-max(bits) // 8))
    # libjpeg's coefficients of a progressive JPEG inside a TIFF, where there is one
    return part * (sample_bytes + (2 * samples if "jpeg" in str(image.info.get("compression")) else 0))


def _number(value: Any) -> int:
    """A tag's one number: some writers give it as a list."""
    return int(value[0] if isinstance(value, tuple) else value)


def jpeg_coefficient_bytes(data: bytes) -> int:
    """Bytes of libjpeg's coefficients, which it keeps of JPEGs that send the whole picture in several scans.

    0 for a JPEG of one scan (baseline). Two bytes for each coefficient of each component, in blocks of 8 x 8
    (ITU-T T.81, A.1 and A.2).
    """
    components: list[tuple[int, int]] = []  # sampling factors, across and down
    width = height = 0
    at = 2
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            factors = data[at + 11 : at + 2 + length : 3]
            components = [(max(1, factor >> 4), max(1, factor & 15)) for factor in factors]
            if marker in (0xC2, 0xC6, 0xCA, 0xCE):  # progressive
                break
        if marker == 0xDA:
            if data[at + 4] == len(components):
                return 0
            break
        at += 2 + length
    across, down = (max((factors[i] for factors in components), default=1) for i in (0, 1))
    mcus = -(-width // (8 * across)), -(-height // (8 * down))
    return sum(2 * 64 * prod(mcus) * prod(factors) for factors in components)


def check_memory(needed: int, *, kind: str, width: int, height: int, limits: Limits) -> None:
    """Raise PhotoError (too_many_pixels) where decoding would take more than the limit."""
    limit = limits.max_decoding_bytes
    if needed <= limit:
        return
    fitting = 0.99 * width * height * (limit - WORK_BYTES) / (needed - WORK_BYTES)
    size = f"{max(fitting, 0) / 1e6:.1f} million pixels"
    raise PhotoError(
        f"The photo has {width} x {height} = {width * height:,} pixels. Decoding this {kind} takes about "
        f"{needed / 1e6:,.0f} MB of memory, the limit is {limit / 1e6:,.0f} MB: scale it down to {size}, or "
        "save it as a baseline JPEG.",
        reason="too_many_pixels",
    )


@contextmanager
def memory_given_back(*, pixels: int) -> Iterator[None]:
    """Return what decoding a large photo freed to the system; without this glibc keeps it for the process."""
    try:
        yield
    finally:
        trim = _malloc_trim()
        if pixels >= LARGE_PIXELS and trim is not None:
            trim(0)


@cache
def _malloc_trim() -> Any:
    """glibc's malloc_trim; None where the C library has none."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
