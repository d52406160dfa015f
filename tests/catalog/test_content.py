"""A photo is its content: what becomes of tables when other photos come under the old names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from catalog.content import CONTENT, add_content
from catalog.ingest.run import ingest
from catalog.list_rules import Full, make_list
from catalog.lists import diff, load_list, save_list
from catalog.photo_store import PHOTOS_FILE, PhotoStore
from catalog.refinement import Agreement, Intersect, LowLoss, Pseudo, Subtract, Union, load_evidence, refine
from catalog.sources import make_source
from catalog.splits import SplitConfig, make_splits
from tests.catalog.evidence_tables import (
    PATHS,
    SCHEMA,
    make_base,
    make_log,
    make_predictions,
    make_rows,
    with_content,
)

ALL_TRAIN = SplitConfig(method="stratified", val_share=0, test_share=0)


def _store(folder: Path, out: Path) -> PhotoStore:
    ingest(make_source("image_folder", root=folder), out, num_workers=0, progress=False)
    return PhotoStore(out)


def _save_list_of(store: PhotoStore, path: Path) -> pl.DataFrame:
    photos = pl.read_parquet(store.path / PHOTOS_FILE)
    splits = make_splits(photos, class_names=["jam", "tea"], coarse_of={}, config=ALL_TRAIN, seed=0)
    save_list(make_list(splits, config=Full(), seed=0), path)
    return splits


def test_a_list_carries_the_sha256_of_each_source_file(photo_folder, tmp_path):
    _save_list_of(_store(photo_folder, tmp_path / "store"), tmp_path / "full.parquet")
    for photo_id, sha256 in load_list(tmp_path / "full.parquet")["photo_id", "source_sha256"].iter_rows():
        assert sha256 == hashlib.sha256((photo_folder / photo_id).read_bytes()).digest()


def test_a_photo_shot_again_changes_the_bytes_of_its_list_and_nothing_else_in_it(
    photo_folder, tmp_path, write_photo
):
    store, path = _store(photo_folder, tmp_path / "store"), tmp_path / "full.parquet"
    _save_list_of(store, path)
    before, old_bytes = load_list(path), path.read_bytes()
    _save_list_of(_store(photo_folder, tmp_path / "store"), path)
    assert path.read_bytes() == old_bytes  # nothing changed: DVC runs nothing again
    write_photo(photo_folder / "tea" / "1.jpg", color="yellow")
    _save_list_of(_store(photo_folder, tmp_path / "store"), path)
    after = load_list(path)
    assert path.read_bytes() != old_bytes
    assert after.drop(*CONTENT).equals(before.drop(*CONTENT))
    found = diff(before, after)
    assert (found.num_same, found.content_changed.rows()) == (5, [("tea/1.jpg", 1)])
    with pytest.raises(
        ValueError, match=r"other content under the same names for 1 of 6, first 'tea/1\.jpg'"
    ):
        PhotoStore(tmp_path / "store").rows_of(
            before["photo_id"].to_arrow(), source_sha256=before["source_sha256"].to_arrow()
        )


def test_a_store_gives_the_rows_of_photos_that_are_still_those_that_were_meant(photo_folder, tmp_path):
    store = _store(photo_folder, tmp_path / "store")
    sha256 = [
        hashlib.sha256((photo_folder / name).read_bytes()).digest() for name in ("tea/1.jpg", "jam/0.jpg")
    ]
    assert store.rows_of(["tea/1.jpg", "jam/0.jpg"], source_sha256=sha256).tolist() == [4, 0]
    assert store.source_sha256(store.rows_of(["jam/0.jpg"])).to_pylist() == sha256[1:]


def test_a_persons_list_of_names_means_the_photos_of_the_splits(tmp_path):
    listed = make_rows(("b", 1, "mine"), ("a", 0, "mine"))
    listed.drop(*CONTENT).write_parquet(tmp_path / "mine.parquet")
    splits = make_rows(("a", 0, ""), ("b", 1, ""), ("c", 1, ""))
    assert load_list(tmp_path / "mine.parquet", splits=splits).equals(listed)
    with pytest.raises(ValueError, match=r"received a list of names alone.*run `dvc repro`"):
        load_list(tmp_path / "mine.parquet")
    with pytest.raises(ValueError, match=r"in mine\.parquet, received 1 of 2 that it lacks, first 'b'"):
        load_list(tmp_path / "mine.parquet", splits=splits.head(1))


def test_splits_and_lists_from_before_contents_say_what_to_run(tmp_path, photo_table):
    rows = make_rows(("a", 0, "full"))
    with pytest.raises(ValueError, match=r"in the splits table, which lacks .*source_sha256.*`dvc repro`"):
        add_content(rows, splits=rows.drop(*CONTENT), name="x")
    with pytest.raises(ValueError, match=r"in photos\.parquet, which lacks .*`dvc repro`"):
        make_splits(photo_table.drop(*CONTENT), class_names=["jam"], coarse_of={}, config=ALL_TRAIN, seed=0)
    unknown = rows.with_columns(source_sha256=pl.lit(None, dtype=pl.Binary))
    with pytest.raises(ValueError, match=r"1 of 1 without one, first 'a'"):
        save_list(unknown, tmp_path / "x.parquet")


LOG = make_log({0: [0.1, 0.2], 1: [0.3]})
BASE = make_base(LOG)
RESHOT = pl.concat([BASE.head(1), with_content(BASE[1:2], shot=1), BASE[2:]])


def test_evidence_about_what_a_photo_was_before_is_not_used():
    with pytest.raises(ValueError, match=r"other content under the names of 1 of 3 photos, first 'a1'"):
        refine(LowLoss(**PATHS), base=RESHOT, evidence=LOG, num_classes=2)


def test_evidence_from_before_contents_says_which_phase_to_run(tmp_path):
    schema = {name: kind for name, kind in SCHEMA.items() if name not in CONTENT}
    pl.DataFrame(schema=schema).write_parquet(tmp_path / "evidence.parquet")
    with pytest.raises(ValueError, match=r"'other_class'\] and no format version: run its phase again"):
        load_evidence(LowLoss(**PATHS), root=tmp_path)


@pytest.mark.parametrize("rule", [Union, Intersect, Subtract])
def test_lists_of_other_photos_under_the_same_names_are_not_combined(rule):
    with pytest.raises(ValueError, match=r"base\.parquet and evidence\.parquet.* for 1, first 'a1'"):
        refine(rule(**PATHS), base=BASE, evidence=RESHOT, num_classes=2)


def test_a_union_keeps_the_content_of_both_lists():
    other = make_rows(("b0", 1, "x"), ("c0", 1, "y"))
    made = refine(Union(**PATHS), base=BASE, evidence=other, num_classes=2)
    assert made.select(*CONTENT).equals(with_content(made.select("photo_id")).select(*CONTENT))


def test_members_that_saw_another_photo_do_not_agree_with_the_list():
    said = make_predictions([("a0", 0, 0.9, 1, 0.1), ("a1", 0, 0.9, 1, 0.1), ("b0", 1, 0.9, 0, 0.1)])
    config = Agreement(**PATHS, members=("one",))
    with pytest.raises(ValueError, match=r"in base\.parquet and the out-of-fold predictions one.*first 'a1'"):
        refine(config, base=RESHOT, evidence={"one": said}, num_classes=2)


def test_pseudo_labels_are_of_the_photos_that_were_predicted():
    said = make_predictions([("u0", None, None, 1, 0.99)])
    config = Pseudo(**PATHS, members=("one", "two"))
    made = refine(config, base=BASE, evidence={"one": said, "two": said}, num_classes=2)
    assert made.tail(1).select(*CONTENT).equals(said.select(*CONTENT))
    later = {"one": said, "two": with_content(said, shot=1)}
    with pytest.raises(
        ValueError, match=r"the out-of-fold predictions of one member and another's.*first 'u0'"
    ):
        refine(config, base=BASE, evidence=later, num_classes=2)


def test_a_difference_to_a_list_from_before_contents_says_that_it_cannot_know():
    assert diff(BASE.drop(*CONTENT), BASE).content_changed is None
    assert diff(BASE, BASE).content_changed.is_empty()
