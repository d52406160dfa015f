from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
from PIL import Image

from catalog.sources import make_source, read_photos
from imaging.decode import decode

DATASETS = Path(os.environ.get("AISLE_DATASETS", Path(__file__).parents[2] / ".." / "shared" / "datasets"))
GROCERY = DATASETS / "grocery-store"
CLASSES = """Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)
Oat-Milk,1,Milk,1
Apple,0,Fruit,0
"""


@pytest.fixture
def grocery(tmp_path, write_photo):
    (tmp_path / "classes.csv").write_text(CLASSES)
    for split, lines in {"train": ["0, 0", "1, 1"], "val": ["1, 1"], "test": ["0, 0"]}.items():
        rows = [f"{split}/a/{number}.jpg, {line}" for number, line in enumerate(lines)]
        (tmp_path / f"{split}.txt").write_text("\n".join(rows) + "\n")
        for row in rows:
            write_photo(tmp_path / row.split(",")[0])
    return tmp_path


def test_grocery_store_reads_names_splits_and_coarse_classes(grocery):
    source = make_source("grocery_store", root=grocery)
    photos = list(source.photos())
    assert source.class_names == ["Apple", "Oat-Milk"]
    assert len(source) == len(photos) == 4
    assert [(p.photo_id, p.label, p.coarse_label, p.split) for p in photos][1:3] == [
        ("train/a/1.jpg", "Oat-Milk", "Milk", "train"),
        ("val/a/0.jpg", "Oat-Milk", "Milk", "val"),
    ]
    assert photos[0].read() == (grocery / "train/a/0.jpg").read_bytes()


def test_grocery_store_names_the_file_and_line_that_is_wrong(grocery):
    (grocery / "val.txt").write_text("val/a/0.jpg, 1, 1\n\nval/a/1.jpg, 2, 1\n")
    source = make_source("grocery_store", root=grocery)
    (aside,) = source.set_aside()
    assert (len(source), aside.photo_id) == (4, "val.txt, line 3")
    assert "class id below 2 (classes.csv), received 'val/a/1.jpg, 2, 1'" in aside.message


def test_grocery_store_as_published_has_its_known_counts():
    if not GROCERY.is_dir():
        pytest.skip("the Grocery Store Dataset is not beside the repository (README says how to get it)")
    source = make_source("grocery_store", root=GROCERY)
    splits = [photo.split for photo in source.photos()]
    assert [splits.count(split) for split in ("train", "val", "test")] == [2640, 296, 2485]
    assert len(source.class_names) == 81
    assert len(set(source.coarse_of.values())) == 43


def test_image_folder_takes_the_folders_name_as_label(photo_folder):
    (photo_folder / "README.txt").write_text("not in a class")
    (photo_folder / "jam" / ".hidden").write_text("left out")
    source = make_source("image_folder", root=photo_folder)
    photos = [(photo.photo_id, photo.label, photo.split) for photo in source.photos()]
    assert source.class_names == ["jam", "tea"]
    assert len(source) == 6
    assert photos[0] == ("jam/0.jpg", "jam", None)
    assert photos == sorted(photos)


def test_image_folder_with_a_train_folder_has_splits(tmp_path, write_photo):
    for name in ("train/jam/1.jpg", "train/tea/deeper/2.jpg", "val/jam/3.jpg", "test/4.jpg"):
        write_photo(tmp_path / name)
    photos = make_source("image_folder", root=tmp_path).photos()
    assert [(photo.photo_id, photo.label, photo.split) for photo in photos] == [
        ("train/jam/1.jpg", "jam", "train"),
        ("train/tea/deeper/2.jpg", "tea", "train"),
        ("val/jam/3.jpg", "jam", "val"),
        ("test/4.jpg", None, "test"),
    ]


def test_image_folder_refuses_a_class_folder_beside_train(tmp_path, write_photo):
    write_photo(tmp_path / "train/jam/1.jpg")
    write_photo(tmp_path / "tea/2.jpg")
    with pytest.raises(ValueError, match="received tea"):
        make_source("image_folder", root=tmp_path)


@pytest.fixture
def aliproducts(tmp_path, write_photo):
    index = {
        "train": [{"class_id": "00000", "image_id": "1.jpg"}, {"class_id": "00007", "image_id": "2.jpg"}],
        "val": [{"class_id": "00007", "image_id": "3.jpg"}],
        "test": [{"image_id": "9.jpg"}],
    }
    for split, images in index.items():
        (tmp_path / f"{split}.json").write_text(json.dumps({"images": images}))
        for image in images:
            write_photo(tmp_path / split / image.get("class_id", "") / image["image_id"])
    return tmp_path


