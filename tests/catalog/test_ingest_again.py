"""A second ingest into the same folder: only what changed is done, and nothing else is touched."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from catalog.ingest.run import ingest
from catalog.photo_store import PhotoStore, load_store_info
from catalog.sources import FilePhoto
from imaging.storage import StoragePolicy
from tests.catalog.test_ingest import ListedSource, _digests

SHARD = 2000  # bytes: three photos of about 800 fill one


def _draw(path: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG", quality=80)


def _source(folder: Path) -> ListedSource:
    names = sorted(path.name for path in folder.iterdir())
    return ListedSource(
        FilePhoto(photo_id=name, label="jam" if number % 2 else "tea", root=str(folder), path=name)
        for number, name in enumerate(names)
    )


def _files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in sorted(folder.glob("*.arrow"))}


def _holds(store_dir: Path, raw: Path) -> bool:
    """Whether the store holds exactly the folder's photos, each once, with their bytes, listed in order."""
    store = PhotoStore(store_dir)
    held = dict(zip(store.photo_ids.to_pylist(), map(store.read, range(len(store))), strict=True))
    assert len(held) == len(store)
    listed = pl.read_parquet(store_dir / "photos.parquet")["photo_id"].to_list()
    return listed == sorted(held) and held == {path.name: path.read_bytes() for path in raw.iterdir()}


@pytest.fixture
def raw(tmp_path):
    """Nine photos, which make three shards."""
    (tmp_path / "raw").mkdir()
    for number in range(9):
        _draw(tmp_path / "raw" / f"{number}.jpg", number)
    return tmp_path / "raw"


@pytest.fixture
def again(raw, tmp_path):
    """Ingest the folder once, and give a function that ingests it again."""

    def _ingest(source=None, *, policy=None, stamps_dir=tmp_path / "stamps"):
        source = _source(raw) if source is None else source
        return ingest(
            source,
            tmp_path / "store",
            policy=policy,
            stamps_dir=stamps_dir,
            num_workers=0,
            shard_bytes=SHARD,
        )

    assert _ingest().num_shards_new == 3
    return _ingest


def test_nothing_new_changes_no_byte(again, tmp_path):
    before = _digests(tmp_path / "store")
    report = again()
    assert (report.num_new, report.num_kept, report.num_shards_kept) == (0, 9, 3)
    assert _digests(tmp_path / "store") == before


def test_new_photos_only_add_shards(again, raw, tmp_path):
    before = _files(tmp_path / "store")
    _draw(raw / "1b.jpg", 100)
    report = again()
    assert (report.num_photos, report.num_new, report.num_removed, report.num_shards_new) == (10, 1, 0, 1)
    assert before.items() <= _files(tmp_path / "store").items()
    assert _holds(tmp_path / "store", raw)


def test_a_changed_photo_replaces_its_shard_only(again, raw, tmp_path):
    before = _files(tmp_path / "store")
    _draw(raw / "4.jpg", 100)
    report = again()
    assert (report.num_new, report.num_kept, report.num_shards_kept) == (1, 8, 2)
    after = _files(tmp_path / "store")
    assert [name for name in before if before[name] == after[name]] == [
        "shard-00000.arrow",
        "shard-00002.arrow",
    ]
    assert _holds(tmp_path / "store", raw)


def test_a_photo_that_left_takes_only_itself_away(again, raw, tmp_path):
    (raw / "0.jpg").unlink()
    (raw / "8.jpg").unlink()
    report = again()
    assert (report.num_photos, report.num_new, report.num_removed, report.num_shards_kept) == (7, 0, 2, 1)
    assert _holds(tmp_path / "store", raw)


def test_a_photo_that_broke_leaves_the_store_for_the_quarantine(again, raw, tmp_path):
    (raw / "0.jpg").write_bytes(b"")
    report = again()
    assert (report.num_photos, report.num_removed, report.reasons) == (8, 1, {"empty": 1})
    assert "0.jpg" not in PhotoStore(tmp_path / "store").photo_ids.to_pylist()


