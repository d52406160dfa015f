"""CSV tables, read so that no row is lost: those read and those rejected are all that strict csv finds.

Faster readers take a stray quote for the start of a field and drop the rows up to the next one without a
word. Here a malformed row is rejected with its line numbers, and the rows after it are read on.
"""

from __future__ import annotations

import csv
import io
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from catalog.sources.folder import ASIDE
from imaging.config_errors import near_match

MALFORMED = "malformed_row"
_PART_ROWS = 50_000  # as Python strings at a time
_OTHER_FILES = (b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")  # zip (also .xlsx), gzip, .xls
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, kw_only=True)
class CsvRows:
    """The wanted columns of a CSV's rows, and the rows that could not be read."""

    rows: pl.DataFrame
    """The columns asked for, as text."""
    lines: pl.Series
    """The first line of each row in the file, from 1."""
    rejected: pl.DataFrame
    """ASIDE; the photo_id is the place, such as `t.csv, line 7`."""


@dataclass(kw_only=True)
class _Columns:
    """Columns under construction; full parts are packed, so that a million rows are not a million objects."""

    names: Sequence[str]
    values: list[list[str]]
    lines: array[int] = field(default_factory=lambda: array("q"))
    parts: list[pl.DataFrame] = field(default_factory=list)

    def pack(self) -> None:
        columns = dict(zip(self.names, self.values, strict=True))
        self.parts.append(pl.DataFrame(columns, schema=dict.fromkeys(self.names, pl.String)))
        self.values = [[] for _ in self.names]


def read_csv(content: bytes, *, columns: Sequence[str], separator: str, name: str) -> CsvRows:
    """Read some columns of a CSV in UTF-8, with or without byte order mark, with any line ends.

    Rejected are rows of more or fewer fields than the header's, rows that Python's strict csv refuses, rows
    whose quoted field holds a line that is itself a full row, and rows with bytes that are not UTF-8 or NUL
    in a wanted column. Raises ValueError where the file has no usable header or is of another kind.
    """
    _check_kind(content, name=name)
    lines: list[str] = []
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", "surrogateescape", newline="")
    with _any_field_size(len(content)):
        reader = csv.reader(_remember(text, lines), delimiter=separator, strict=True)
        header = _read_header(reader, name=name)
        wanted = [_find_column(column, header, name=name) for column in columns]
        lines.clear()
        return _read_body(reader, lines, wanted, columns=columns, num_fields=len(header), name=name,
                          separator=separator, suspect=not _is_clean(content))  # fmt: skip


def _read_body(
    reader: Any,
    lines: list[str],
    wanted: list[int],
    *,
    columns: Sequence[str],
    num_fields: int,
    name: str,
    separator: str,
    suspect: bool,
) -> CsvRows:
    read = _Columns(names=columns, values=[[] for _ in columns])
    rejected: list[tuple[str, str, str]] = []
    line = reader.line_num
    while True:
        problem, fields = None, list[str]()
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problem = _explain(error, num_lines=len(lines))
        first, line = line + 1, reader.line_num
        if problem is None and fields:
            problem = _judge(
                fields, lines, wanted, num_fields=num_fields, separator=separator, suspect=suspect
            )
        lines.clear()
        if problem is not None:
            place = f"{name}, line {first}" if first == line else f"{name}, lines {first} to {line}"
            rejected.append((place, MALFORMED, f"{place}: {problem}"))
        elif fields:  # an empty line is no row
            for values, position in zip(read.values, wanted, strict=True):
                values.append(fields[position])
            read.lines.append(first)
            if len(read.lines) % _PART_ROWS == 0:
                read.pack()
    read.pack()
    return CsvRows(
        rows=pl.concat(read.parts),
        lines=pl.Series("line", read.lines, dtype=pl.Int64),
        rejected=pl.DataFrame(rejected, schema=ASIDE, orient="row"),
    )


