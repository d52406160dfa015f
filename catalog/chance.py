"""Reproducible chance for single photos, independent of how many other photos there are.

A photo's number depends on the seed, the purpose and its id only, so adding photos moves no other photo
between splits or lists. Not polars' own hash: that one may change between versions, while XXH3 is a published
format. Ids are hashed once; every draw is then a cheap mix of that hash, and sorting by class and draw is one
sort of packed integers, several times faster than one over columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import xxhash

Hashes = npt.NDArray[np.uint64]


def hash_ids(ids: pl.Series) -> Hashes:
    """64 bits for each id `[N]`: XXH3 of its UTF-8 bytes, the same on every machine and in every version."""
    digests = map(xxhash.xxh3_64_intdigest, ids.cast(pl.Binary))
    return np.fromiter(digests, dtype=np.uint64, count=len(ids))


def draw(hashes: Hashes, *, seed: int, purpose: str) -> Hashes:
    """64 random bits for each hash `[N]`; other seeds and purposes give independent ones.

    The output function of SplitMix64 (Steele et al., "Fast splittable random number generators") of
    hash and seed; it is one to one, so different hashes never draw the same number.
    """
    key = np.uint64(xxhash.xxh3_64_intdigest(f"{seed}\0{purpose}".encode()))
    bits = hashes ^ key
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def to_uniform(draws: Hashes) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) of draws `[N]`, in the same order."""
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def order_within(
    classes: npt.NDArray[np.integer], keys: Hashes, photo_ids: pl.Series
) -> npt.NDArray[np.int64]:
    """The 0-based rank of each photo `[N]` in its class by key; equal keys by photo id.

    Classes are integers of at least 0; the smallest key is rank 0. Raises ValueError for negative classes.
    """
    if len(classes) == 0:
        return np.zeros(0, dtype=np.int64)
    if classes.min() < 0:
        raise ValueError(f"Expected classes of at least 0 to rank within, received {classes.min()}.")
    class_bits = int(classes.max()).bit_length()
    packed = keys >> np.uint64(class_bits)
    if class_bits:
        packed |= classes.astype(np.uint64) << np.uint64(64 - class_bits)
    rows = np.argsort(packed)
    _order_ties(rows, packed=packed[rows], keys=keys, photo_ids=photo_ids)
    counts = np.bincount(classes)
    first = np.cumsum(counts) - counts
    ranks = np.empty(len(rows), dtype=np.int64)
    ranks[rows] = np.arange(len(rows))
    ranks -= first[classes]
    return ranks


def _order_ties(rows: npt.NDArray[np.intp], *, packed: Hashes, keys: Hashes, photo_ids: pl.Series) -> None:
    """Put rows of equal packed keys into the order of their whole keys, then of their ids, in place."""
    same = packed[1:] == packed[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        photos = rows[tied]
        ties = pl.DataFrame(
            {"packed": packed[tied], "key": keys[photos], "row": photos, "id": photo_ids[photos]}
        )
        rows[tied] = ties.sort("packed", "key", "id")["row"].to_numpy()