def test_aliproducts_reads_the_indexes_and_leaves_test_unlabelled(aliproducts):
    source = make_source("aliproducts", root=aliproducts)
    assert source.class_names == ["00000", "00007"]
    assert [(photo.photo_id, photo.label, photo.split) for photo in source.photos()] == [
        ("train/00000/1.jpg", "00000", "train"),
        ("train/00007/2.jpg", "00007", "train"),
        ("val/00007/3.jpg", "00007", "val"),
        ("test/9.jpg", None, "test"),
    ]


def test_aliproducts_palette_png_named_jpg_is_read_by_its_content(aliproducts):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(aliproducts / "train/00000/1.jpg", "PNG")
    first = next(make_source("aliproducts", root=aliproducts).photos())
    assert decode(first.read()).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_aliproducts_takes_coarse_classes_from_the_product_tree(aliproducts):
    (aliproducts / "product_tree.json").write_text('{"food": {"jam": ["00000"], "tea": [7]}}')
    source = make_source("aliproducts", root=aliproducts)
    assert source.coarse_of == {"00000": "food/jam", "00007": "food/tea"}
    assert [photo.coarse_label for photo in source.photos()] == ["food/jam", "food/tea", "food/tea", None]


def test_aliproducts_without_val_and_test_is_fine(aliproducts):
    for split in ("val", "test"):
        (aliproducts / f"{split}.json").unlink()
    assert len(make_source("aliproducts", root=aliproducts)) == 2


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ('{"images": 3}', 'expected {"images"'),
        ('{"images": []}', "received none"),
        (
            '{"images": [{"class_id": "00001"}]}',
            r"none that can be used.*row 1: expected class_id and image_id",
        ),
        ('{"images": [{"class_id": "00001", "image_id": "1.jpg"}]}', r"val\.json names 1 classes.*00007"),
    ],
)
def test_aliproducts_says_what_is_wrong_with_an_index(aliproducts, index, words):
    (aliproducts / "train.json").write_text(index)
    with pytest.raises(ValueError, match=words):
        make_source("aliproducts", root=aliproducts)


def test_an_unknown_layout_is_refused_with_the_nearest_one(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'grocery_store'\?.*synthetic, image_folder"):
        make_source("grocery-store", root=tmp_path)


def test_an_unknown_option_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"num_sku: .*did you mean 'num_skus'"):
        make_source("synthetic", options={"num_sku": 3})
    with pytest.raises(ValueError, match="takes no options"):
        make_source("image_folder", options={"seed": 3})


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_source("image_folder", root=tmp_path / "nowhere")


def test_a_local_photos_stamp_changes_with_its_file(photo_folder):
    (photo, *_) = make_source("image_folder", root=photo_folder).photos()
    before = photo.stamp()
    assert before == photo.stamp()
    (photo_folder / "jam/0.jpg").write_bytes(b"another")
    assert photo.stamp() != before
    (photo_folder / "jam/0.jpg").unlink()
    assert photo.stamp() is None


def test_a_drawn_photos_stamp_changes_with_what_is_drawn():
    def stamps(**options):
        return [photo.stamp() for photo in make_source("synthetic", options=options).photos()]

    small = {"num_skus": 2, "photos_head": 3, "photos_tail": 3, "photos_val": 0, "photos_test": 0}
    assert stamps(**small) == stamps(**small)
    assert len(set(stamps(**small))) == 6
    assert not set(stamps(**small)) & set(stamps(**small, seed=1))


def test_a_photo_that_cannot_be_read_does_not_stop_the_others(photo_folder):
    photos = list(make_source("image_folder", root=photo_folder).photos())
    (photo_folder / "jam/1.jpg").unlink()
    answers = read_photos(photos)
    assert isinstance(answers[1], FileNotFoundError)
    assert answers[0] == (photo_folder / "jam/0.jpg").read_bytes()
    assert answers[2] == (photo_folder / "jam/2.jpg").read_bytes()


def test_photos_are_small_when_they_are_sent_to_workers(photo_folder):
    photos = list(make_source("image_folder", root=photo_folder).photos())
    one, all_six = len(pickle.dumps(photos[:1])), len(pickle.dumps(photos))
    assert pickle.loads(pickle.dumps(photos)) == photos
    assert (all_six - one) / 5 < 120  # bytes: the root and the names of the fields are sent once


def test_a_disk_that_fails_is_an_error_and_not_a_folder_without_photos(photo_folder, monkeypatch):
    scan = os.scandir

    def fail(path):
        if str(path).endswith("tea"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return scan(path)

    monkeypatch.setattr("catalog.sources.walk.os.scandir", fail)
    with pytest.raises(ValueError, match="tea: Input/output error"):
        make_source("image_folder", root=photo_folder)
