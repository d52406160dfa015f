"""What disks hold beside tidy photos: every file is taken or rejected with a reason, none is lost."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from catalog.ingest.run import ingest
from catalog.quarantine import load_quarantine
from catalog.sources import make_source
from catalog.sources.folder import LocalFolder
from catalog.sources.watch import describe_watched

NFC, NFD = "cr\u00e8me.jpg", "cre\u0300me.jpg"


def put(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = root / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo")


def reasons(source) -> dict[str, str]:
    return {aside.photo_id: aside.reason for aside in source.set_aside()}


def labels(source) -> dict[str, str | None]:
    return {photo.photo_id: photo.label for photo in source.photos()}


@pytest.fixture
def nasty(tmp_path: Path) -> Path:
    """Two classes with what goes wrong: 15 files that count (links followed), and two of the system."""
    root = tmp_path / "root"
    put(root, "jam/1.jpg", "jam/my 2.jpg", "jam/line\nend.jpg", "jam/tail.jpg ", 'jam/27".jpg', f"tea/{NFD}")
    put(root, b"tea/caf\xe9.jpg", ".5L/1.jpg", "loose.jpg", "tea/.hidden.jpg")
    put(root, "jam/.DS_Store", "__MACOSX/jam/._1.jpg")
    put(tmp_path / "far", "a.jpg", "deep/b.jpg")
    (root / "empty").mkdir()
    os.mkfifo(root / "tea/pipe.jpg")
    (root / "tea/far").symlink_to(tmp_path / "far")
    (root / "tea/loop").symlink_to(root)
    (root / "tea/dangling.jpg").symlink_to("nowhere.jpg")
    (root / "tea/copy.jpg").symlink_to(root / "jam/1.jpg")
    return root


IDS = 'path,label\njam/1.jpg,jam\njam/my 2.jpg,jam\n"jam/line\nend.jpg",jam\njam/tail.jpg ,jam\n'
TABLE = (
    IDS + f'"jam/27"".jpg",jam\ntea/{NFC},tea\ntea/copy.jpg,tea\ntea/dangling.jpg,tea\ntea/far/a.jpg,tea\n'
)
LINES = f"# made by Ann\njam/1.jpg Red Jam\njam/my 2.jpg Jam\ntea/{NFC} tea\ntea/gone.jpg tea\n"
LINES += "tea/gone.jpg Red tea\n"
ROWS = [
    {"category_id": 0, "fpath": "/jam/1.jpg"},
    {"category_id": float("nan"), "fpath": "/jam/my 2.jpg"},
    {"category_id": 1, "fpath": f"/tea/{NFC}"},
    {"category_id": 1},
    7,
]
ALI = [{"class_id": "jam", "image_id": "1.jpg"}, {"class_id": "jam"}]


@pytest.mark.parametrize(
    "layout", ["image_folder", "table", "list_file", "annotations", "aliproducts", "grocery_store"]
)
def test_every_file_on_disk_is_a_photo_or_rejected(nasty, layout):
    options = {}
    if layout == "table":
        (nasty / "index").write_text(TABLE)
    elif layout == "list_file":
        (nasty / "index").write_text(LINES)
    elif layout == "annotations":
        (nasty / "index").write_text(json.dumps({"annotations": ROWS, "num_classes": 2}))
    elif layout == "aliproducts":
        put(nasty, "train/00jam/1.jpg")
        (nasty / "train.json").write_text(json.dumps({"images": ALI}))
    elif layout == "grocery_store":
        (nasty / "classes.csv").write_text(
            "Class Name (str),Class ID (int),Coarse Class Name (str)\nJam,0,Spreads\n"
        )
        (nasty / "train.txt").write_text("jam/1.jpg, 0, 0\njam/1.jpg 0\n")
        (nasty / "val.txt").write_text(f"tea/{NFC}, 0, 0\n")
        (nasty / "test.txt").write_text("tea/gone.jpg, 0, 0\n")
    if layout in ("table", "list_file", "annotations"):
        options = {"index": "index"}
    source = make_source(layout, root=nasty, options=options)
    on_disk = {os.fsencode(entry).decode("utf-8", "backslashreplace") for entry in LINKED_FILES} | (
        {"train/00jam/1.jpg"} if layout == "aliproducts" else set()
    )
    photos, aside = [photo.photo_id for photo in source.photos()], reasons(source)
    assert sorted([*photos, *(name for name in aside if name in on_disk)]) == sorted(on_disk)
    assert len(photos) == len(set(photos))
    assert not set(photos) & set(aside)


LINKED_FILES: list[str | bytes] = [
    "jam/1.jpg", "jam/my 2.jpg", "jam/line\nend.jpg", "jam/tail.jpg ", 'jam/27".jpg', f"tea/{NFD}",
    b"tea/caf\xe9.jpg", ".5L/1.jpg", "loose.jpg", "tea/.hidden.jpg", "tea/far/a.jpg", "tea/far/deep/b.jpg",
    "tea/pipe.jpg", "tea/dangling.jpg", "tea/copy.jpg",
]  # fmt: skip


def test_an_image_folder_says_why_it_does_not_take_a_file(nasty, caplog):
    source = make_source("image_folder", root=nasty)
    assert source.class_names == ["jam", "tea"]
    assert reasons(source) == {
        ".5L/1.jpg": "hidden",
        "loose.jpg": "no_class",
        "tea/.hidden.jpg": "hidden",
        "tea/caf\\xe9.jpg": "file_name",
        "tea/dangling.jpg": "dangling_link",
        "tea/loop": "link_loop",
        "tea/pipe.jpg": "special_file",
    }
    assert "1 folders of root hold no file and make no class: empty" in caplog.text
    assert len(source) == 9


def test_a_table_finds_files_however_their_names_are_spelt(nasty):
    (nasty / "index").write_text(TABLE)
    source = make_source("table", root=nasty, options={"index": "index"})
    taken = labels(source)
    assert {f"tea/{NFD}", "jam/tail.jpg ", 'jam/27".jpg', "jam/line\nend.jpg", "tea/far/a.jpg"} <= set(taken)
    aside = {aside.photo_id: aside for aside in source.set_aside()}
    assert aside["tea/dangling.jpg"].reason == "dangling_link"
    assert aside["tea/dangling.jpg"].message.startswith("index, line 10 names it. ")
    assert f"tea/{NFC}" not in aside


def test_of_two_spellings_on_disk_the_exact_one_is_meant_and_a_third_is_rejected(tmp_path):
    put(tmp_path, NFC, NFD, "tail.jpg", "tail.jpg ", "A\u030angstrom.jpg", "\u00c5ngstrom.jpg")
    rows = f'path,label\n{NFC},a\n{NFD},b\n"tail.jpg ",c\ntail.jpg,d\n\u212bngstrom.jpg,e\n'
    (tmp_path / "t.csv").write_text(rows)
    source = make_source("table", root=tmp_path, options={"index": "t.csv"})
    assert labels(source) == {NFC: "a", NFD: "b", "tail.jpg ": "c", "tail.jpg": "d"}
    assert reasons(source)["\u212bngstrom.jpg"] == "ambiguous_name"


def test_a_list_takes_the_label_behind_the_file_that_is_there_and_no_comment(nasty):
    (nasty / "index").write_text(LINES)
    source = make_source("list_file", root=nasty, options={"index": "index"})
    assert labels(source) == {"jam/1.jpg": "Red Jam", "jam/my 2.jpg": "Jam", f"tea/{NFD}": "tea"}
    assert source.class_names == ["Jam", "Red Jam", "tea"]
    said = {aside.photo_id: aside.message for aside in source.set_aside() if aside.reason == "no_file"}
    assert "index, line 5 names a file that is not there" in said["tea/gone.jpg"]
    assert "set the option separator" in said["index, line 6"]


def test_a_list_bears_untidy_paths_and_names_that_look_like_comments(tmp_path):
    put(tmp_path, "a b/1.jpg", "#2.jpg", "3.jpg", "z", "a b.jpg")
    lines = "./a b/1.jpg Red Tea\r\n#2.jpg Tea\n# 3.jpg Tea\na\\\\x.jpg Tea\na b.jpg\nz b c\n"
    (tmp_path / "t.txt").write_text(lines)
    source = make_source("list_file", root=tmp_path, options={"index": "t.txt"})
    assert labels(source) == {"a b/1.jpg": "Red Tea", "#2.jpg": "Tea", "a b.jpg": None, "z": "b c"}
    assert reasons(source) == {"3.jpg": "no_row", "a/x.jpg": "no_file"}


def test_annotations_reject_a_nan_and_a_missing_key_row_by_row(nasty):
    (nasty / "index").write_text(json.dumps({"annotations": ROWS, "num_classes": 2}))
    source = make_source("annotations", root=nasty, options={"index": "index"})
    assert labels(source) == {"jam/1.jpg": "0", f"tea/{NFD}": "1"}
    said = reasons(source)
    assert [said[f"index, row {row}"] for row in (2, 4, 5)] == ["malformed_row", "no_path", "malformed_row"]


def test_a_missing_label_is_unlabelled_in_parquet_and_rejected_as_a_word(tmp_path):
    pl = pytest.importorskip("polars")
    put(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    pl.DataFrame({"path": ["1.jpg", "2.jpg", "3.jpg"], "label": [1.0, float("nan"), None]}).write_parquet(
        tmp_path / "t"
    )
    options = {"index": "t"}
    assert labels(make_source("table", root=tmp_path, options=options)) == {
        "1.jpg": "1",
        "2.jpg": None,
        "3.jpg": None,
    }
    (tmp_path / "t").write_text("path,label\n1.jpg,tea\n2.jpg,nan\n3.jpg,NULL\n")
    source = make_source("table", root=tmp_path, options=options)
    assert (source.class_names, Counter(reasons(source).values())) == (["tea"], {"missing_label": 2})
    assert len(make_source("table", root=tmp_path, options=options | {"missing": []})) == 3


@pytest.mark.parametrize(
    "names", [("Train", "VAL", "tEst"), ("train", "valid", "test"), ("TRAIN", "Validation", "Test")]
)
def test_split_folders_are_known_in_any_case(tmp_path, names):
    put(tmp_path, *(f"{name}/jam/{name}.jpg" for name in names), "extra/jam/1.jpg")
    source = make_source("image_folder", root=tmp_path)
    assert [(photo.label, photo.split) for photo in source.photos()] == [
        ("jam", s) for s in ("train", "val", "test")
    ]
    assert reasons(source) == {"extra/jam/1.jpg": "no_class"}


def test_two_folders_of_one_split_are_an_error(tmp_path):
    put(tmp_path, "train/jam/1.jpg", "val/jam/1.jpg", "Valid/jam/2.jpg")
    with pytest.raises(ValueError, match=r"one folder a split in .*, received Valid, val"):
        make_source("image_folder", root=tmp_path)


def test_folders_that_link_each_other_end(tmp_path):
    for one in "abcdefgh":
        put(tmp_path, f"{one}/1.jpg")
        for other in "abcdefgh":
            (tmp_path / one / other).symlink_to(tmp_path / other)
    listing = LocalFolder(tmp_path).listing()
    assert 8 <= len(listing.files) <= 8 * 65
    assert set(listing.rejected["reason"]) == {"link_loop"}


def test_a_photo_that_goes_after_it_was_listed_costs_itself_only(photo_folder, tmp_path):
    source = make_source("image_folder", root=photo_folder)
    (photo_folder / "jam/1.jpg").unlink()
    report = ingest(source, tmp_path / "store", num_workers=0, progress=False)
    assert (report.num_photos, report.reasons) == (5, {"unreadable": 1})


def test_ingest_stores_a_nasty_folder_and_lists_all_rejections(nasty, tmp_path, write_photo):
    write_photo(nasty / "jam/1.jpg")
    report = ingest(
        make_source("image_folder", root=nasty), tmp_path / "store", num_workers=0, progress=False
    )
    assert report.num_photos == 2  # and its copy through a link; the others hold no photo
    refused = load_quarantine(tmp_path / "store")
    assert report.num_photos + len(refused) == 16
    assert "tea/caf\\xe9.jpg" in refused["photo_id"].to_list()


def test_a_folders_digest_sees_photos_shot_again_and_not_where_it_lies(nasty, tmp_path):
    before = describe_watched(str(nasty))
    (nasty / "jam/.DS_Store").write_bytes(b"changed by looking at it")
    assert describe_watched(str(nasty)) == before
    moved = nasty.rename(tmp_path / "moved")
    (moved / "tea/loop").unlink()
    (moved / "tea/loop").symlink_to(moved)
    (moved / "tea/copy.jpg").unlink()
    (moved / "tea/copy.jpg").symlink_to(moved / "jam/1.jpg")
    assert describe_watched(str(moved)) == before
    os.utime(moved / "jam/1.jpg", ns=(1, 1))
    assert describe_watched(str(moved)) != before
