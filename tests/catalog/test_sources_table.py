from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from catalog.sources import make_source, read_photos

DATASETS = Path(os.environ.get("AISLE_DATASETS", Path(__file__).parents[2] / ".." / "shared" / "datasets"))


@pytest.fixture
def shop(tmp_path, write_photo):
    """Three photos in tmp_path/photos; the test writes the table."""
    for number in (1, 2, 3):
        write_photo(tmp_path / f"photos/{number}.jpg")
    return tmp_path


def open_table(root: Path, content: str | bytes = "", **options):
    if content:
        (root / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return make_source("table", root=root, options={"index": "t.csv", "folder": "photos", **options})


def labels(source) -> dict[str, str | None]:
    return {photo.photo_id: photo.label for photo in source.photos()}


def reasons(source) -> dict[str, str]:
    return {aside.photo_id: aside.reason for aside in source.set_aside()}


def test_clothing_has_its_known_counts():
    root = DATASETS / "clothing"
    if not root.is_dir():
        pytest.skip("the clothing data set is not beside the repository (README says how to get it)")
    options = {"path_column": "image", "group_column": "sender_id", "folder": "images", "suffix": ".jpg"}
    source = make_source("table", root=root, options={"index": "images.csv", **options})
    photos = list(source.photos())
    assert len(source) == len(photos) == 5403 - 5
    assert Counter(reasons(source).values()) == {"no_row": 358, "no_file": 5}
    assert None not in [photo.stamp() for photo in photos]
    dropped = {"index": "images.csv", "drop_labels": ["Not sure", "Other", "Skip"], **options}
    source = make_source("table", root=root, options=dropped)
    assert Counter(reasons(source).values()) == {"no_row": 358, "no_file": 5, "dropped_label": 302}
    assert (len(source), len(source.class_names)) == (5403 - 307, 17)


def test_columns_become_facts_of_the_photo(shop):
    header = "file,sku,line,sent_by,part,truth\n"
    rows = "1.jpg,tea,drinks,ann,train,tea\n2.jpg,jam,spreads,bob,test,tea\n3.jpg,,,ann,,\n"
    columns = {"path_column": "file", "label_column": "sku", "coarse_column": "line"}
    others = {"group_column": "sent_by", "split_column": "part", "true_label_column": "truth"}
    source = open_table(shop, header + rows, **columns, **others)
    facts = [(p.label, p.coarse_label, p.group, p.split, p.true_label) for p in source.photos()]
    assert facts == [
        ("tea", "drinks", "ann", "train", "tea"),
        ("jam", "spreads", "bob", "test", "tea"),
        (None, None, "ann", None, None),
    ]
    assert (source.class_names, source.coarse_of) == (["jam", "tea"], {"jam": "spreads", "tea": "drinks"})
    assert not reasons(source)


def test_parquet_is_known_by_its_content_and_numbers_become_text(shop):
    paths, numbers = ["1", "2", "3", " "], [10.0, None, 9.0, 9.0]
    pl.DataFrame({"path": paths, "label": numbers}).write_parquet(shop / "t.csv")
    source = open_table(shop, suffix=".jpg")
    assert reasons(source) == {"t.csv, row 4": "no_path"}
    assert labels(source) == {"photos/1.jpg": "10", "photos/2.jpg": None, "photos/3.jpg": "9"}
    assert source.class_names == ["9", "10"]


def test_csv_keeps_leading_zeros_and_bears_a_byte_order_mark_quotes_and_semicolons(shop):
    source = open_table(shop, '\ufeffpath;label\r\n1.jpg;007\r\n2.jpg;"Tea; ""green"""\r\n', separator=";")
    assert labels(source) == {"photos/1.jpg": "007", "photos/2.jpg": 'Tea; "green"'}


def test_paths_of_other_machines_find_their_files(shop):
    rows = ["sub\\..\\1.jpg,a", ".//2.jpg ,a", f"{shop}/photos/3.jpg,b"]
    source = open_table(shop, "path,label\n" + "\n".join(rows) + "\n")
    assert labels(source) == {"photos/1.jpg": "a", "photos/2.jpg": "a", "photos/3.jpg": "b"}
    assert all(isinstance(content, bytes) for content in read_photos(list(source.photos())))


def test_a_path_outside_the_root_or_none_is_set_aside_with_its_row(shop):
    source = open_table(shop, "path,label\n1.jpg,a\n../../x.jpg,a\n/etc/passwd,a\n,a\nC:\\x.jpg,a\n")
    assert labels(source) == {"photos/1.jpg": "a"}
    messages = {aside.photo_id: aside.message for aside in source.set_aside() if aside.reason != "no_row"}
    assert list(messages) == ["../x.jpg", "/etc/passwd", "C:/x.jpg", "t.csv, line 5"]
    assert messages["/etc/passwd"].startswith("t.csv, line 4 names a file outside the data set's root")


def test_a_repeated_row_counts_once_and_contradicting_rows_are_set_aside(shop):
    source = open_table(shop, "path,label\n1.jpg,a\n1.jpg,a\n2.jpg,a\n./2.jpg,b\n3.jpg,b\n")
    assert labels(source) == {"photos/1.jpg": "a", "photos/3.jpg": "b"}
    (aside,) = source.set_aside()
    assert (aside.photo_id, aside.reason) == ("photos/2.jpg", "contradicting_rows")
    assert "label a, b" in aside.message


def test_dropped_labels_are_set_aside_and_a_mistyped_one_is_named(shop, caplog):
    source = open_table(shop, "path,label\n1.jpg,tea\n2.jpg,Skip\n3.jpg,tea\n", drop_labels=["Skip", "taa"])
    assert reasons(source) == {"photos/2.jpg": "dropped_label"}
    assert source.class_names == ["tea"]
    assert "'taa'; did you mean 'tea'?" in caplog.text


@pytest.mark.parametrize(
    ("unlisted", "num_photos", "aside"),
    [
        ("set_aside", 1, ["hidden", "no_row", "no_row"]),
        ("unlabelled", 3, ["hidden"]),
        ("ignore", 1, []),
    ],
)
def test_files_without_a_row_go_where_the_option_says(shop, unlisted, num_photos, aside):
    (shop / "photos/.thumbs").write_text("hidden")
    source = open_table(shop, "path,label\n2.jpg,a\n", unlisted=unlisted)
    assert len(source) == num_photos
    assert list(reasons(source).values()) == aside


def test_a_table_whose_paths_fit_no_file_shows_one_of_each(shop):
    with pytest.raises(ValueError, match=r"none of 1: .*'photos/7', .*'photos/1\.jpg'.*folder and suffix"):
        open_table(shop, "path,label\n7,a\n")
    with pytest.raises(ValueError, match="'photo' has no files"):
        open_table(shop, folder="photo")


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("path,lable\n1.jpg,a\n", {}, r"column 'label'; did you mean 'lable'\?.*path, lable"),
        ("path;label\n1.jpg;a\n", {}, "set separator"),
        ("path,label\n", {}, "expected a row a photo, received none"),
        ("path,label\n1.jpg,a,b\n", {}, r"t\.csv, line 2: expected 2 fields as in the header, received 3"),
        (
            "path,label\n1.jpg,caf\xe9\n".encode("latin-1"),
            {},
            r"line 2: expected UTF-8, received 'caf\\xe9'",
        ),
        ("path,label\n1.jpg,a\n".encode("utf-16"), {}, "received UTF-16 or another kind of file"),
        (b"PAR1 and no more", {}, "or Parquet, received something else"),
        (
            "path,label,part\n1.jpg,a,dev\n2.jpg,a,dev\n",
            {"split_column": "part"},
            "line 2: expected a split .* 'dev'",
        ),
        ("path,label,c\n1.jpg,a,x\n2.jpg,a,y\n", {"coarse_column": "c"}, "received x, y for 'a'"),
        (
            "path,label\n,a\n",
            {"unlisted": "ignore"},
            r"none that can be used\. The first: t\.csv, line 2 has no",
        ),
        ("", {"index": "t.cvs"}, r"index 't\.cvs' in .*did you mean 't\.csv'"),
        ("path,label\n1.jpg,a\n", {"sufix": ""}, r"table: sufix: no such key; did you mean 'suffix'"),
        ("path,label\n1.jpg,a\n", {"suffix": 3}, "suffix: expected a valid string, received 3"),
        (
            "path,label\n1.jpg,a\n",
            {"drop_labels": "Skip"},
            "expected a valid list, received 'Skip'",
        ),
        ("path,label\n1.jpg,a\n", {"unlisted": "drop"}, "expected 'set_aside', 'unlabelled' or 'ignore'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(shop, content, options, words):
    (shop / "t.csv").write_text("path,label\n")
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        open_table(shop, content, **options)


def test_a_missing_option_is_named(tmp_path):
    with pytest.raises(ValueError, match="table: index: this key is missing"):
        make_source("table", root=tmp_path)
