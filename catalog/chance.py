"""Reproducible chance for single photos, independent of how many other photos there are.

A photo's number depends on the seed, the purpose and its id only, so adding photos moves no other photo
between splits or lists. Not polars' own hash: that one may change between versions.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

_RANGE = 2.0**64


def draw_hash(photo_ids: pl.Series, *, seed: int, purpose: str) -> pl.Series:
    """64 random bits for each photo id `[N]` UInt64: BLAKE2b of seed, purpose and id."""
    start = hashlib.blake2b(f"{seed}\0{purpose}\0".encode(), digest_size=8)
    digests = bytearray()
    for photo_id in photo_ids:
        state = start.copy()
        state.update(photo_id.encode())
        digests += state.digest()
    return pl.Series("hash", np.frombuffer(digests, dtype="<u8").astype(np.uint64))


def draw_uniform(photo_ids: pl.Series, *, seed: int, purpose: str) -> pl.Series:
    """A number in [0, 1) for each photo id `[N]` Float64."""
    return (draw_hash(photo_ids, seed=seed, purpose=purpose).cast(pl.Float64) / _RANGE).alias("chance")
