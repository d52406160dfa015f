"""Every table's contract on real files: what is written is read back, and anything else is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.table_docs import DOCUMENT, TABLES, make_document
from contracts.lists import LIST
from contracts.photos import PHOTOS
from contracts.splits import TRUTH
from contracts.table import Table, TableError, find_table

ROOT = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
VALUES = {"int": 3, "uint": 3, "string": "a", "float": 0.5, "fixed_size_binary": bytes(32)}


def value_of(type_: pa.DataType) -> Any:
    if pa.types.is_list(type_):
        return [value_of(type_.value_type)]
    return VALUES[re.match("[a-z_]*", str(type_)).group().removeprefix("large_")]


def rows_of(table: Table) -> pa.Table:
    """Two rows, of which the second has every null that is allowed."""
    columns = {
        column.name: pa.array(
            [value := value_of(column.type), None if column.nullable else value], column.type
        )
        for column in table.columns
    }
    return pa.table(columns)


def write(path: Path, rows: pa.Table, *, table: Table, version: int | None = None) -> None:
    """A file that says it is a table, whatever its columns are."""
    mark = {"aisle.table": table.name, "aisle.format_version": str(version or table.version)}
    pq.write_table(rows.replace_schema_metadata(mark), path)


def refusal(table: Table, path: Path) -> str:
    with pytest.raises(TableError) as refused:
        table.read(path)
    sentence = str(refused.value)
    assert re.search(rf"{path}: expected an? {table.name} with .*, received .*: ", sentence)
    assert sentence.endswith(f"{table.remake}.")
    return sentence


@EVERY
def test_a_table_survives_its_file(table: Table, tmp_path: Path) -> None:
    rows = rows_of(table)
    table.write(tmp_path / "x", rows)
    assert table.read(tmp_path / "x").equals(rows)
    assert table.read(tmp_path / "x", table.names[1:]).equals(rows.select(table.names[1:]))


@EVERY
def test_a_frame_of_polars_makes_the_same_file(table: Table, tmp_path: Path) -> None:
    frame = pl.DataFrame(rows_of(table))
    table.write(tmp_path / "arrow", rows_of(table))
    table.write(tmp_path / "polars", pl.concat([frame[:1], frame[1:]], rechunk=False))
    assert (tmp_path / "polars").read_bytes() == (tmp_path / "arrow").read_bytes()
    assert pl.DataFrame(table.read(tmp_path / "polars")).equals(frame)


@EVERY
def test_a_wrong_type_is_refused(table: Table, tmp_path: Path) -> None:
    for number, name in enumerate(table.names):
        wrong = rows_of(table).set_column(number, name, pa.array([True, False]))
        write(tmp_path / "x", wrong, table=table)
        assert f"received {name} of type bool" in refusal(table, tmp_path / "x")


@EVERY
def test_a_missing_column_and_one_too_many_are_refused(table: Table, tmp_path: Path) -> None:
    for name in table.names:
        write(tmp_path / "x", rows_of(table).drop_columns([name]), table=table)
        assert f"received no {name}: " in refusal(table, tmp_path / "x")
    write(tmp_path / "x", rows_of(table).append_column("more", pa.array([1, 2])), table=table)
    assert "received more of type int64: " in refusal(table, tmp_path / "x")


@EVERY
def test_another_version_and_another_table_are_refused(table: Table, tmp_path: Path) -> None:
    write(tmp_path / "x", rows_of(table), table=table, version=table.version + 1)
    assert f"received format version {table.version + 1}: " in refusal(table, tmp_path / "x")
    other = TABLES[TABLES.index(table) - 1]
    other.write(tmp_path / "x", rows_of(other))
    assert re.search(rf"received an? {other.name}: ", refusal(table, tmp_path / "x"))


@EVERY
def test_a_null_where_none_is_allowed_is_neither_read_nor_written(table: Table, tmp_path: Path) -> None:
    for number, column in enumerate(table.columns):
        rows = rows_of(table)
        nulls = rows.set_column(number, column.name, pa.array([rows[number][0].as_py(), None], column.type))
        write(tmp_path / "x", nulls, table=table)
        if column.nullable:
            assert table.read(tmp_path / "x").equals(nulls)
            continue
        received = f"'{column.name}' in every row, received 1 of 2 without it, first row 1: "
        assert received in refusal(table, tmp_path / "x")
        with pytest.raises(TableError, match="in every row, received 1 of 2"):
            table.write(tmp_path / "y", nulls)
        assert not (tmp_path / "y").exists()


@EVERY
def test_a_table_without_a_version_is_read_only_where_the_contract_says_so(
    table: Table, tmp_path: Path
) -> None:
    pq.write_table(rows_of(table), tmp_path / "x")
    if table.unmarked:
        assert table.read(tmp_path / "x").equals(rows_of(table))
        required = [column.name for column in table.columns if column.required]
        pq.write_table(rows_of(table).select(required), tmp_path / "x")
        assert table.read(tmp_path / "x").column_names == required
        pq.write_table(rows_of(table).select(required[1:]), tmp_path / "x")
    assert "and no format version: " in refusal(table, tmp_path / "x")


@EVERY
def test_a_missing_file_and_one_that_is_no_table_say_what_to_run(table: Table, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"found no file: {table.remake}.")):
        table.read(tmp_path / "x")
    (tmp_path / "x").write_text("photo_id\n")
    with pytest.raises(
        TableError, match=rf"{table.name} as Parquet, received .*x \(.*{re.escape(table.remake)}"
    ):
        table.read(tmp_path / "x")


@EVERY
def test_other_columns_are_not_written(table: Table, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="change its contract and its version, or what is written"):
        table.write(tmp_path / "x", rows_of(table).drop_columns(["photo_id"]))


def test_a_persons_list_may_come_from_any_library(tmp_path: Path) -> None:
    pl.DataFrame({"photo_id": ["a"], "class": [7]}).write_parquet(tmp_path / "x")
    assert LIST.read(tmp_path / "x").schema.types == [pa.string(), pa.int32()]
    pl.DataFrame({"photo_id": ["a"], "class": ["7"]}).write_parquet(tmp_path / "x")
    refusal(LIST, tmp_path / "x")
    pl.DataFrame({"photo_id": ["a"], "class": [2**40]}).write_parquet(tmp_path / "x")
    assert "received ['string', 'int64']" in refusal(LIST, tmp_path / "x").replace("large_", "")


def test_one_of_several_tables_is_found_by_what_the_file_says(tmp_path: Path) -> None:
    TRUTH.write(tmp_path / "x", rows_of(TRUTH))
    assert find_table(tmp_path / "x", among=[LIST, TRUTH]) is TRUTH
    with pytest.raises(TableError, match="expected a list or a photos table, received a true labels table"):
        find_table(tmp_path / "x", among=[LIST, PHOTOS])


def test_the_document_is_what_the_contracts_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == make_document(), "run: python -m bench.table_docs"


def test_every_contract_is_in_the_document() -> None:
    modules = [path.stem for path in (ROOT / "contracts").glob("*.py")]
    found = {
        value.name
        for name in modules
        for value in vars(__import__(f"contracts.{name}", fromlist=["*"])).values()
        if isinstance(value, Table)
    }
    assert found == {table.name for table in TABLES}
    assert len({table.name for table in TABLES}) == len(TABLES)
