from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import imagehash
import numpy as np
import polars as pl
import pytest
from PIL import Image

from catalog.ingest.preparation import hash_pixels, prepare_photo
from catalog.ingest.run import ingest
from catalog.photo_store import PhotoStore, load_store_info
from catalog.quarantine import load_quarantine
from catalog.sources import SetAside, SourcePhoto, make_source
from imaging.storage import StoragePolicy


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


class ListedSource:
    """Photos that a test hands over, under the protocol of a source."""

    layout, class_names, coarse_of = "image_folder", ("jam", "tea"), {}

    def __init__(self, photos, aside=()):
        self._photos, self._aside = list(photos), list(aside)

    def __len__(self):
        return len(self._photos)

    def photos(self):
        return iter(self._photos)

    def set_aside(self):
        return iter(self._aside)


def test_the_store_holds_photos_table_and_description(photo_folder, tmp_path):
    report = ingest(make_source("image_folder", root=photo_folder), tmp_path / "store", num_workers=0)
    store, table = PhotoStore(tmp_path / "store"), pl.read_parquet(tmp_path / "store" / "photos.parquet")
    assert (report.num_photos, report.num_quarantined, report.reasons) == (6, 0, {})
    assert (report.num_new, report.num_kept, report.num_removed) == (6, 0, 0)
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
        "source_width": 24,
        "source_height": 16,
        "num_bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "source_sha256": hashlib.sha256(data).digest(),
        "perceptual_hash": 0x8000000000000000,  # one colour: only the mean is above the median
    }
    info = load_store_info(tmp_path / "store")
    assert info.class_names == ["jam", "tea"]
    assert [(shard.name, shard.num_photos) for shard in info.shards] == [("shard-00000.arrow", 6)]


