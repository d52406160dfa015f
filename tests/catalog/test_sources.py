from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from catalog.ingest import ingest
from catalog.photo_store import PhotoStore
from catalog.sources import make_source
from imaging.decode import decode

GROCERY = Path(__file__).parents[2] / ".." / "shared" / "datasets" / "grocery-store"
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
    (grocery / "val.txt").write_text("val/a/0.jpg, 1, 1\nval/a/1.jpg, 2, 1\n")
    with pytest.raises(ValueError, match=r"val\.txt, line 2.*class id below 2"):
        make_source("grocery_store", root=grocery)


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


def test_aliproducts_palette_png_named_jpg_enters_the_store(aliproducts, tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(aliproducts / "train/00000/1.jpg", "PNG")
    report = ingest(make_source("aliproducts", root=aliproducts), tmp_path / "store", num_workers=0)
    assert report.num_photos == 4
    pixels = decode(PhotoStore(tmp_path / "store").read(0))
    assert pixels.tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_aliproducts_without_val_and_test_is_fine(aliproducts):
    for split in ("val", "test"):
        (aliproducts / f"{split}.json").unlink()
    assert len(make_source("aliproducts", root=aliproducts)) == 2


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ('{"images": 3}', 'expected {"images"'),
        ('{"images": []}', "received none"),
        ('{"images": [{"class_id": "00001"}]}', "1 of 1 lack one"),
        ('{"images": [{"class_id": "00001", "image_id": "1.jpg"}]}', r"val\.json names 1 classes.*00007"),
    ],
)
def test_aliproducts_says_what_is_wrong_with_an_index(aliproducts, index, words):
    (aliproducts / "train.json").write_text(index)
    with pytest.raises(ValueError, match=words):
        make_source("aliproducts", root=aliproducts)


def test_an_unknown_layout_is_refused_with_the_nearest_one(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'grocery_store'\?.*synthetic, grocery_store"):
        make_source("grocery-store", root=tmp_path)


def test_an_unknown_option_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"'num_sku'.*did you mean 'num_skus'"):
        make_source("synthetic", options={"num_sku": 3})
    with pytest.raises(ValueError, match="takes no options"):
        make_source("image_folder", options={"seed": 3})


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        make_source("image_folder", root=tmp_path / "nowhere")
