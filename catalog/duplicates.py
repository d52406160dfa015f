"""Photos that are there more than once: exact copies by their bytes, near copies by perceptual hash.

Near copies are searched among distinct hashes only, so that ten thousand blank photos are one hash and not
fifty million pairs. So the tables say once what follows from them: photos of the same bytes are a group,
different bytes of one hash a star around the first, and two hashes near each other one pair of their first
photos. `tie_copies` and `catalog.copies_across` follow these ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import model_validator
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from contracts.duplicates import EXACT_DUPLICATES, NEAR_DUPLICATES
from imaging.config import Config

EXACT_FILE = "exact.parquet"
NEAR_FILE = "near.parquet"

_HASH_BITS = 64

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]


class DuplicatesConfig(Config):
    """What counts as a near copy."""

    max_distance: int = 2
    """Bits of 64 in which the perceptual hashes of near copies differ at most (pHash: always an even number).
    2 finds a photo that was resized or saved again. Looked at, pairs at 4 and more are the same scene taken
    again among photos of shelves, but other articles on the same background among photos of clothes."""

    @model_validator(mode="after")
    def _is_near(self) -> Self:
        if not 0 <= self.max_distance <= 8:
            raise ValueError(
                f"Expected max_distance in 0..8, received {self.max_distance}: photos whose hashes differ in "
                "more of 64 bits show other things."
            )
        return self


def find_exact(photos: pl.DataFrame) -> pl.DataFrame:
    """Photos with the same bytes (photos.parquet: photo_id, sha256): group (Int64), photo_id.

    Only groups of two and more, sorted by group and id; groups are numbered by their smallest id.
    """
    copies = photos.select("photo_id", "sha256").filter(pl.col("sha256").is_duplicated())
    first = pl.col("photo_id").min().over("sha256")
    return copies.sort(first, "photo_id").select(
        pl.col("sha256").rle_id().cast(pl.Int64).alias("group"), "photo_id"
    )


def find_near(photos: pl.DataFrame, *, max_distance: int, max_pairs: int = 20_000_000) -> pl.DataFrame:
    """Photos whose perceptual hashes differ in at most max_distance bits: photo_id, other_id, distance.

    photos: photos.parquet (photo_id, sha256, perceptual_hash UInt64; null: not compared). distance Int32,
    photo_id < other_id, sorted by both. Of exact copies only the first is in a pair; photos of one hash are
    paired with its first, at distance 0; two hashes near each other give one pair, of their first photos.
    2.5 million photos take 4 s at 2 bits and 20 s at 6. Raises ValueError for more than max_pairs, which
    alone take about 1 GiB.
    """
    first = (
        photos.select("photo_id", "sha256", "perceptual_hash")
        .drop_nulls("perceptual_hash")
        .sort("photo_id")
        .unique("sha256", keep="first", maintain_order=True)
    )
    values, rows, value_of = np.unique(
        first["perceptual_hash"].to_numpy(), return_index=True, return_inverse=True
    )
    others = np.flatnonzero(rows[value_of] != np.arange(len(first)))
    found = [(rows[value_of[others]], others, np.zeros(len(others), dtype=np.int64))]
    num_pairs = len(others)
    for left, right, distance in _near_values(values, max_distance=max_distance):
        found.append((rows[left], rows[right], distance))
        num_pairs += len(left)
        if num_pairs > max_pairs:
            raise ValueError(
                f"Expected at most {max_pairs:,} pairs of near copies among {len(photos):,} photos, found "
                f"more within {max_distance} bits: lower max_distance."
            )
    one, two, distance = (np.concatenate(column) for column in zip(*found, strict=True))
    pairs = pl.DataFrame({"one": np.minimum(one, two), "two": np.maximum(one, two), "distance": distance})
    pairs = pairs.sort("one", "two")
    return pl.DataFrame(
        {
            "photo_id": first["photo_id"].gather(pairs["one"]),
            "other_id": first["photo_id"].gather(pairs["two"]),
            "distance": pairs["distance"].cast(pl.Int32),
        }
    )


def is_near_any(values: Hashes, others: Hashes, *, max_distance: int) -> npt.NDArray[np.bool_]:
    """Whether each perceptual hash `[N]` is within max_distance bits of one of the others `[M]`.

    2.5 million others take as long as in `find_near`.
    """
    own, foreign = np.unique(values), np.unique(others)
    distinct = np.union1d(own, foreign)
    in_own, in_foreign = np.isin(distinct, own), np.isin(distinct, foreign)
    near = in_own & in_foreign
    for one, two, _ in _near_values(distinct, max_distance=max_distance):
        near[one] |= in_foreign[two]
        near[two] |= in_foreign[one]
    found: npt.NDArray[np.bool_] = near[np.searchsorted(distinct, values)]
    return found


def tie_copies(exact: pl.DataFrame, near: pl.DataFrame | None = None) -> pl.DataFrame:
    """Photos that exact and near copies tie together, also through others: group (Int64), photo_id.

    Sorted by group and id; groups are numbered by their smallest id. Without near: the exact groups.
    """
    pairs = [exact.select("photo_id", other_id=pl.col("photo_id").first().over("group"))]
    if near is not None:
        pairs.append(near.select("photo_id", "other_id"))
    ties = pl.concat(pairs)
    ids = pl.concat([ties["photo_id"], ties["other_id"]]).unique().sort()
    code = pl.DataFrame({"id": ids}).with_row_index("code")
    one = ties.join(code, left_on="photo_id", right_on="id", maintain_order="left")["code"].to_numpy()
    two = ties.join(code, left_on="other_id", right_on="id", maintain_order="left")["code"].to_numpy()
    graph = coo_array((np.ones(len(one), dtype=np.bool_), (one, two)), shape=(len(ids), len(ids)))
    _, groups = connected_components(graph, directed=False)
    tied = pl.DataFrame({"group": groups.astype(np.int64), "photo_id": ids})
    first = pl.col("photo_id").first().over("group")
    return tied.sort(first, "photo_id").with_columns(pl.col("group").rle_id().cast(pl.Int64))


def contradictions(exact: pl.DataFrame, near: pl.DataFrame | None, labels: pl.DataFrame) -> pl.DataFrame:
    """Photos of one content but different labels, all of each such group: photo_id, class, group.

    labels: photo_id, class; null and missing ones contradict nothing. near None: exact copies only.
    """
    labelled = tie_copies(exact, near).join(labels.select("photo_id", "class"), on="photo_id")
    return (
        labelled.drop_nulls("class")
        .filter(pl.col("class").n_unique().over("group") > 1)
        .sort("group", "photo_id")
        .select("photo_id", "class", "group")
    )


def save_duplicates(folder: Path, *, exact: pl.DataFrame, near: pl.DataFrame) -> None:
    """Write exact.parquet and near.parquet into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    EXACT_DUPLICATES.write(folder / EXACT_FILE, exact)
    NEAR_DUPLICATES.write(folder / NEAR_FILE, near)


