"""The photo store: millions of encoded photos in a few hundred files, any of them read in microseconds.

Refinement lists and class-balanced samplers jump around in the photos, DVC and object stores want few files:
Arrow IPC shards, memory-mapped, give both. store.json is the manifest: exactly the shards it lists are the
store. Disks and copies go wrong, and a wrong photo would be learnt from in silence, so every read compares a
checksum. A training job on a bare node imports this module, hence pyarrow and numpy only.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imaging.storage import StoragePolicy

STORE_FILE = "store.json"
PHOTOS_FILE = "photos.parquet"
QUARANTINE_FILE = "quarantine.parquet"
READ_SCHEMA = pa.schema(
    [
        ("photo_id", pa.string()),
        ("photo", pa.large_binary()),
        ("crc32", pa.uint32()),
        ("source_sha256", pa.binary(32)),
    ]
)
MEND = (
    "`dvc repro --force --single-item ingest` makes it anew from the source and keeps the shards that are "
    "sound; a store that was copied here is to be copied again."
)

# Offsets, bytes and CRC-32 of a record batch's photos, ten times faster to index than Arrow's scalars.
_View = tuple[memoryview, memoryview, memoryview]


class DamagedShardError(ValueError):
    """A shard that is not what ingest wrote: the message names it, and what to do."""


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """What the manifest says about a shard."""

    name: str
    num_photos: int
    num_bytes: int
    """Size of the file."""
    sha256: str
    """Of the file, in hexadecimal digits."""


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What store.json says: the shards, how photos were stored, which classes the source knows."""

    layout: str
    policy: StoragePolicy
    class_names: list[str]
    coarse_of: dict[str, str]
    num_photos: int
    shards: list[ShardInfo]


class PhotoStore:
    """Read the photos of a store folder by row; safe to pickle, every worker opens the shards itself.

    Rows follow the shards, photos.parquet follows the source: `rows_of` leads from photo ids to rows. Opening
    raises FileNotFoundError where ingest has not finished, DamagedShardError for a shard that is missing,
    truncated or no longer an Arrow file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._open()

    def __len__(self) -> int:
        return self._num_rows

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open()

    @property
    def photo_ids(self) -> pa.ChunkedArray:
        """The photo ids in row order."""
        return self._photo_ids

    @property
    def num_bytes(self) -> int:
        """Size of all shards in bytes."""
        return sum(shard.num_bytes for shard in self._shards)

    def source_sha256(self, rows: npt.NDArray[np.int64]) -> pa.Array:
        """SHA-256 of the source's original bytes of the photos in rows `[N]`: what each photo is."""
        found = self._source_sha256.take(pa.array(rows)).cast(pa.binary())
        return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found

    def rows_of(
        self,
        photo_ids: Sequence[str] | pa.Array | pa.ChunkedArray,
        *,
        source_sha256: Sequence[bytes] | pa.Array | pa.ChunkedArray | None = None,
    ) -> npt.NDArray[np.int64]:
        """Rows `[N]` of the given photos.

        source_sha256: of the photos that these names meant when the list was made `[N]`. Raises ValueError
        with the number of ids that the store lacks, or has with another content.
        """
        if not isinstance(photo_ids, pa.Array | pa.ChunkedArray):
            photo_ids = pa.array(photo_ids, pa.string())
        rows = pc.index_in(photo_ids.cast(pa.string()), value_set=self._photo_ids)
        if rows.null_count:
            lacking = photo_ids.filter(pc.is_null(rows))
            first = ", ".join(repr(photo_id) for photo_id in lacking[:5].to_pylist())
            raise ValueError(
                f"Expected photos of the store {self.path.name} ({len(self)} photos), received "
                f"{len(lacking)} photo ids that it lacks, first {first}. Make the list again from this "
                "store's splits, or ingest the photos (quarantine.parquet says which were refused and why)."
            )
        found = np.asarray(rows.to_numpy(), dtype=np.int64)
        if source_sha256 is not None:
            self._require_content(found, photo_ids=photo_ids, source_sha256=source_sha256)
        return found

    def read(self, row: int) -> bytes:
        """The stored bytes of the photo in a row, just as ingest wrote them.

        Raises IndexError outside 0..len-1, DamagedShardError where the bytes have changed since.
        """
        if not 0 <= row < self._num_rows:
            raise IndexError(f"Expected a row of 0..{self._num_rows - 1}, received {row}.")
        batch = bisect_right(self._first_rows, row) - 1
        offsets, data, checksums = self._batches[batch]
        place = row - self._first_rows[batch]
        photo = bytes(data[offsets[place] : offsets[place + 1]])
        if crc32(photo) != checksums[place]:
            raise self._damaged(row)
        return photo

    def verify(self, *, progress: Callable[[int], object] | None = None) -> None:
        """Compare the SHA-256 of every shard with store.json; DamagedShardError names all that differ.

        `progress` is called with the size of each shard, in bytes, when it has been read.
        """
        damages = []
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
            found = pool.map(lambda shard: damage_of(self.path, shard), self._shards)
            for shard, damage in zip(self._shards, found, strict=True):
                damages += [damage] if damage else []
                if progress is not None:
                    progress(shard.num_bytes)
        if damages:
            raise DamagedShardError(f"{self.path}: {'; '.join(damages)}. {MEND}")

    def _open(self) -> None:
        self._shards = load_store_info(self.path).shards
        damages = [damage for shard in self._shards if (damage := size_damage_of(self.path, shard))]
        if damages:
            raise DamagedShardError(f"{self.path}: {'; '.join(damages)}. {MEND}")
        # The views below point into memory maps: nothing is read before a photo is asked for.
        opened = [_open_shard(self.path, shard) for shard in self._shards]
        tables = [table for table, _ in opened]
        self._photo_ids, self._source_sha256 = (
            pa.chunked_array(
                [chunk for table in tables for chunk in table[name].chunks], READ_SCHEMA.field(name).type
            )
            for name in ("photo_id", "source_sha256")
        )
        self._batches = [view for _, views in opened for view in views]
        self._first_rows: list[int] = []
        self._num_rows = 0
        for _, _, checksums in self._batches:
            self._first_rows.append(self._num_rows)
            self._num_rows += len(checksums)

    def _require_content(
        self,
        rows: npt.NDArray[np.int64],
        *,
        photo_ids: pa.Array | pa.ChunkedArray,
        source_sha256: Sequence[bytes] | pa.Array | pa.ChunkedArray,
    ) -> None:
        if not isinstance(source_sha256, pa.Array | pa.ChunkedArray):
            source_sha256 = pa.array(source_sha256, pa.binary())
        same = pc.equal(self.source_sha256(rows), source_sha256.cast(pa.binary()))
        changed = photo_ids.filter(pc.invert(pc.fill_null(same, False)))
        if len(changed):
            first = ", ".join(repr(photo_id) for photo_id in changed[:5].to_pylist())
            raise ValueError(
                f"Expected the photos that were meant in the store {self.path.name}, received other content "
                f"under the same names for {len(changed)} of {len(rows)}, first {first}: they changed since. "
                "Run `dvc repro`; make a list of your own again."
            )

    def _damaged(self, row: int) -> DamagedShardError:
        ends = np.cumsum([shard.num_photos for shard in self._shards])
        shard = self._shards[int(np.searchsorted(ends, row, side="right"))]
        return DamagedShardError(
            f"{self.path / shard.name} is damaged: the photo {self._photo_ids[row].as_py()!r} is not the one "
            f"that ingest wrote (its CRC-32 differs). {MEND}"
        )


