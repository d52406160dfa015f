"""The photo store: millions of encoded photos in a few hundred files, any of them read in microseconds.

Refinement lists and class-balanced samplers jump around in the photos, DVC and object stores want few files:
Arrow IPC shards, memory-mapped, give both. A training job on a bare node imports this module, hence pyarrow
and numpy only.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imaging.storage import StoragePolicy

SCHEMA = pa.schema([("photo_id", pa.string()), ("photo", pa.large_binary())])
SHARD_BYTES = 256 * 1024 * 1024
BATCH_ROWS = 1000
BATCH_BYTES = 64 * 1024 * 1024  # bounds the writer's memory when photos are large
STORE_FILE = "store.json"
PHOTOS_FILE = "photos.parquet"
QUARANTINE_FILE = "quarantine.parquet"


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What store.json says about a store: how photos were stored, and which classes its source knows."""

    layout: str
    policy: StoragePolicy
    class_names: list[str]
    coarse_of: dict[str, str]
    num_photos: int


class ShardWriter:
    """Write photos into shard-00000.arrow, shard-00001.arrow, ... of a folder, in the order of `add`."""

    def __init__(self, folder: Path, *, shard_bytes: int = SHARD_BYTES, batch_rows: int = BATCH_ROWS) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._batch_rows = batch_rows
        self._num_shards = 0
        self._file: Any = None
        self._written = 0
        self._ids: list[str] = []
        self._photos: list[bytes] = []
        self._pending = 0

    def add(self, photo_id: str, photo: bytes) -> None:
        """Append one photo; it is on disk after the batch is full, or after close."""
        self._ids.append(photo_id)
        self._photos.append(photo)
        self._pending += len(photo)
        shard_full = self._written + self._pending >= self._shard_bytes
        if len(self._ids) >= self._batch_rows or self._pending >= BATCH_BYTES or shard_full:
            self._flush()
        if self._written >= self._shard_bytes:
            self._end_shard()

    def close(self) -> None:
        """Write what is pending and end the last shard; a store without photos has one empty shard."""
        if self._ids or self._num_shards == 0:
            self._flush()
        self._end_shard()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _flush(self) -> None:
        if self._file is None:
            path = self._folder / f"shard-{self._num_shards:05d}.arrow"
            self._file = pa.ipc.new_file(str(path), SCHEMA)
            self._num_shards += 1
        columns = [pa.array(self._ids, pa.string()), pa.array(self._photos, pa.large_binary())]
        self._file.write_batch(pa.record_batch(columns, schema=SCHEMA))
        self._written += self._pending
        self._ids, self._photos, self._pending = [], [], 0

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._written = None, 0


class PhotoStore:
    """Read the photos of a store folder by row; safe to pickle, every worker opens the shards itself."""

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

    def rows_of(self, photo_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
        """Rows `[N]` of the given photos. Raises ValueError with the number of ids that the store lacks."""
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
        return np.asarray(rows.to_numpy(), dtype=np.int64)

    def read(self, row: int) -> bytes:
        """The stored bytes of the photo in a row. Raises IndexError outside 0..len-1."""
        if not 0 <= row < self._num_rows:
            raise IndexError(f"Expected a row of 0..{self._num_rows - 1}, received {row}.")
        batch = bisect_right(self._first_rows, row) - 1
        offsets, data = self._batches[batch]
        place = row - self._first_rows[batch]
        return bytes(data[offsets[place] : offsets[place + 1]])

    def _open(self) -> None:
        shards = sorted(self.path.glob("shard-*.arrow"))
        if not shards:
            raise FileNotFoundError(
                f"Expected a photo store in {self.path}, found no shard-*.arrow there: run the ingest stage."
            )
        # The views below point into memory maps: nothing is read before a photo is asked for.
        tables = [pa.ipc.open_file(pa.memory_map(str(shard))).read_all() for shard in shards]
        self._photo_ids = pa.chunked_array(
            [chunk for table in tables for chunk in table["photo_id"].chunks], pa.string()
        )
        self._batches = [view for table in tables for view in _views(table["photo"])]
        self._first_rows: list[int] = []
        self._num_rows = 0
        for offsets, _ in self._batches:
            self._first_rows.append(self._num_rows)
            self._num_rows += len(offsets) - 1


def _views(column: pa.ChunkedArray) -> Iterator[tuple[memoryview, memoryview]]:
    """Offsets (int64) and bytes of each record batch, ten times faster to index than Arrow's scalars."""
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        starts = memoryview(offsets).cast("B").cast("q")[chunk.offset : chunk.offset + len(chunk) + 1]
        yield starts, memoryview(data if data is not None else b"")


def save_store_info(folder: Path, info: StoreInfo) -> None:
    """Write store.json: the same source gives the same bytes, no time, host or path in it."""
    text = json.dumps(asdict(info), indent=1, ensure_ascii=False, sort_keys=True)
    (folder / STORE_FILE).write_text(text + "\n", encoding="utf-8")


def load_store_info(folder: Path) -> StoreInfo:
    """Read store.json of a store folder. Raises FileNotFoundError where ingest has not finished."""
    path = folder / STORE_FILE
    if not path.exists():
        raise FileNotFoundError(f"Expected {path}, found none: run the ingest stage.")
    fields = json.loads(path.read_text(encoding="utf-8"))
    return StoreInfo(**{**fields, "policy": StoragePolicy(**fields["policy"])})
