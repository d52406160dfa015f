from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from zlib import crc32

import pyarrow as pa
import pytest

from catalog.ingest.preparation import PreparedPhoto
from catalog.ingest.shards import ShardWriter
from catalog.photo_store import (
    STORE_FILE,
    DamagedShardError,
    PhotoStore,
    StoreInfo,
    damage_of,
    load_store_info,
    store_text,
)
from imaging.storage import StoragePolicy


def _photo(number: int) -> PreparedPhoto:
    data = bytes([number]) * (100 + number)
    digest = sha256(data).digest()
    return PreparedPhoto(f"{number}.jpg", data, crc32(data), digest, digest, 1, 1, 1, 1, 2**64 - 1)


def _write_store(folder, *, num_photos=10):
    """Photos of 100, 101, ... bytes; a shard ends after 250 bytes, a batch after 2 rows."""
    with ShardWriter(folder, mark=b"test", shard_bytes=250, batch_rows=2) as writer:
        for number in range(num_photos):
            writer.add(_photo(number))
    info = StoreInfo(
        layout="image_folder",
        policy=StoragePolicy(max_side=256),
        class_names=["jam", "Grüner Tee"],
        coarse_of={"jam": "sweet"},
        num_photos=num_photos,
        shards=writer.shards,
    )
    (folder / STORE_FILE).write_text(store_text(info), encoding="utf-8")
    return info


@pytest.fixture
def store(tmp_path):
    _write_store(tmp_path)
    return PhotoStore(tmp_path)


def _flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_every_row_gives_the_photo_that_was_written_there(store):
    assert len(store) == 10
    assert [store.read(row) for row in range(10)] == [bytes([n]) * (100 + n) for n in range(10)]
    assert store.photo_ids.to_pylist() == [f"{number}.jpg" for number in range(10)]


def test_a_shard_ends_with_the_photo_that_fills_it(store):
    # 100 + 101 + 102 reach 250, and so does every further three
    assert [shard.num_photos for shard in load_store_info(store.path).shards] == [3, 3, 3, 1]
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
    _write_store(tmp_path, num_photos=0)
    assert len(PhotoStore(tmp_path)) == 0


def test_only_the_shards_of_the_manifest_are_the_store(store):
    info = load_store_info(store.path)
    (store.path / STORE_FILE).write_text(store_text(replace(info, shards=info.shards[1:])))
    assert PhotoStore(store.path).photo_ids.to_pylist() == [f"{number}.jpg" for number in range(3, 10)]


def test_shards_without_a_manifest_are_no_store(store):
    (store.path / STORE_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"ingest has not finished there\. Run it again"):
        PhotoStore(store.path)


def test_a_manifest_of_another_version_says_so(store):
    (store.path / STORE_FILE).write_text('{"layout": "image_folder", "num_photos": 10}')
    with pytest.raises(ValueError, match=r"store\.json as this version.*'shards'.*Run ingest again"):
        PhotoStore(store.path)


def test_a_changed_photo_is_named_with_its_shard_and_the_others_can_be_read(store):
    path = store.path / "shard-00001.arrow"
    _flip(path, path.read_bytes().index(b"\4" * 104) + 50)
    damaged = PhotoStore(store.path)
    with pytest.raises(
        DamagedShardError, match=r"shard-00001\.arrow is damaged: the photo '4\.jpg'.*dvc repro"
    ):
        damaged.read(4)
    assert [damaged.read(row) for row in (3, 5)] == [store.read(3), store.read(5)]


def test_wrong_offsets_never_give_a_part_of_another_photo(store):
    path = store.path / "shard-00000.arrow"
    _flip(path, path.read_bytes().index((100).to_bytes(8, "little")))  # photo 0 ends, photo 1 begins
    damaged = PhotoStore(store.path)
    for row in (0, 1):
        with pytest.raises(DamagedShardError, match=f"'{row}.jpg'"):
            damaged.read(row)


def test_truncated_and_missing_shards_are_all_named_at_opening(store):
    path = store.path / "shard-00002.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    (store.path / "shard-00003.arrow").unlink()
    with pytest.raises(
        DamagedShardError, match=r"shard-00002\.arrow is damaged: it has .* shard-00003\.arrow is miss"
    ):
        PhotoStore(store.path)


def test_a_broken_footer_is_named_at_opening(store):
    path = store.path / "shard-00002.arrow"
    path.write_bytes(path.read_bytes()[:-40] + bytes(40))
    with pytest.raises(DamagedShardError, match=r"shard-00002\.arrow is damaged"):
        PhotoStore(store.path)


def _read_all(folder):
    store = PhotoStore(folder)
    return {store.read(row) for row in range(len(store))}


@pytest.mark.parametrize("place", range(0, 100, 5))
def test_no_flipped_byte_gives_a_wrong_photo_or_a_crash(store, place):
    path = store.path / "shard-00001.arrow"
    photos = {store.read(row) for row in range(10)}
    for byte in range(place, path.stat().st_size, 100):
        _flip(path, byte)
        with suppress(DamagedShardError):
            assert _read_all(store.path) == photos  # a byte that reading does not need
        _flip(path, byte)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.999])
def test_verification_finds_any_flipped_byte(store, share):
    path = store.path / "shard-00001.arrow"
    info = load_store_info(store.path).shards[1]
    _flip(path, int(share * info.num_bytes))
    assert damage_of(store.path, info) == (
        "shard-00001.arrow is damaged: its SHA-256 is not the one in store.json"
    )


def test_verify_names_every_damaged_shard(store):
    for name in ("shard-00000.arrow", "shard-00002.arrow"):
        _flip(store.path / name, 700)
    with pytest.raises(
        DamagedShardError, match=r"shard-00000\.arrow is .*; shard-00002\.arrow is .*dvc repro"
    ):
        store.verify()


def test_verify_reports_the_bytes_of_every_shard(store):
    sizes = []
    store.verify(progress=sizes.append)
    assert sum(sizes) == store.num_bytes == sum(path.stat().st_size for path in store.path.glob("*.arrow"))


def test_an_unfinished_shard_leaves_nothing(tmp_path):
    def stop_after_five_photos():
        with ShardWriter(tmp_path, mark=b"", shard_bytes=250, batch_rows=1) as writer:
            for number in range(5):
                writer.add(_photo(number))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_after_five_photos()
    assert [path.name for path in tmp_path.iterdir()] == ["shard-00000.arrow"]


def test_store_info_survives_its_file(tmp_path):
    info = _write_store(tmp_path)
    assert load_store_info(tmp_path) == info


def test_a_bare_training_node_needs_neither_polars_nor_torch():
    code = "import sys, catalog.photo_store; print({'polars', 'torch', 'mlflow', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