def _judge(
    fields: list[str],
    lines: list[str],
    wanted: list[int],
    *,
    num_fields: int,
    separator: str,
    suspect: bool,
) -> str | None:
    """What is wrong with a row that the csv module accepts, or None."""
    if len(fields) != num_fields:
        return (
            f"expected {num_fields} fields as in the header, received {len(fields)}: quote a field that "
            f"holds the separator {separator!r}, or correct the line."
        )
    if len(lines) > 1 and _swallows_a_row(lines, num_fields=num_fields, separator=separator):
        return (
            "expected one row, received a quoted field that holds a line which is itself a full row: close "
            'or double the quote (") in the first line.'
        )
    if suspect:
        for position in wanted:
            try:
                fields[position].encode()
            except UnicodeEncodeError:
                shown = (
                    fields[position].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
                )
                return f"expected UTF-8, received '{shown}': save the file as UTF-8."
            if "\0" in fields[position]:
                return f"expected text, received a NUL byte in {fields[position]!r}: remove it."
    return None


def _swallows_a_row(lines: list[str], *, num_fields: int, separator: str) -> bool:
    """Whether a line of a row of several lines has as many fields as a row when it is read by itself.

    The last line ends the quoted field. Where its quote follows a separator it looks like one that opens a
    field, so the line may be a row; elsewhere it closes honest text that happens to hold separators.
    """
    for number, line in enumerate(lines[1:], start=2):
        before = line.partition('"')[0]
        if number == len(lines) and before and not before.endswith(separator):
            continue
        alone = next(csv.reader([line.rstrip("\r\n")], delimiter=separator), [])
        if len(alone) == num_fields:
            return True
    return False


def _explain(error: csv.Error, *, num_lines: int) -> str:
    if "unexpected end" in str(error):
        return (
            f'a quote (") opens here and is still open at the end of the file, {num_lines} lines that cannot '
            "be told apart: close or double it."
        )
    return f'{error}: double a quote (") inside a quoted field, or correct the line.'


def _read_header(reader: Any, *, name: str) -> list[str]:
    try:
        return next((fields for fields in reader if fields), [])
    except csv.Error as error:
        raise ValueError(
            f"{name}, line {reader.line_num}: expected a header, received a malformed line ({error})."
        ) from error


def _find_column(column: str, header: list[str], *, name: str) -> int:
    """The position of a column by its name, if need be without spaces around it. Raises ValueError."""
    exact = [position for position, text in enumerate(header) if text == column]
    found = exact or [position for position, text in enumerate(header) if text.strip() == column.strip()]
    if len(found) > 1:
        raise ValueError(
            f"{name}: expected one column {column!r}, received {len(found)} of that name: rename the others."
        )
    if not found:
        raise ValueError(missing_column(column, tuple(header), name=name))
    return found[0]


def missing_column(column: str, names: tuple[str, ...], *, name: str) -> str:
    """The sentence for a column that a table lacks."""
    shown = ", ".join(text.encode("utf-8", "backslashreplace").decode() for text in names)
    one = f" If {names[0]!r} are several, set separator." if len(names) == 1 else ""
    return (
        f"{name}: expected a column {column!r}{near_match(column, names) or ', found none.'} "
        f"Its columns: {shown}.{one} The ..._column options name columns."
    )


def _check_kind(content: bytes, *, name: str) -> None:
    """Raises ValueError for what is no text in UTF-8 at first sight."""
    head = content[:200]
    if head.startswith(_UTF_16) or head.count(0) > len(head) // 4:
        raise ValueError(
            f"{name}: expected CSV in UTF-8 or Parquet, received UTF-16 or another kind of file: save it as "
            "UTF-8 (spreadsheets call it `CSV UTF-8`)."
        )
    if head.startswith(_OTHER_FILES):
        raise ValueError(
            f"{name}: expected CSV in UTF-8 or Parquet, received another kind of file (a spreadsheet or an "
            "archive): export it as CSV."
        )


def _is_clean(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def _remember(text: Iterator[str], lines: list[str]) -> Iterator[str]:
    """The lines as they are, each also in `lines` until the row that it belongs to is judged."""
    for line in text:
        lines.append(line)
        yield line


@contextmanager
def _any_field_size(size: int) -> Iterator[None]:
    """Long descriptions are no error; the csv module's limit of 131,072 characters is one for the process."""
    limit = csv.field_size_limit(max(size, csv.field_size_limit()))
    try:
        yield
    finally:
        csv.field_size_limit(limit)
