from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from imaging.atomic_write import (
    DiskFullError,
    atomic_folder,
    atomic_write,
    is_disk_full,
    move_into_place,
    write_text,
)


def test_a_file_keeps_its_content_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    write_text(path, "old: é\n")
    with suppress(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old: é\n"
    assert [item.name for item in tmp_path.iterdir()] == ["params.yaml"]
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_a_full_disk_is_a_sentence_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    path.write_text("old")
    (tmp_path / "list.parquet.partial").symlink_to("/dev/full")  # every write to it meets a full disk
    with pytest.raises(
        DiskFullError, match=r"disk is full: .*list\.parquet could not be written .* free space"
    ):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
        (folder / "b").write_text("1")
    with suppress(ValueError), atomic_folder(path) as folder:
        (folder / "a").write_text("2")
        raise ValueError("no")
    assert {item.name: item.read_text() for item in path.iterdir()} == {"a": "1", "b": "1"}
    with atomic_folder(path) as folder:
        (folder / "a").write_text("3")
    assert {item.name: item.read_text() for item in path.iterdir()} == {"a": "3"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b"x" * 9000),
        lambda path: np.save(path, np.zeros(9000)),
        lambda path: pl.DataFrame({"a": np.random.default_rng(0).random(90000)}).write_parquet(path),
        lambda path: pl.DataFrame({"a": np.zeros(90000)}).write_csv(path),
    ],
    ids=["python", "numpy", "polars", "polars csv"],
)
def test_whatever_library_meets_the_full_disk(tmp_path: Path, write: object) -> None:
    full = tmp_path / "full.npy"
    full.symlink_to("/dev/full")
    with pytest.raises(Exception) as caught:  # noqa: PT011  each library has its own kind; safetensors: see test_checkpoint
        write(full)  # type: ignore[operator]
    assert is_disk_full(caught.value), repr(caught.value)


def test_other_errors_are_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_text(tmp_path / "missing" / "a", "a")
    assert not is_disk_full(caught.value)


def test_outs_of_an_earlier_run_are_replaced_and_never_nested(tmp_path: Path) -> None:
    made, out = tmp_path / "job" / "bundle", tmp_path / "runs" / "plain" / "bundle"
    for folder, text in ((out, "old"), (made, "new")):
        folder.mkdir(parents=True)
        (folder / "weights").write_text(text, encoding="utf-8")
    move_into_place(made, to=out)
    assert (out / "weights").read_text(encoding="utf-8") == "new"
    assert [path.name for path in out.iterdir()] == ["weights"]


def test_a_file_is_put_into_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch", encoding="utf-8")
    move_into_place(tmp_path / "history.csv", to=tmp_path / "runs" / "plain" / "history.csv")
    assert (tmp_path / "runs" / "plain" / "history.csv").read_text(encoding="utf-8") == "epoch"
