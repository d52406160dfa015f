"""How shards are written and recognised again: each carries all that a later ingest needs to go on with it.

A shard is never changed once it has its name. Its rows hold the facts about their photos, its schema the
policy under which they were stored, so no file beside it can be lost or belong to another state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.ingest.preparation import PreparedPhoto
from catalog.photo_store import ShardInfo
from imaging.atomic_write import atomic_write
from imaging.limits import Limits
from imaging.storage import StoragePolicy

FORMAT = 1  # to raise with every change of what a shard holds, also of how photos are encoded or hashed
SCHEMA = pa.schema(  # the fields of PreparedPhoto
    [
        ("photo_id", pa.string()),
        ("photo", pa.large_binary()),
        ("crc32", pa.uint32()),
        ("sha256", pa.binary(32)),
        ("source_sha256", pa.binary(32)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("perceptual_hash", pa.uint64()),
    ]
)
SHARD_BYTES = 256 * 1024 * 1024
BATCH_ROWS = 1000
BATCH_BYTES = 64 * 1024 * 1024  # bounds the writer's memory when photos are large
SHARD_NAMES = "shard-[0-9][0-9][0-9][0-9][0-9].arrow"
_MARK = b"aisle.photo_store"


def make_mark(policy: StoragePolicy, limits: Limits) -> bytes:
    """What a shard's schema says about its making: equal marks, interchangeable photos."""
    made = {"format": FORMAT, "policy": policy.model_dump(mode="json"), "limits": asdict(limits)}
    return json.dumps(made, sort_keys=True).encode()


class ShardWriter:
    """Write photos into new shards of a folder, each under the lowest number that is free there.

    A shard ends with the photo that brings its photos to shard_bytes, and has its name from then on; after an
    error the unfinished one is gone. `on_shard` hears of each as it is finished.
    """

    def __init__(
        self,
        folder: Path,
        *,
        mark: bytes,
        shard_bytes: int = SHARD_BYTES,
        batch_rows: int = BATCH_ROWS,
        on_shard: Callable[[ShardInfo], None] | None = None,
    ) -> None:
        self.shards: list[ShardInfo] = []
        """The finished shards."""
        self._folder = folder
        self._schema = SCHEMA.with_metadata({_MARK: mark})
        self._shard_bytes = shard_bytes
        self._batch_rows = batch_rows
        self._on_shard = on_shard
        self._open = ExitStack()
        self._path = folder
        self._file: Any = None
        self._num_photos = self._num_bytes = self._pending = 0
        self._rows: list[PreparedPhoto] = []

    def add(self, row: PreparedPhoto) -> None:
        """Append one photo. Raises OSError where the disk is full."""
        self._rows.append(row)
        self._pending += len(row.photo)
        shard_full = self._num_bytes + self._pending >= self._shard_bytes
        if len(self._rows) >= self._batch_rows or self._pending >= BATCH_BYTES or shard_full:
            self._write_batch()
        if shard_full:
            self._end_shard()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            if self._rows:
                self._write_batch()
            if self._file is not None:
                self._end_shard()

    def _write_batch(self) -> None:
        if self._file is None:
            taken = {path.name for path in self._folder.glob(SHARD_NAMES)}
            self._path = self._folder / next(free_names(taken))
            file = self._open.enter_context(atomic_write(self._path))
            self._file = self._open.enter_context(pa.ipc.new_file(file, self._schema))
        columns = dict(zip(PreparedPhoto._fields, zip(*self._rows, strict=True), strict=True))
        arrays = [_make_array(field, columns[field.name]) for field in SCHEMA]
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._num_photos += len(self._rows)
        self._num_bytes += self._pending
        self._rows, self._pending = [], 0

    def _end_shard(self) -> None:
        self._open.close()
        shard = describe_shard(self._path, num_photos=self._num_photos)
        self._file, self._num_photos, self._num_bytes = None, 0, 0
        self.shards.append(shard)
        if self._on_shard is not None:
            self._on_shard(shard)


def _make_array(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """An Arrow array; that of the photos from one joined buffer, for Arrow's own way grows it by copying."""
    if field.type != pa.large_binary():
        return pa.array(values, field.type)
    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))]
    return pa.LargeBinaryArray.from_buffers(field.type, len(values), buffers)


def free_names(taken: Collection[str]) -> Iterator[str]:
    """Names of shards that are not taken, lowest number first."""
    names = (f"shard-{number:05d}.arrow" for number in range(100_000))
    return (name for name in names if name not in taken)


def describe_shard(path: Path, *, num_photos: int) -> ShardInfo:
    """The manifest's entry of a finished shard, whose whole file is read."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ShardInfo(name=path.name, num_photos=num_photos, num_bytes=path.stat().st_size, sha256=sha256)


def open_shard(path: Path) -> tuple[pa.Table, bytes | None]:
    """All columns of a shard over its memory map, and its mark. Raises pa.ArrowException where damaged."""
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    return table.replace_schema_metadata(), (table.schema.metadata or {}).get(_MARK)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A sound shard in a store's folder."""

    info: ShardInfo
    facts: pa.Table
    """The columns of its rows without the photos, of which only the size remains (num_bytes)."""

    def place(self, positions: npt.ArrayLike) -> PlacedShard:
        """Say where in the source each of its photos stands."""
        return PlacedShard(info=self.info, facts=self.facts, positions=np.array(positions, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class PlacedShard(Shard):
    """A shard of a store, with the place of each of its photos in the source."""

    positions: npt.NDArray[np.int64]
    """`[num_photos]`."""


def load_shard(folder: Path, info: ShardInfo) -> Shard:
    """Open a finished shard's facts over its memory map."""
    table, _ = open_shard(folder / info.name)
    sizes = pc.binary_length(table["photo"])
    return Shard(info=info, facts=table.drop_columns("photo").append_column("num_bytes", sizes))


def count_rows(path: Path) -> int:
    """The photos in a shard's file; 0 where it is damaged."""
    try:
        return int(open_shard(path)[0].num_rows)
    except (pa.ArrowException, OSError):
        return 0


def read_rows(path: Path, rows: Iterable[int]) -> Iterator[PreparedPhoto]:
    """Some rows of a shard, with their photos."""
    table, _ = open_shard(path)
    for row in rows:
        yield PreparedPhoto(**table.slice(row, 1).to_pylist()[0])
