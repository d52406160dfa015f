"""What an ingest worker does with photos; its own module, so that a spawned worker imports little."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import imagehash
import numpy as np
from PIL import Image

from catalog.sources import SourcePhoto, read_photos
from imaging.decode import Pixels
from imaging.limits import Limits, PhotoError
from imaging.storage import StoragePolicy, to_stored

UNREADABLE = "unreadable"
_HASHED_SIDE = 32  # pixels a side of what imagehash transforms


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a photo does not enter the store: a reason to count by, and what a person can do."""

    photo_id: str
    reason: str
    message: str


class PreparedPhoto(NamedTuple):
    """A photo in its stored form with what is known of it: a row of a shard.

    A tuple, since millions go from the workers to the writer, and a data class takes five times as long.
    """

    photo_id: str
    photo: bytes
    crc32: int
    """Of `photo`."""
    sha256: bytes
    """Of `photo`."""
    source_sha256: bytes
    """Of the bytes that the source gave."""
    width: int
    height: int
    source_width: int
    source_height: int
    perceptual_hash: int
    """64 bits, the first one highest."""


def prepare_photos(
    photos: Sequence[SourcePhoto], policy: StoragePolicy, limits: Limits
) -> list[PreparedPhoto | Refusal]:
    """Read and store-encode some photos; a bad one becomes a Refusal and never stops the others."""
    outcomes: list[PreparedPhoto | Refusal] = []
    for photo, data in zip(photos, read_photos(photos), strict=True):
        if isinstance(data, OSError):
            outcomes.append(_refuse_unreadable(photo.photo_id, data))
            continue
        try:
            outcomes.append(prepare_photo(photo.photo_id, data, policy=policy, limits=limits))
        except PhotoError as error:
            outcomes.append(Refusal(photo_id=photo.photo_id, reason=error.reason, message=str(error)))
    return outcomes


def prepare_photo(
    photo_id: str, data: bytes, *, policy: StoragePolicy | None = None, limits: Limits | None = None
) -> PreparedPhoto:
    """Bring the bytes of a source's photo into their stored form. Raises PhotoError where it is refused."""
    stored = to_stored(data, policy=policy, limits=limits)
    source_sha256 = hashlib.sha256(data).digest()
    kept = stored.data is data
    return PreparedPhoto(
        photo_id=photo_id,
        photo=stored.data,
        crc32=crc32(stored.data),
        sha256=source_sha256 if kept else hashlib.sha256(stored.data).digest(),
        source_sha256=source_sha256,
        width=stored.width,
        height=stored.height,
        source_width=stored.source_width,
        source_height=stored.source_height,
        perceptual_hash=hash_pixels(stored.preview),
    )


def hash_pixels(pixels: Pixels) -> int:
    """Imagehash's 64-bit pHash of RGB pixels `[H, W, 3]` as a number, the first bit highest.

    Large pictures are averaged down first: imagehash's own resize costs as much as the decoding otherwise.
    """
    image = Image.fromarray(pixels).convert("L")
    factor = min(image.size) // _HASHED_SIDE
    bits = imagehash.phash(image.reduce(factor) if factor > 1 else image).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def digest_sources(photos: Sequence[SourcePhoto]) -> list[bytes | None]:
    """SHA-256 of each photo's bytes as the source has them now; None where they cannot be read."""
    answers = read_photos(photos)
    return [None if isinstance(data, OSError) else hashlib.sha256(data).digest() for data in answers]


def _refuse_unreadable(photo_id: str, error: OSError) -> Refusal:
    # only the system's words: the path would differ from machine to machine
    words = error.strerror or type(error).__name__
    message = f"The file could not be read ({words}): restore it or correct the source's index."
    return Refusal(photo_id=photo_id, reason=UNREADABLE, message=message)
