"""A table with a contract: what a stage writes, every reader checks.

Written by one stage and read by another, perhaps months later and on another machine, a table whose columns
have changed would be misread in silence. So the file carries the table's name and format version, and `read`
compares these, the columns, their types and their nulls. A training job on a bare node reads its list here,
hence pyarrow only; polars takes an Arrow table as it is (`pl.DataFrame(LIST.read(path))`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imaging.atomic_write import atomic_write

_NAME, _VERSION = b"aisle.table", b"aisle.format_version"


class TableError(ValueError):
    """A file that is not the table that was expected; the message says what it is and what to run."""


class Rows(Protocol):
    """What can be written: a table of pyarrow or a frame of polars."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Hand out the rows by Arrow's C interface."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a contract."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    required: bool = True
    """false: a table without a format version may lack it, where such tables are read."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A contract. Meaning, location, writer and readers are for people: changed, they re-run no stage."""

    name: str
    """As sentences name it, behind "a" or "an"; the file carries it."""
    version: int
    """Raised when columns change so that a reader would misread the older file."""
    columns: tuple[Column, ...]
    remake: str
    """What to do about a file that is refused, as the end of a sentence."""
    unmarked: str = ""
    """Which files without name and version are read, and why; empty: none."""
    meaning: str
    location: str
    written_by: str
    read_by: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return [column.name for column in self.columns]

    @property
    def schema(self) -> pa.Schema:
        """The columns with name and version as metadata, for a file that is written in parts."""
        mark = {_NAME: self.name, _VERSION: str(self.version)}
        return pa.schema([(column.name, column.type) for column in self.columns], metadata=mark)

    def write(self, path: Path, rows: Rows) -> None:
        """Write a file that is there whole or not at all. Raises as `write_to`."""
        with atomic_write(path) as file:
            self.write_to(file, rows)

    def write_to(self, file: BinaryIO, rows: Rows) -> None:
        """Write rows, equal ones as equal bytes; TableError for other columns, types or nulls."""
        given = pa.table(rows)
        if set(given.column_names) != set(self.names):
            raise TableError(
                f"Expected the columns {self.names} of {_with_article(self.name)}, received "
                f"{given.column_names}: change its contract and its version, or what is written."
            )
        # In one chunk: otherwise pages, and so bytes, depend on how the rows were computed.
        table = self.conform(given.select(self.names).combine_chunks(), where="rows to be written")
        pq.write_table(table.replace_schema_metadata(self.schema.metadata), file, compression="zstd")

    def read(
        self, source: Path | BinaryIO, columns: Sequence[str] | None = None, *, where: str | None = None
    ) -> pa.Table:
        """Read some of the columns, or all, after checking the file against the contract.

        where: what messages call the file; its path by default. Columns that a table without a version may
        lack are absent where it does. FileNotFoundError where there is no file, TableError for another table.
        """
        where = where or str(source)
        with _open(source, where=where, tables=[self]) as file:
            found = file.schema_arrow
            self._check(found, where=where)
            wanted = [name for name in columns or self.names if name in found.names]
            table = file.read(columns=wanted).select(wanted)
        return self.conform(table, where=where)

    def _check(self, found: pa.Schema, *, where: str) -> None:
        """Raise TableError for a file of another name, version, columns or types."""
        mark, types = _mark_of(found), {field.name: field.type for field in found}
        if mark is None and self.unmarked:
            right = all(
                _kind(types.get(column.name)) == _kind(column.type)
                for column in self.columns
                if column.required or column.name in types
            )
        else:
            right = mark == (self.name, str(self.version)) and types == {c.name: c.type for c in self.columns}
        if not right:
            raise TableError(
                f"{where}: expected {_with_article(self.name)} with columns {self.names}, format version "
                f"{self.version}, received {self._differing(found, mark)}: {self.remake}."
            )

    def _differing(self, found: pa.Schema, mark: tuple[str, str] | None) -> str:
        if mark is None or mark[0] != self.name:
            return _described(found, mark)
        if mark[1] != str(self.version):
            return f"format version {mark[1]}"
        lacking = [name for name in self.names if name not in found.names]
        others = [
            f"{field.name} of type {field.type}"
            for field in found
            if field.name not in self.names or field.type != self.schema.field(field.name).type
        ]
        return "; ".join([f"no {name}" for name in lacking] + others)

    def conform(self, rows: Rows, *, where: str) -> pa.Table:
        """Some columns in the contract's types; TableError for other types or nulls."""
        table, columns = pa.table(rows), {column.name: column for column in self.columns}
        try:
            table = table.cast(pa.schema([(name, columns[name].type) for name in table.column_names]))
        except pa.ArrowException as error:
            raise TableError(
                f"{where}: expected {_with_article(self.name)} with columns of types "
                f"{[str(columns[name].type) for name in table.column_names]}, received "
                f"{[str(kind) for kind in table.schema.types]} ({error}): {self.remake}."
            ) from error
        for name in table.column_names:
            if table[name].null_count and not columns[name].nullable:
                row = pc.index(pc.is_null(table[name]), True).as_py()
                raise TableError(
                    f"{where}: expected {_with_article(self.name)} with {name!r} in every row, received "
                    f"{table[name].null_count:,} of {table.num_rows:,} without it, first row {row}: "
                    f"{self.remake}."
                )
        return table


def find_table(path: Path, *, among: Sequence[Table]) -> Table:
    """The one of several tables that a file says it is. Raises TableError for another."""
    with _open(path, where=str(path), tables=among) as file:
        found = file.schema_arrow
    mark = _mark_of(found)
    for table in among:
        if mark is not None and mark[0] == table.name:
            return table
    raise TableError(
        f"{path}: expected {_either(among)}, received {_described(found, mark)}: {among[0].remake}."
    )


def _open(source: Path | BinaryIO, *, where: str, tables: Sequence[Table]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected {where} to hold {_either(tables)}, found no file: {tables[0].remake}."
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"Expected {_either(tables)} as Parquet, received {where} ({error}): {tables[0].remake}."
        ) from error


def _mark_of(schema: pa.Schema) -> tuple[str, str] | None:
    """Name and version that a file carries."""
    metadata = schema.metadata or {}
    if _NAME not in metadata:
        return None
    return metadata[_NAME].decode(), metadata.get(_VERSION, b"?").decode()


def _described(found: pa.Schema, mark: tuple[str, str] | None) -> str:
    if mark is None:
        return f"a table with columns {found.names} and no format version"
    return _with_article(mark[0])


def _kind(type_: pa.DataType | None) -> str:
    """What a type means, whatever its width: a person's table may come from any library."""
    if type_ is None:
        return "absent"
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type)
    if pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return "number"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "text"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"list of {_kind(type_.value_type)}"
    return "bytes" if "binary" in str(type_) else str(type_)


def _either(tables: Sequence[Table]) -> str:
    return " or ".join(_with_article(table.name) for table in tables)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
