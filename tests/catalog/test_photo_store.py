from __future__ import annotations

import pickle
import subprocess
import sys

import pyarrow as pa
import pytest

from catalog.photo_store import PhotoStore, ShardWriter, StoreInfo, load_store_info, save_store_info
from imaging.storage import StoragePolicy


@pytest.fixture
def store(tmp_path):
    """Ten photos of 100 to 109 bytes; a shard ends after 250 bytes, a batch after 2 rows."""
    with ShardWriter(tmp_path, shard_bytes=250, batch_rows=2) as shards:
        for number in range(10):
            shards.add(f"{number}.jpg", bytes([number]) * (100 + number))
    return PhotoStore(tmp_path)


def test_every_row_gives_the_photo_that_was_written_there(store):
    assert len(store) == 10
    assert [store.read(row) for row in range(10)] == [bytes([n]) * (100 + n) for n in range(10)]
    assert store.photo_ids.to_pylist() == [f"{number}.jpg" for number in range(10)]


def test_a_shard_ends_with_the_photo_that_fills_it(store):
    # 100 + 101 + 102 reach 250, and so does every further three
    assert len(list(store.path.glob("shard-*.arrow"))) == 4
    assert pa.ipc.open_file(str(store.path / "shard-00000.arrow")).read_all().num_rows == 3


@pytest.mark.parametrize("ids", [["7.jpg", "0.jpg", "7.jpg"], pa.array(["7.jpg", "0.jpg", "7.jpg"])])
def test_rows_of_follow_the_order_asked_for(store, ids):
    assert store.rows_of(ids).tolist() == [7, 0, 7]


def test_rows_of_names_the_photos_that_the_store_lacks(store):
    with pytest.raises(ValueError, match=r"10 photos.*2 photo ids that it lacks, first 'x', 'y'"):
        store.rows_of(["1.jpg", "x", "y"])


@pytest.mark.parametrize("row", [-1, 10])
def test_a_row_outside_the_store_is_an_error_not_another_photo(store, row):
    with pytest.raises(IndexError, match=r"0\.\.9"):
        store.read(row)


def test_a_pickled_store_is_small_and_opens_again(store):
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).read(9) == store.read(9)


def test_a_store_without_photos_has_length_zero(tmp_path):
    ShardWriter(tmp_path).close()
    assert len(PhotoStore(tmp_path)) == 0


def test_a_folder_without_shards_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the ingest stage"):
        PhotoStore(tmp_path)


def test_store_info_survives_its_file(tmp_path):
    info = StoreInfo(
        layout="image_folder",
        policy=StoragePolicy(max_side=256),
        class_names=["jam", "Grüner Tee"],
        coarse_of={"jam": "sweet"},
        num_photos=3,
    )
    save_store_info(tmp_path, info)
    assert load_store_info(tmp_path) == info


def test_a_bare_training_node_needs_neither_polars_nor_torch():
    code = "import sys, catalog.photo_store; print({'polars', 'torch', 'mlflow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
