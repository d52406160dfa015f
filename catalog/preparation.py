"""What an ingest worker does with one photo; its own module, so that a spawned worker imports little."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from catalog.sources import SourcePhoto
from imaging.limits import Limits, PhotoError
from imaging.storage import StoragePolicy, StoredPhoto, to_stored

UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a photo does not enter the store: a reason to count by, and what a person can do."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PreparedPhoto:
    """A photo in its stored form with the SHA-256 of those bytes."""

    stored: StoredPhoto
    sha256: str


def prepare_photos(
    photos: Sequence[SourcePhoto], policy: StoragePolicy, limits: Limits
) -> list[PreparedPhoto | Refusal]:
    """Read and store-encode some photos; a bad one becomes a Refusal and never stops the others."""
    return [_prepare(photo, policy=policy, limits=limits) for photo in photos]


def _prepare(photo: SourcePhoto, *, policy: StoragePolicy, limits: Limits) -> PreparedPhoto | Refusal:
    try:
        stored = to_stored(photo.read(), policy=policy, limits=limits)
    except PhotoError as error:
        return Refusal(reason=error.reason, message=str(error))
    except OSError as error:  # only the system's words: the path would differ from machine to machine
        message = f"The file could not be read ({error.strerror}): restore it or correct the source's index."
        return Refusal(reason=UNREADABLE, message=message)
    return PreparedPhoto(stored=stored, sha256=hashlib.sha256(stored.data).hexdigest())
