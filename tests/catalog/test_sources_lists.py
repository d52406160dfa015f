from __future__ import annotations

import json
import logging

import pytest

from catalog.sources import make_source
from catalog.sources.product_tree import read_product_tree


def touch(root, *names: str) -> None:
    """Files under these names; no test of this module decodes them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"photo")


def photos(source) -> list[tuple[str, str | None, str | None]]:
    return [(photo.photo_id, photo.label, photo.split) for photo in source.photos()]


def test_a_list_files_label_is_its_last_field_and_numbers_sort_as_numbers(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/my photo.jpg", "a/2.jpg")
    (tmp_path / "all.txt").write_text("a/1.jpg 10\n\na/my photo.jpg   9\r\na/2.jpg\n")
    source = make_source("list_file", root=tmp_path, options={"index": "all.txt"})
    assert photos(source) == [("a/1.jpg", "10", None), ("a/my photo.jpg", "9", None), ("a/2.jpg", None, None)]
    assert source.class_names == ["9", "10"]


def test_list_files_of_splits_share_their_classes(tmp_path):
    touch(tmp_path, *(f"photos/{number}.jpg" for number in (1, 2, 3)))
    for split, line in {"train": "1.jpg tea\n", "val": "2.jpg jam\n", "test": "3.jpg\n"}.items():
        (tmp_path / f"{split}.txt").write_text(line)
    options = {"train": "train.txt", "val": "val.txt", "test": "test.txt", "folder": "photos/"}
    source = make_source("list_file", root=tmp_path, options=options)
    assert photos(source) == [
        ("photos/1.jpg", "tea", "train"),
        ("photos/2.jpg", "jam", "val"),
        ("photos/3.jpg", None, "test"),
    ]
    assert source.class_names == ["jam", "tea"]


def test_a_separator_keeps_spaces_in_paths_and_labels(tmp_path):
    touch(tmp_path, "my 1.jpg", "my 2.jpg")
    (tmp_path / "all.txt").write_text("my 1.jpg\tgreen tea\nmy 2.jpg\n")
    source = make_source("list_file", root=tmp_path, options={"index": "all.txt", "separator": "\t"})
    assert photos(source) == [("my 1.jpg", "green tea", None), ("my 2.jpg", None, None)]


def test_a_photo_in_train_and_test_is_set_aside(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "train.txt").write_text("1.jpg tea\n2.jpg tea\n")
    (tmp_path / "test.txt").write_text("1.jpg tea\n")
    source = make_source("list_file", root=tmp_path, options={"train": "train.txt", "test": "test.txt"})
    assert photos(source) == [("2.jpg", "tea", "train")]
    (aside,) = source.set_aside()
    assert aside.message == (
        "train.txt, line 1 and later rows for it contradict each other: split train, test. Keep the right "
        "one."
    )


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"\n", {"index": "all.txt"}, "all.txt: expected a line `path label` a photo"),
        (b"\xff", {"index": "all.txt"}, "expected text in UTF-8"),
        (b"1.jpg a\n", {}, "either the option index, or a file for train"),
        (b"1.jpg a\n", {"index": "all.txt", "test": "all.txt"}, "either the option index"),
        (b"1.jpg a\n", {"index": "al.txt"}, r"did you mean 'all\.txt'"),
        (b"1.jpg a\n", {"index": "all.txt", "separator": ""}, "received an empty one"),
    ],
)
def test_what_is_wrong_with_a_list_file_is_said(tmp_path, content, options, words):
    (tmp_path / "all.txt").write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        make_source("list_file", root=tmp_path, options=options)


def annotation(category_id: int | None, fpath: str | None) -> dict[str, object]:
    return {"category_id": category_id, "fpath": fpath}


def test_annotations_name_all_classes_with_leading_zeros(tmp_path):
    touch(tmp_path, "val/00000/1.jpg", "2.jpg", "test/3.jpg")
    rows = [annotation(0, "/val/00000/1.jpg"), annotation(10, f"{tmp_path}/2.jpg"), {"fpath": "/test/3.jpg"}]
    (tmp_path / "all.json").write_text(json.dumps({"annotations": rows, "num_classes": 11}))
    source = make_source("annotations", root=tmp_path, options={"index": "all.json"})
    assert photos(source) == [
        ("val/00000/1.jpg", "00", None),
        ("2.jpg", "10", None),
        ("test/3.jpg", None, None),
    ]
    assert source.class_names == [f"{number:02d}" for number in range(11)]


def test_annotations_set_aside_what_has_no_class_no_path_or_another_root(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    rows = [annotation(0, "/1.jpg"), annotation(3, "/2.jpg"), annotation(1, None), annotation(1, "/../x.jpg")]
    (tmp_path / "all.json").write_text(json.dumps({"annotations": rows, "num_classes": 3}))
    source = make_source("annotations", root=tmp_path, options={"index": "all.json"})
    assert photos(source) == [("1.jpg", "0", None)]
    assert {aside.photo_id: aside.reason for aside in source.set_aside()} == {
        "../x.jpg": "outside_root",
        "all.json, row 3": "no_path",
        "2.jpg": "unknown_class",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"annotations": 3}', "received something else"),
        ("{", "received something else"),
        ('{"annotations": [], "num_classes": 3}', "received 0 annotations"),
        ('{"annotations": [{"category_id": 0, "fpath": "/1.jpg"}]}', "num_classes None"),
        (
            '{"annotations": [{"category_id": 0, "fpath": "/1.jpg"}], "num_classes": 4}',
            "with one num_classes",
        ),
    ],
)
def test_what_is_wrong_with_annotations_is_said(tmp_path, content, words):
    (tmp_path / "train.json").write_text(
        '{"annotations": [{"category_id": 0, "fpath": "/0.jpg"}], "num_classes": 3}'
    )
    (tmp_path / "val.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        make_source("annotations", root=tmp_path, options={"train": "train.json", "val": "val.json"})


CLASSES = ("00000", "00001", "00002")


@pytest.mark.parametrize(
    "tree",
    [
        {"food": {"jam": ["00000", 1], "tea": [2, 77]}},
        {"food": {"jam": {"00000": None, "1": "Red"}, "tea": {"2": {}}}},
        {"children": [{"name": "food", "children": [
            {"name": "jam", "children": [{"class_id": "00000"}, {"class_id": 1}]},
            {"name": "tea", "children": ["00002"]},
        ]}]},
        {"00000": "food/jam", "00001": "food/jam", "00002": "food/tea"},
    ],
)  # fmt: skip
def test_a_product_tree_is_read_in_its_likely_forms(tree):
    coarse_of = read_product_tree(json.dumps(tree).encode(), class_names=CLASSES)
    assert coarse_of == {"00000": "food/jam", "00001": "food/jam", "00002": "food/tea"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"jam": ["strawberry"]}', "'strawberry' under jam: coarse classes stay empty"),
        ('[{"sku": "a"}]', "'sku' under its top"),
        ("no json", "found Expecting value"),
        ("[" * 100_000, "coarse classes stay empty"),
    ],
)
def test_a_product_tree_of_another_form_is_a_warning(content, words, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_product_tree(content.encode(), class_names=CLASSES) == {}
    assert words in caplog.text


def test_a_class_with_two_parents_or_none_has_no_coarse_class(caplog):
    tree = b'{"jam": ["00000", "00001"], "tea": ["00001"]}'
    assert read_product_tree(tree, class_names=CLASSES) == {"00000": "jam"}
    assert "1 of 3 classes have one parent" in caplog.text
