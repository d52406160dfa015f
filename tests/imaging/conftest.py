"""Small real photos, made on the spot."""

from __future__ import annotations

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