def test_another_policy_makes_the_store_that_an_empty_folder_would_get(again, raw, tmp_path):
    policy = StoragePolicy(max_side=8)
    report = again(policy=policy)
    assert (report.num_new, report.num_kept, report.num_shards_kept) == (9, 0, 0)
    ingest(_source(raw), tmp_path / "fresh", policy=policy, num_workers=0, shard_bytes=SHARD)
    assert _digests(tmp_path / "store") == _digests(tmp_path / "fresh")


def test_other_labels_change_the_table_only(again, raw, tmp_path):
    before = _files(tmp_path / "store")
    relabelled = ListedSource(replace(photo, label="tea") for photo in _source(raw).photos())
    assert again(relabelled).num_new == 0
    assert _files(tmp_path / "store") == before
    assert pl.read_parquet(tmp_path / "store" / "photos.parquet")["label"].to_list() == ["tea"] * 9


@pytest.mark.parametrize("stamps_dir", ["stamps", "lost", None])
def test_a_file_that_was_only_touched_is_the_same_photo(again, raw, tmp_path, stamps_dir):
    os.utime(raw / "4.jpg", ns=(1, 1))
    before = _digests(tmp_path / "store")
    assert again(stamps_dir=stamps_dir and tmp_path / stamps_dir).num_new == 0
    assert _digests(tmp_path / "store") == before


def test_files_whose_stamp_is_known_are_not_read(again, raw):
    for path in raw.iterdir():
        path.chmod(0)
        status = path.stat()
        path.unlink()
        path.write_bytes(bytes(status.st_size))  # no photo any more, but it looks unchanged
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert again().num_kept == 9


def test_a_damaged_store_is_made_again_byte_for_byte(again, tmp_path, caplog):
    before = _digests(tmp_path / "store")
    first, second, _ = sorted((tmp_path / "store").glob("*.arrow"))
    data = bytearray(first.read_bytes())
    data[700] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:500])
    with caplog.at_level(logging.WARNING):
        report = again()
    assert "shard-00000.arrow is damaged: its SHA-256" in caplog.text
    assert "shard-00001.arrow is damaged: it has 500 bytes" in caplog.text
    assert (report.num_new, report.num_kept) == (6, 3)
    assert _digests(tmp_path / "store") == before


def test_shards_without_a_manifest_are_gone_on_with(again, tmp_path):
    before = _digests(tmp_path / "store")
    for name in ("store.json", "photos.parquet"):
        (tmp_path / "store" / name).unlink()
    assert again().num_kept == 9
    assert _digests(tmp_path / "store") == before


def test_a_damaged_shard_of_an_interrupted_ingest_is_not_gone_on_with(again, tmp_path):
    before = _digests(tmp_path / "store")
    (tmp_path / "store" / "store.json").unlink()
    shard = tmp_path / "store" / "shard-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[data.index(b"\xff\xd8\xff") + 300] ^= 1  # within a photo
    shard.write_bytes(data)
    assert again().num_kept == 6
    assert _digests(tmp_path / "store") == before


def test_a_crash_while_shards_are_replaced_doubles_nothing(again, raw, tmp_path):
    old = (tmp_path / "store" / "shard-00001.arrow").read_bytes()
    _draw(raw / "4.jpg", 100)
    again()
    (tmp_path / "store" / "store.json").unlink()  # as if killed after the new shards, before the old one went
    (tmp_path / "store" / "shard-00009.arrow").write_bytes(old)
    assert again().num_new == 0
    assert _holds(tmp_path / "store", raw)
    assert len(load_store_info(tmp_path / "store").shards) == 3


def test_a_store_of_an_older_version_is_made_anew(again, raw, tmp_path):
    (tmp_path / "store" / "store.json").write_text('{"layout": "image_folder", "num_photos": 9}')
    assert again().num_photos == 9
    assert _holds(tmp_path / "store", raw)
