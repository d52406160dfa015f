"""Tables of millions of rows in which one is found without reading the file, and whose older files are read.

Such a table lies with a registered version for years and is asked for single photos. It is sorted by its key
in row groups, whose statistics say from where to where each goes; older files are in another order, and there
every row group that may hold the value is read. A module of its own, so that it is no reason to train again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.table import Rows, Table, TableError

ROW_GROUP = 16_384
"""Rows of a row group: half a megabyte of hashes is read to find one."""


@dataclass(frozen=True, kw_only=True)
class KeyedTable(Table):
    """A contract whose rows are sorted by `key`, nulls last, in row groups of ROW_GROUP."""

    key: str
    since: dict[str, int] = field(default_factory=dict)
    """The format version that brought a column which version 1 lacks; files of all versions are read."""

    def write_to(self, file: BinaryIO, rows: Rows) -> None:
        """Sort rows by the key, equal keys as they come, and write them. Raises as Table's."""
        given = pa.table(rows)
        if set(given.column_names) != set(self.names):
            raise TableError(
                f"Expected the columns {self.names} of a {self.name}, received {given.column_names}: change "
                "its contract and its version, or what is written."
            )
        table = self.conform(given.select(self.names).combine_chunks(), where="rows to be written")
        order = pc.sort_indices(table, sort_keys=[(self.key, "ascending")])
        leaves = {
            f"{column.name}.list.element" if pa.types.is_list(column.type) else column.name: column.name
            for column in self.columns
        }
        pq.write_table(
            table.take(order).combine_chunks().replace_schema_metadata(self.schema.metadata),
            file,
            row_group_size=ROW_GROUP,
            # Hashes neither repeat nor compress, and names do not repeat: without a dictionary the file is
            # smaller, and a row group is read in half the time.
            use_dictionary=[leaf for leaf, name in leaves.items() if leaf != name],
            compression={leaf: "none" if name == self.key else "zstd" for leaf, name in leaves.items()},
        )

    def lookup(self, path: Path) -> Lookup:
        """Open a file for finding rows, as a context manager. Raises as `read`, but for nulls."""
        try:
            file = pq.ParquetFile(path, memory_map=True)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"Expected {path} to hold a {self.name}, found no file.") from error
        except (OSError, pa.ArrowException) as error:
            raise TableError(
                f"Expected a {self.name} as Parquet, received {path} ({error}): {self.remake}."
            ) from error
        self._check(file.schema_arrow, where=str(path))
        return Lookup(self, file, str(path))

    def _check(self, found: pa.Schema, *, where: str) -> None:
        """Raise TableError for a file of another name, version, columns or types; an older one is known."""
        version = self._version_of(found)
        if version is None or version == self.version:
            super()._check(found, where=where)
        else:
            self._as_of(version)._check(found, where=where)

    def _as_of(self, version: int) -> KeyedTable:
        """The contract of an older format version."""
        columns = tuple(column for column in self.columns if self.since.get(column.name, 1) <= version)
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return KeyedTable(**{**values, "version": version, "columns": columns})

    def _version_of(self, found: pa.Schema) -> int | None:
        """The format version that a file says, None where it says none of this table that is known."""
        for version in range(1, self.version + 1):
            mark = {b"aisle.table": self.name.encode(), b"aisle.format_version": str(version).encode()}
            if mark.items() <= (found.metadata or {}).items():
                return version
        return None

    def is_sorted(self, found: pa.Schema) -> bool:
        """Whether a file was written in the key's order: in the present format version."""
        return self._version_of(found) == self.version