def _open_shard(folder: Path, shard: ShardInfo) -> tuple[pa.Table, list[_View]]:
    """The columns of a shard, and the views of its record batches, over its memory map."""
    try:
        table = pa.ipc.open_file(pa.memory_map(str(folder / shard.name))).read_all()
        table = table.select(READ_SCHEMA.names)
        table.validate()
        table["photo_id"].validate(full=True)  # a wrong offset in it would crash instead of raising
        if table.schema.types != READ_SCHEMA.types or table.num_rows != shard.num_photos:
            raise ValueError(
                f"{table.num_rows} rows of {', '.join(map(str, table.schema.types))}; expected "
                f"{shard.num_photos} of {', '.join(map(str, READ_SCHEMA.types))}"
            )
        return table.select(["photo_id", "source_sha256"]), list(_views(table))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, MemoryError) as error:
        words = " ".join(str(error).split())[:200]
        raise DamagedShardError(f"{folder / shard.name} is damaged ({words}). {MEND}") from error


def _views(table: pa.Table) -> Iterator[_View]:
    for photos, checksums in zip(table["photo"].chunks, table["crc32"].chunks, strict=True):
        _, offsets, data = photos.buffers()
        _, sums = checksums.buffers()
        starts = memoryview(offsets).cast("B").cast("q")[photos.offset : photos.offset + len(photos) + 1]
        ours = memoryview(sums).cast("B").cast("I")[checksums.offset : checksums.offset + len(checksums)]
        yield starts, memoryview(data if data is not None else b""), ours


def damage_of(folder: Path, shard: ShardInfo) -> str | None:
    """What is wrong with a shard's file, compared with the manifest, in words; None where nothing is."""
    damage = size_damage_of(folder, shard)
    if damage is None:
        with (folder / shard.name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                damage = f"{shard.name} is damaged: its SHA-256 is not the one in {STORE_FILE}"
    return damage


def size_damage_of(folder: Path, shard: ShardInfo) -> str | None:
    """damage_of without reading: a missing file, or one of another size."""
    try:
        num_bytes = (folder / shard.name).stat().st_size
    except FileNotFoundError:
        return f"{shard.name} is missing"
    if num_bytes != shard.num_bytes:
        return f"{shard.name} is damaged: it has {num_bytes:,} bytes, {STORE_FILE} says {shard.num_bytes:,}"
    return None


def store_text(info: StoreInfo) -> str:
    """The content of store.json: the same source gives the same text, no time, host or path in it."""
    values = {**asdict(info), "policy": info.policy.model_dump(mode="json")}
    return json.dumps(values, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def load_store_info(folder: Path) -> StoreInfo:
    """Read store.json of a store folder. Raises FileNotFoundError where ingest has not finished."""
    path = folder / STORE_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"Expected a photo store with {STORE_FILE} in {folder}, found none: ingest has not finished "
            "there. Run it again (`dvc repro ingest`), it goes on where it stopped."
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        shards = [ShardInfo(**shard) for shard in fields["shards"]]
        return StoreInfo(**{**fields, "policy": StoragePolicy(**fields["policy"]), "shards": shards})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected {path} as this version of Aisle writes it, received another content "
            f"({type(error).__name__}: {error}). Run ingest again: it makes the store anew."
        ) from error
