"""Limits on what a photo may cost us, and the one error that says why a photo was refused.

Photos come from strangers: a few kilobytes may announce gigabytes of pixels. Ingest and serving share these
limits, so that a photo one of them refuses is refused by the other for the same reason and in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Reason = Literal["empty", "too_many_bytes", "too_many_pixels", "not_a_photo", "unsupported_format", "corrupt"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest photo that is opened at all."""

    max_bytes: int = 64 * 1024 * 1024
    """Largest file, in bytes."""
    max_pixels: int = 100_000_000
    """Largest width times height, read from the header before any pixel is decoded."""
    max_decoding_bytes: int = 400_000_000
    """Most memory that decoding one photo may take, told from its header, the file's bytes included."""


class PhotoError(ValueError):
    """A photo that is refused: `reason` for tables and status codes, the message for a person."""

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.reason: Reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_photo_error, (str(self), self.reason)


def _rebuild_photo_error(message: str, reason: Reason) -> PhotoError:
    """Pickle calls this: keyword-only arguments do not survive the default way between processes."""
    return PhotoError(message, reason=reason)
