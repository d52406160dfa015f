from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from catalog.ingest import ingest
from catalog.photo_store import PhotoStore, load_store_info
from catalog.quarantine import load_quarantine
from catalog.sources import make_source
from imaging.storage import StoragePolicy


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_store_holds_photos_table_and_description(photo_folder, tmp_path):
    report = ingest(make_source("image_folder", root=photo_folder), tmp_path / "store", num_workers=0)
    store, table = PhotoStore(tmp_path / "store"), pl.read_parquet(tmp_path / "store" / "photos.parquet")
    assert (report.num_photos, report.num_quarantined, report.reasons) == (6, 0, {})
    assert table["photo_id"].to_list() == store.photo_ids.to_pylist()
    data = (photo_folder / "tea" / "2.jpg").read_bytes()
    assert store.read(5) == data
    assert table.row(5, named=True) == {
        "photo_id": "tea/2.jpg",
        "label": "tea",
        "true_label": None,
        "coarse_label": None,
        "group": None,
        "split": None,
        "width": 24,
        "height": 16,
        "num_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert load_store_info(tmp_path / "store").class_names == ["jam", "tea"]


def test_bad_photos_are_set_aside_with_their_reason_and_the_rest_goes_on(photo_folder, tmp_path):
    good = (photo_folder / "jam" / "0.jpg").read_bytes()
    (photo_folder / "jam" / "empty.jpg").write_bytes(b"")
    (photo_folder / "jam" / "half.jpg").write_bytes(good[: len(good) // 2])
    (photo_folder / "tea" / "text.jpg").write_text("a text file called .jpg")
    (photo_folder / "tea" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    report = ingest(make_source("image_folder", root=photo_folder), tmp_path / "store", num_workers=0)
    assert (report.num_photos, report.num_quarantined) == (6, 4)
    assert report.reasons == {"corrupt": 1, "empty": 1, "not_a_photo": 1, "unreadable": 1}
    quarantine = load_quarantine(tmp_path / "store")
    assert dict(quarantine.select("photo_id", "reason").iter_rows()) == {
        "jam/empty.jpg": "empty",
        "jam/half.jpg": "corrupt",
        "tea/gone.jpg": "unreadable",
        "tea/text.jpg": "not_a_photo",
    }
    assert not quarantine["message"].str.contains(str(tmp_path), literal=True).any()


def test_the_bytes_of_a_store_do_not_depend_on_the_number_of_workers(tmp_path):
    options = {"num_skus": 8, "photos_head": 8, "photos_tail": 4, "photos_val": 1, "photos_test": 4}
    for num_workers in (0, 1, 2):
        source = make_source("synthetic", options=options)
        ingest(source, tmp_path / str(num_workers), num_workers=num_workers)
    assert _digests(tmp_path / "0") == _digests(tmp_path / "1") == _digests(tmp_path / "2")


def test_large_photos_are_shrunk_as_the_policy_says(tmp_path, write_photo):
    write_photo(tmp_path / "raw" / "jam" / "large.png", size=(300, 100), format="PNG")
    policy = StoragePolicy(max_side=150)
    ingest(
        make_source("image_folder", root=tmp_path / "raw"), tmp_path / "store", policy=policy, num_workers=0
    )
    table = pl.read_parquet(tmp_path / "store" / "photos.parquet")
    assert table.select("width", "height").row(0) == (150, 50)
    assert load_store_info(tmp_path / "store").policy == policy


def test_when_every_photo_is_refused_there_is_no_store(tmp_path):
    (tmp_path / "raw" / "jam").mkdir(parents=True)
    (tmp_path / "raw" / "jam" / "a.jpg").write_text("no photo")
    with pytest.raises(ValueError, match=r"all refused.*not_a_photo.*jam/a\.jpg"):
        ingest(make_source("image_folder", root=tmp_path / "raw"), tmp_path / "store", num_workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


class _Interrupted:
    """A source whose photos end in an error, as when a person presses Ctrl-C."""

    def __init__(self, root: Path) -> None:
        self._source = make_source("image_folder", root=root)
        self.layout, self.class_names, self.coarse_of = "image_folder", ["jam", "tea"], {}

    def __len__(self) -> int:
        return len(self._source)

    def photos(self):
        yield from list(self._source.photos())[:3]
        raise KeyboardInterrupt


def test_an_interrupted_ingest_leaves_the_old_store_as_it_was(photo_folder, tmp_path):
    ingest(make_source("image_folder", root=photo_folder), tmp_path / "store", num_workers=0)
    before = _digests(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        ingest(_Interrupted(photo_folder), tmp_path / "store", num_workers=0)
    assert _digests(tmp_path / "store") == before
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".*.partial"))


def test_a_folder_that_is_no_store_is_never_replaced(photo_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files"):
        ingest(make_source("image_folder", root=photo_folder), tmp_path / "mine", num_workers=0)
    assert (tmp_path / "mine" / "thesis.txt").exists()


class _Repeating(_Interrupted):
    """A source that gives one id to two photos."""

    def photos(self):
        for photo in self._source.photos():
            yield replace(photo, photo_id=photo.photo_id.replace("2.jpg", "1.jpg"))


def test_two_photos_with_one_id_are_refused(photo_folder, tmp_path):
    with pytest.raises(ValueError, match=r"2 ids, first jam/1\.jpg, tea/1\.jpg"):
        ingest(_Repeating(photo_folder), tmp_path / "store", num_workers=0)