@dataclass(frozen=True)
class Lookup:
    """An open file of a keyed table, made by its `lookup`."""

    table: KeyedTable
    file: pq.ParquetFile
    where: str

    @property
    def num_rows(self) -> int:
        """The rows of the file."""
        return int(self.file.metadata.num_rows)

    @cached_property
    def names(self) -> list[str]:
        """The columns that the file has; an older one may lack some."""
        found = set(self.file.schema_arrow.names)
        return [name for name in self.table.names if name in found]

    @cached_property
    def num_without_key(self) -> int:
        """The rows whose key is null; all of a file that lacks the column."""
        if self._column is None:
            return self.num_rows
        count = 0
        for group in reversed(self._groups):
            nulls = self._num_nulls(group)
            if nulls == 0 and self._is_sorted:
                break
            count += nulls
        return count

    def find(self, value: bytes, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows whose key is `value`: some of the columns that the file has, or all."""
        names = [name for name in columns or self.names if name in self.names]
        found = []
        for group in self._groups_of(value):
            keys = self._raw(group, [self.table.key])[self.table.key]
            # pyarrow's indices_nonzero ends the process where there is no chunk at all, as in an empty file.
            rows = np.flatnonzero(pc.fill_null(pc.equal(keys, pa.scalar(value, keys.type)), False))
            if len(rows):
                found.append(self._read(group, names).take(rows))
        return self._together(found, names)

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Rows by their place in the file `[N]`, ascending, out of the row groups that hold them."""
        ends = np.cumsum([self.file.metadata.row_group(group).num_rows for group in self._groups])
        groups = np.searchsorted(ends, rows, side="right")
        found = [
            self._read(int(group), self.names).take(
                pa.array(rows[groups == group] - (ends[group - 1] if group else 0))
            )
            for group in np.unique(groups)
        ]
        return self._together(found, self.names)

    def without_key(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of the rows whose key is null."""
        if self._column is None:
            return self.table.conform(self.file.read(columns=list(columns)), where=self.where)
        found = []
        for group in self._groups:
            if self._num_nulls(group):
                rows = self._read(group, [*columns, self.table.key])
                found.append(rows.filter(pc.is_null(rows[self.table.key])).select(list(columns)))
        return self._together(found, columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        return self.table.conform(self.file.read(columns=[name]), where=self.where)[name]

    def __enter__(self) -> Lookup:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @property
    def _groups(self) -> range:
        return range(self.file.metadata.num_row_groups)

    @cached_property
    def _is_sorted(self) -> bool:
        return self.table.is_sorted(self.file.schema_arrow)

    @cached_property
    def _column(self) -> int | None:
        """The key's place among Parquet's columns, None where the file lacks it."""
        paths = [self.file.schema.column(place).path for place in range(len(self.file.schema))]
        return paths.index(self.table.key) if self.table.key in paths else None

    def _groups_of(self, value: bytes) -> list[int]:
        """The row groups that may hold a value; of a sorted file by bisection, since each look costs."""
        if self._column is None:
            return []
        if not self._is_sorted:
            return [group for group in self._groups if self._may_hold(group, value)]
        first = last = bisect_left(self._groups, value, key=self._last_of)
        while last < len(self._groups) and self._may_hold(last, value):
            last += 1
        return list(self._groups[first:last])

    def _last_of(self, group: int) -> bytes:
        """The largest key of a row group; of one of nulls, which comes last, more than any."""
        statistics = self._statistics(group)
        return statistics.max if statistics is not None and statistics.has_min_max else b"\xff" * 33

    def _may_hold(self, group: int, value: bytes) -> bool:
        statistics = self._statistics(group)
        if statistics is None or not statistics.has_min_max:
            return True
        return bool(statistics.min <= value <= statistics.max)

    def _num_nulls(self, group: int) -> int:
        statistics = self._statistics(group)
        if statistics is not None and statistics.has_null_count:
            return int(statistics.null_count)
        return int(self._read(group, [self.table.key])[self.table.key].null_count)

    def _statistics(self, group: int) -> pq.Statistics | None:
        column = self.file.metadata.row_group(group).column(self._column)
        return column.statistics if column.is_stats_set else None

    def _read(self, group: int, columns: Sequence[str]) -> pa.Table:
        return self.table.conform(self._raw(group, columns), where=self.where)

    def _raw(self, group: int, columns: Sequence[str]) -> pa.Table:
        # Without threads: starting them for one row group costs more than reading it.
        return self.file.read_row_group(group, columns=list(columns), use_threads=False)

    def _together(self, parts: list[pa.Table], names: Sequence[str]) -> pa.Table:
        if len(parts) == 1:
            return parts[0].select(list(names))
        nothing = self.table.schema.empty_table().select(list(names)).replace_schema_metadata(None)
        return pa.concat_tables([nothing, *parts])