def load_duplicates(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read the exact groups (group, photo_id) and near pairs (photo_id, other_id, distance) of a folder.

    Raises FileNotFoundError where a table is missing, TableError for another one.
    """
    exact, near = EXACT_DUPLICATES.read(folder / EXACT_FILE), NEAR_DUPLICATES.read(folder / NEAR_FILE)
    return pl.DataFrame(exact), pl.DataFrame(near)


def _near_values(values: Hashes, *, max_distance: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Pairs of distinct hashes at 1..max_distance bits, as positions and distance, each pair once.

    Pigeonhole: of max_distance + a bands of bits, hashes that near agree in at least a whole bands, so only
    those that agree in some a bands are compared (Manku et al., "Detecting near-duplicates for web crawling",
    2007). More bands mean more sorts and fewer comparisons.
    """
    if max_distance == 0:
        return
    num_agreeing = 2 if max_distance < 6 else 3
    edges = np.linspace(0, _HASH_BITS, max_distance + num_agreeing + 1).astype(int).tolist()
    bands = [np.uint64((1 << end) - (1 << start)) for start, end in pairwise(edges)]
    for chosen in combinations(range(len(bands)), num_agreeing):
        # A pair that agrees in more bands is found once: by the first of them.
        earlier = [bands[band] for band in range(chosen[-1]) if band not in chosen]
        mask = np.bitwise_or.reduce([bands[band] for band in chosen])
        for one, two, differing in _pairs_within(values, mask):
            distance = np.bitwise_count(differing)
            near = distance <= max_distance
            for band in earlier:
                near &= (differing & band) != 0
            if near.any():
                yield one[near], two[near], distance[near].astype(np.int64)


def _pairs_within(values: Hashes, mask: np.uint64) -> Iterator[tuple[Ints, Ints, Hashes]]:
    """Pairs of values `[N]` that are equal under a mask: positions and differing bits, N pairs at most each.

    Sorted by what the mask leaves, partners lie side by side: those one step apart, then two, and so on.
    """
    kept = values & mask
    order = np.argsort(kept)
    kept, ordered = kept[order], values[order]
    at = np.arange(len(values))
    for step in range(1, len(values)):
        at = at[: np.searchsorted(at, len(values) - step)]
        at = at[kept[at] == kept[at + step]]
        if len(at) == 0:
            return
        yield order[at], order[at + step], ordered[at] ^ ordered[at + step]
