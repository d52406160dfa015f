"""One row found in a table of millions without reading it.

A table with a key is sorted by it in row groups, whose statistics say from where to where each goes. Older files of
the same table are in another order: there every row group that may hold the value is read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.table import Table


@dataclass(frozen=True)
class Lookup:
    """An open file of a table with a key; use `open_lookup`."""

    table: Table
    file: pq.ParquetFile
    where: str

    @property
    def names(self) -> list[str]:
        """The columns that the file has; an older one may lack some."""
        return [name for name in self.table.names if name in self.file.schema_arrow.names]

    @cached_property
    def num_without_key(self) -> int:
        """The rows whose key is null; all of a file that lacks the column."""
        if self._column is None:
            return int(self.file.metadata.num_rows)
        count = 0
        for group in reversed(range(self.file.metadata.num_row_groups)):
            statistics = self._statistics(group)
            if statistics is None or not statistics.has_null_count:
                count += self._read(group, [self.table.key])[self.table.key].null_count
                continue
            if statistics.null_count == 0 and self._is_sorted:  # nulls are last
                break
            count += statistics.null_count
        return count

    def find(self, value: bytes) -> pa.Table:
        """The rows whose key is `value`, with the columns that the file has, in the contract's types."""
        found = []
        for group in self._groups_of(value):
            keys = self._read(group, [self.table.key])[self.table.key]
            rows = np.flatnonzero(pc.equal(keys, pa.scalar(value, keys.type)).fill_null(False).to_numpy())
            if len(rows):
                found.append(self._read(group, self.names).take(pa.array(rows)))
        return pa.concat_tables(found) if found else self._nothing()

    def take(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Rows by their place in the file, in its order, out of the row groups that hold them."""
        ends = np.cumsum(
            [self.file.metadata.row_group(g).num_rows for g in range(self.file.metadata.num_row_groups)]
        )
        groups = np.searchsorted(ends, rows, side="right")
        found = [
            self._read(int(group), self.names).take(
                pa.array(rows[groups == group] - (ends[group - 1] if group else 0))
            )
            for group in np.unique(groups)
        ]
        return pa.concat_tables(found) if found else self._nothing()

    def without_key(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of the rows whose key is null."""
        if self._column is None:
            return self.table.conform(self.file.read(columns=list(columns)), where=self.where)
        found = []
        for group in range(self.file.metadata.num_row_groups):
            statistics = self._statistics(group)
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                rows = self._read(group, [*columns, self.table.key])
                found.append(rows.filter(pc.is_null(rows[self.table.key])).select(list(columns)))
        return pa.concat_tables(found) if found else self._nothing().select(list(columns))

    def column(self, name: str) -> pa.ChunkedArray:
        """One whole column."""
        return self.table.conform(self.file.read(columns=[name]), where=self.where)[name]

    def __enter__(self) -> Lookup:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    @cached_property
    def _is_sorted(self) -> bool:
        return self.table.is_current(self.file.schema_arrow)

    @cached_property
    def _column(self) -> int | None:
        """The key's place among Parquet's columns, None where the file lacks it."""
        paths = [self.file.schema.column(i).path for i in range(len(self.file.schema))]
        return paths.index(self.table.key) if self.table.key in paths else None

    def _groups_of(self, value: bytes) -> list[int]:
        """The row groups that may hold a value; of a sorted file by bisection, since each costs a look."""
        if self._column is None:
            return []
        groups = range(self.file.metadata.num_row_groups)
        if not self._is_sorted:
            return [group for group in groups if self._may_hold(group, value)]
        first = bisect_left(groups, value, key=self._last_of)
        last = first
        while last < len(groups) and self._may_hold(last, value):
            last += 1
        return list(groups[first:last])

    def _last_of(self, group: int) -> bytes:
        """The largest key of a row group; past all others where there are only nulls."""
        statistics = self._statistics(group)
        return bytes(statistics.max) if statistics is not None and statistics.has_min_max else b"\xff" * 33

    def _may_hold(self, group: int, value: bytes) -> bool:
        statistics = self._statistics(group)
        if statistics is None or not statistics.has_min_max:
            return statistics is None or statistics.num_values > 0
        return bool(statistics.min <= value <= statistics.max)

    def _statistics(self, group: int) -> pq.Statistics | None:
        column = self.file.metadata.row_group(group).column(self._column)
        return column.statistics if column.is_stats_set else None

    def _read(self, group: int, columns: Sequence[str]) -> pa.Table:
        return self.table.conform(self.file.read_row_group(group, columns=list(columns)), where=self.where)

    def _nothing(self) -> pa.Table:
        return self.table.schema.empty_table().select(self.names).replace_schema_metadata(None)


def open_lookup(table: Table, path: Path) -> Lookup:
    """Open a file of a table with a key, in any order. Raises as `Table.read`."""
    assert table.key
    return Lookup(table, table.open(path), str(path))
