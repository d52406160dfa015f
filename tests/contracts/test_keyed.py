"""Rows found in files of a keyed table, sorted by it or from before, against reading the whole file."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from contracts.evaluation import TRAINED_ON
from contracts.keyed import ROW_GROUP
from contracts.table import Table, TableError

NUM_ROWS = 2 * ROW_GROUP + 100


def digest_of(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Two and a bit row groups, the last ten rows without content, one content twice."""
    content = [digest_of(number) for number in range(NUM_ROWS)]
    content[7] = content[8]
    return pl.DataFrame(
        {
            "photo_id": [f"p{number}" for number in range(NUM_ROWS)],
            "source_sha256": pl.Series([*content[:-10], *[None] * 10], dtype=pl.Binary),
            "perceptual_hash": pl.Series(range(NUM_ROWS), dtype=pl.UInt64),
            "lists": [["full"] if number % 2 else ["full", "low_loss"] for number in range(NUM_ROWS)],
        }
    )


@pytest.fixture(scope="module", params=["sorted", "version 1", "no version", "no statistics"])
def path(
    request: pytest.FixtureRequest, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The rows as they are written now, and as older versions have them."""
    path = tmp_path_factory.mktemp("table") / "trained_on.parquet"
    if request.param == "sorted":
        TRAINED_ON.write(path, rows)
    elif request.param == "version 1":
        values = {name: getattr(TRAINED_ON, name) for name in ("name", "remake", "meaning", "location")}
        old = Table(**values, version=1, columns=TRAINED_ON.columns[:3], written_by="", read_by=())
        old.write(path, rows.drop("lists"))
    else:
        rows.drop("lists").write_parquet(path, statistics=request.param != "no statistics")
    return path


def test_rows_are_found_by_their_content(path: Path, rows: pl.DataFrame) -> None:
    with TRAINED_ON.lookup(path) as lookup:
        for number in (0, 8, 5000, NUM_ROWS - 11):
            found = pl.DataFrame(lookup.find(digest_of(number)))
            expected = rows.filter(pl.col("source_sha256") == digest_of(number)).select(lookup.names)
            assert found.sort("photo_id").equals(expected.sort("photo_id"))
        for absent in (digest_of(-1), b"\0" * 32, b"\xff" * 32):
            assert lookup.find(absent).num_rows == 0


def test_rows_without_content_are_counted_and_named(path: Path, rows: pl.DataFrame) -> None:
    with TRAINED_ON.lookup(path) as lookup:
        assert lookup.num_without_key == 10
        assert lookup.without_key(["photo_id"])["photo_id"].to_pylist() == rows["photo_id"][-10:].to_list()


def test_rows_are_taken_by_their_place(path: Path) -> None:
    whole = pl.DataFrame(TRAINED_ON.read(path))
    places = np.array([0, 3, ROW_GROUP - 1, ROW_GROUP, NUM_ROWS - 1])
    with TRAINED_ON.lookup(path) as lookup:
        assert pl.DataFrame(lookup.take(places)).equals(whole[places.tolist()])
        assert lookup.take(np.array([], dtype=np.int64)).num_rows == 0


def test_a_written_table_is_sorted_in_row_groups_and_one_of_them_is_read(
    rows: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TRAINED_ON.write(tmp_path / "x", rows)
    assert pl.DataFrame(TRAINED_ON.read(tmp_path / "x")).equals(rows.sort("source_sha256", nulls_last=True))
    assert pq.ParquetFile(tmp_path / "x").metadata.num_row_groups == 3
    read = []
    whole = pq.ParquetFile.read_row_group

    def record(self: pq.ParquetFile, group: int, **options: object) -> object:
        read.append(group)
        return whole(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", record)
    with TRAINED_ON.lookup(tmp_path / "x") as lookup:
        assert lookup.find(digest_of(5000)).num_rows == 1
    assert len(set(read)) == 1


def test_a_version_from_before_content_has_names_alone(rows: pl.DataFrame, tmp_path: Path) -> None:
    rows.select("photo_id").write_parquet(tmp_path / "x")
    with TRAINED_ON.lookup(tmp_path / "x") as lookup:
        assert lookup.num_without_key == lookup.num_rows == NUM_ROWS
        assert lookup.find(digest_of(1)).num_rows == 0
        assert lookup.without_key(["photo_id"])["photo_id"].to_pylist() == rows["photo_id"].to_list()


def test_a_later_version_and_another_file_are_refused(rows: pl.DataFrame, tmp_path: Path) -> None:
    replace(TRAINED_ON, version=3).write(tmp_path / "x", rows)
    with pytest.raises(TableError, match="received format version 3: register the version again"):
        TRAINED_ON.lookup(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"no table")
    with pytest.raises(TableError, match="Expected a trained-on table as Parquet"):
        TRAINED_ON.lookup(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="to hold a trained-on table"):
        TRAINED_ON.lookup(tmp_path / "y")
