"""The layout of the AliProducts challenge (CVPR 2020): 50,030 SKU classes, millions of photos, JSON indexes.

train/<class_id>/<image_id>, val/<class_id>/<image_id> and a flat, unlabelled test/, named by train.json,
val.json and test.json = {"images": [{"class_id": "00000", "image_id": "1.jpg"}, ...]} (test.json without
class_id). Some files are palette PNGs with a jpg name, which `imaging` reads by their content.
"""

from __future__ import annotations

import io

import polars as pl

from catalog.sources.folder import Folder, read_index
from catalog.sources.index import SPLITS, IndexedSource, check_rows
from catalog.sources.product_tree import read_product_tree

_TREE = "product_tree.json"


def open_aliproducts(folder: Folder) -> IndexedSource:
    """The photos of train, val and test, in the order of their indexes; the classes are train.json's."""
    if not folder.has("train.json"):
        raise FileNotFoundError(
            f"Expected train.json in {folder.name}, found none: the layout is train.json with "
            "train/<class_id>/ and, where you have them, val.json with val/<class_id>/ and test.json "
            "with test/."
        )
    images = {
        split: _read_images(read_index(folder, f"{split}.json"), split=split)
        for split in SPLITS
        if folder.has(f"{split}.json")
    }
    class_names: list[str] = images["train"]["label"].unique().sort().to_list()
    _check_classes(images, class_names=class_names)
    tree = read_product_tree(folder.read(_TREE), class_names=class_names) if folder.has(_TREE) else {}
    checked = check_rows(pl.concat(images.values()))
    return IndexedSource("aliproducts", folder, checked, class_names=class_names, coarse_of=tree)


def _check_classes(images: dict[str, pl.DataFrame], *, class_names: list[str]) -> None:
    for split, rows in images.items():
        strangers = rows.filter(~rows["label"].is_in(class_names))["label"].unique().sort()
        if len(strangers):
            raise ValueError(
                f"{split}.json names {len(strangers)} classes that train.json lacks, first "
                f"{', '.join(strangers[:5])}: the two files are not of one data set."
            )


def _read_images(content: bytes, *, split: str) -> pl.DataFrame:
    """Columns path, label (five digits, null in an unlabelled index), split and where. Raises ValueError."""
    fields = ["image_id"] if split == "test" else ["class_id", "image_id"]
    images_type = pl.List(pl.Struct({field: pl.String() for field in fields}))
    try:
        images = pl.read_json(io.BytesIO(content), schema={"images": images_type})["images"]
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(
            f'{split}.json: expected {{"images": [{{"class_id": .., "image_id": ..}}, ..]}}, received '
            f"something else ({error}). Fetch the file again."
        ) from error
    rows = images.explode().struct.unnest()
    if rows.is_empty():
        raise ValueError(f"{split}.json: expected a list of images, received none. Fetch the file again.")
    incomplete = rows.filter(pl.any_horizontal(pl.all().is_null()))
    if len(incomplete):
        raise ValueError(
            f"{split}.json: expected {' and '.join(fields)} in every image, {len(incomplete)} of "
            f"{len(rows)} lack one. Correct or remove them."
        )
    label = pl.lit(None, pl.String) if split == "test" else pl.col("class_id").str.zfill(5)
    rows = rows.select(label=label, image_id="image_id")
    path = pl.concat_str(pl.lit(split), "label", "image_id", separator="/", ignore_nulls=True)
    return rows.select(path=path, label="label", split=pl.lit(split), where=pl.lit(f"{split}.json"))