def test_bad_photos_are_set_aside_with_their_reason_and_the_rest_goes_on(photo_folder, tmp_path):
    good = (photo_folder / "jam" / "0.jpg").read_bytes()
    (photo_folder / "jam" / "empty.jpg").write_bytes(b"")
    (photo_folder / "jam" / "half.jpg").write_bytes(good[: len(good) // 2])
    (photo_folder / "tea" / "text.jpg").write_text("a text file called .jpg")
    (photo_folder / "tea" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    report = ingest(make_source("image_folder", root=photo_folder), tmp_path / "store", num_workers=0)
    assert (report.num_photos, report.num_quarantined) == (6, 4)
    assert report.reasons == {"corrupt": 1, "empty": 1, "dangling_link": 1, "not_a_photo": 1}
    quarantine = load_quarantine(tmp_path / "store")
    assert dict(quarantine.select("photo_id", "reason").iter_rows()) == {
        "jam/empty.jpg": "empty",
        "jam/half.jpg": "corrupt",
        "tea/gone.jpg": "dangling_link",
        "tea/text.jpg": "not_a_photo",
    }
    assert not quarantine["message"].str.contains(str(tmp_path), literal=True).any()


def test_what_the_source_sets_aside_is_in_the_quarantine_too(photo_folder, tmp_path):
    (photo_folder / "tea" / "text.jpg").write_text("no photo")
    aside = SetAside(photo_id="jam/9.jpg", reason="dropped_label", message="Drop fewer labels.")
    source = ListedSource(make_source("image_folder", root=photo_folder).photos(), aside=[aside])
    report = ingest(source, tmp_path / "store", num_workers=0)
    assert report.reasons == {"dropped_label": 1, "not_a_photo": 1}
    assert load_quarantine(tmp_path / "store").row(1) == ("jam/9.jpg", "dropped_label", "Drop fewer labels.")


def test_the_bytes_of_a_store_do_not_depend_on_the_number_of_workers(tmp_path):
    options = {"num_skus": 8, "photos_head": 8, "photos_tail": 4, "photos_val": 1, "photos_test": 4}
    for num_workers in (0, 1, 2):
        source = make_source("synthetic", options=options)
        ingest(source, tmp_path / str(num_workers), num_workers=num_workers, shard_bytes=100_000)
    assert _digests(tmp_path / "0") == _digests(tmp_path / "1") == _digests(tmp_path / "2")
    assert len(load_store_info(tmp_path / "0").shards) > 2


def test_large_photos_are_shrunk_as_the_policy_says(tmp_path, write_photo):
    write_photo(tmp_path / "raw" / "jam" / "large.png", size=(300, 100), format="PNG")
    policy = StoragePolicy(max_side=150)
    source = make_source("image_folder", root=tmp_path / "raw")
    ingest(source, tmp_path / "store", policy=policy, num_workers=0)
    table = pl.read_parquet(tmp_path / "store" / "photos.parquet")
    assert table.select("width", "height", "source_width", "source_height").row(0) == (150, 50, 300, 100)
    assert load_store_info(tmp_path / "store").policy == policy


def test_when_every_photo_is_refused_there_is_no_store(tmp_path):
    (tmp_path / "raw" / "jam").mkdir(parents=True)
    (tmp_path / "raw" / "jam" / "a.jpg").write_text("no photo")
    with pytest.raises(ValueError, match=r"all refused.*not_a_photo.*jam/a\.jpg"):
        ingest(make_source("image_folder", root=tmp_path / "raw"), tmp_path / "store", num_workers=0)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@dataclass(frozen=True, kw_only=True)
class _Interrupting(SourcePhoto):
    """A person presses Ctrl-C while this photo is read."""

    def read(self):
        raise KeyboardInterrupt

    def stamp(self):
        return None


def test_an_interrupted_ingest_leaves_the_old_store_as_it_was_and_keeps_finished_shards(
    photo_folder, tmp_path
):
    photos = list(make_source("image_folder", root=photo_folder).photos())
    ingest(ListedSource(photos[:2]), tmp_path / "store", num_workers=0)
    before = _digests(tmp_path / "store")
    more = [replace(photos[0], photo_id=f"{number:03}") for number in range(64)]
    interrupted = ListedSource([*photos[:2], *more, _Interrupting(photo_id="z", label="tea")])
    with pytest.raises(
        KeyboardInterrupt, match=r"\d\d photos in \d\d finished shards are safe\. Run it again"
    ):
        ingest(interrupted, tmp_path / "store", num_workers=0, shard_bytes=700)
    after = _digests(tmp_path / "store")
    assert before.items() <= after.items()
    assert len(PhotoStore(tmp_path / "store")) == 2
    assert not list((tmp_path / "store").glob("*.partial"))


def test_a_folder_that_is_no_store_is_never_touched(photo_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other files"):
        ingest(make_source("image_folder", root=photo_folder), tmp_path / "mine", num_workers=0)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_two_photos_with_one_id_are_refused_before_any_work(photo_folder, tmp_path):
    photos = make_source("image_folder", root=photo_folder).photos()
    twice = [replace(photo, photo_id=photo.photo_id.replace("2.jpg", "1.jpg")) for photo in photos]
    with pytest.raises(ValueError, match=r"2 ids, first jam/1\.jpg, tea/1\.jpg"):
        ingest(ListedSource(twice), tmp_path / "store", num_workers=0)
    assert not (tmp_path / "store").exists()


class _Changing(ListedSource):
    """A source that lists its photos in another order each time."""

    def photos(self):
        self._photos.reverse()
        return iter(self._photos)


def test_a_source_that_changes_under_our_hands_is_refused(photo_folder, tmp_path):
    source = _Changing(make_source("image_folder", root=photo_folder).photos())
    with pytest.raises(ValueError, match="source changed while ingest read it"):
        ingest(source, tmp_path / "store", num_workers=0)


def test_the_perceptual_hash_is_imagehashs(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert f"{hash_pixels(pixels):016x}" == str(imagehash.phash(Image.fromarray(pixels)))


def test_a_photo_and_its_smaller_copy_have_near_hashes_another_photo_has_not():
    source = make_source("synthetic", options={"num_skus": 8, "width": 320, "height": 400})
    first, second = (photo.read() for photo, _ in zip(source.photos(), range(2), strict=False))
    small = StoragePolicy(max_side=200, quality=70)
    large, shrunk, other = (
        prepare_photo("a", data, policy=policy).perceptual_hash
        for data, policy in ((first, None), (first, small), (second, None))
    )
    assert (large ^ shrunk).bit_count() <= 4
    assert (large ^ other).bit_count() >= 12
