"""Cheap marks by which a later ingest sees that a file has not changed, without reading it.

They name times and sizes of one machine's files, so they lie outside the store, whose bytes are the same
everywhere: one small table a shard, named by the shard's SHA-256. Without them contents are compared.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import xxhash

from catalog.photo_store import ShardInfo
from imaging.atomic_write import atomic_write


def digest_stamp(stamp: str | None) -> int | None:
    """64 bits of a source's stamp: a chance of 1 in 10^19 to take a changed photo for an unchanged one."""
    return None if stamp is None else xxhash.xxh3_64_intdigest(stamp.encode())


class Stamps:
    """The stamps of each shard's photos in a folder; None: none are kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, shard: ShardInfo) -> pl.Series:
        """UInt64 stamps in the order of the shard's rows, null where unknown."""
        unknown = pl.Series("stamp", [None], dtype=pl.UInt64).new_from_index(0, shard.num_photos)
        path = self._path(shard)
        if path is None or not path.exists():
            return unknown
        try:
            stamps = pl.read_parquet(path)["stamp"]
        except (pl.exceptions.PolarsError, OSError):
            return unknown  # it saves time and is made again
        return stamps if len(stamps) == shard.num_photos and stamps.dtype == pl.UInt64 else unknown

    def save(self, shard: ShardInfo, stamps: pl.Series) -> None:
        """Keep the stamps of a shard's rows, in their order."""
        path = self._path(shard)
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            stamps.rename("stamp").to_frame().write_parquet(file)

    def keep_only(self, shards: list[ShardInfo]) -> None:
        """Remove the stamps of all other shards."""
        if self._folder is None or not self._folder.exists():
            return
        wanted = {self._path(shard) for shard in shards}
        for path in self._folder.iterdir():
            if path not in wanted:
                path.unlink()

    def _path(self, shard: ShardInfo) -> Path | None:
        return None if self._folder is None else self._folder / f"{shard.sha256}.parquet"
