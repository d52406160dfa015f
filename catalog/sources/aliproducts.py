"""The layout of the AliProducts challenge (CVPR 2020): 50,030 SKU classes, millions of photos, JSON indexes.

train/<class_id>/<image_id>, val/<class_id>/<image_id> and a flat, unlabelled test/, named by train.json,
val.json and test.json = {"images": [{"class_id": "00000", "image_id": "1.jpg"}, ...]} (test.json without
class_id). Some files are palette PNGs with a jpg name, which `imaging` reads by their content.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from catalog.sources.folder import Folder, read_index
from catalog.sources.index import IndexedSource, check_rows, put_aside
from catalog.sources.json_rows import JsonRows, as_number, as_text, read_json
from catalog.sources.matching import PLACE
from catalog.sources.product_tree import read_product_tree
from contracts.values import GIVEN_SPLITS

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
        for split in GIVEN_SPLITS
        if folder.has(f"{split}.json")
    }
    class_names: list[str] = images["train"].rows["label"].unique().sort().to_list()
    strange = [_split_off_strangers(images, split, class_names=class_names) for split in images]
    tree = read_product_tree(folder.read(_TREE), class_names=class_names) if folder.has(_TREE) else {}
    checked = check_rows(
        pl.concat(rows for rows, _ in strange),
        folder,
        indexes=[f"{split}.json" for split in images] + [_TREE] * folder.has(_TREE),
        rejected=pl.concat([*(read.rejected for read in images.values()), *(aside for _, aside in strange)]),
    )
    return IndexedSource("aliproducts", folder, checked, class_names=class_names, coarse_of=tree)


def _split_off_strangers(
    images: dict[str, JsonRows], split: str, *, class_names: list[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of classes that train.json has, the others as ASIDE. Raises ValueError where all are."""
    rows = images[split].rows
    known = rows["label"].is_null() | rows["label"].is_in(class_names)
    strangers = rows.filter(~known)
    names = strangers["label"].unique().sort()
    if len(strangers) == len(rows):
        raise ValueError(
            f"{split}.json names {len(names)} classes that train.json lacks, first "
            f"{', '.join(names[:5])}: the two files are not of one data set."
        )
    message = pl.format("{}: its class {} is not in train.json, so it is not learnt.", PLACE, "label")
    return rows.filter(known), put_aside(strangers, reason="unknown_class", message=message)


def _read_images(content: bytes, *, split: str) -> JsonRows:
    """Rows with path, label (five digits, null in test.json), split and where. Raises ValueError."""
    name = f"{split}.json"

    def judge(class_id: Any, image_id: Any) -> tuple[str, str | None]:
        image = as_text(image_id, field="image_id")
        label = None if split == "test" else _class_id(class_id)
        if image is None or (label is None and split != "test"):
            raise ValueError(f"expected {fields}, received class_id {class_id!r}, image_id {image_id!r}")
        return "/".join(part for part in (split, label, image) if part is not None), label

    fields = "image_id" if split == "test" else "class_id and image_id"
    form = '{"images": [{"class_id": .., "image_id": ..}, ..]}'
    read = read_json(
        content, name=name, key="images", fields=("class_id", "image_id"), form=form, judge=judge
    )
    if read.rows.is_empty():
        first = f" The first: {read.rejected['message'][0]}" if len(read.rejected) else ""
        raise ValueError(
            f"{name}: expected a list of images with {fields}, received none that can be used.{first} Fetch "
            "the file again."
        )
    return replace(read, rows=read.rows.with_columns(split=pl.lit(split), where=pl.lit(name), exact="path"))


def _class_id(value: Any) -> str | None:
    """Five digits, as the class's folder has them; a number is one as well."""
    text = as_text(value, field="class_id") if isinstance(value, str) else as_number(value, field="class_id")
    return None if text in (None, "") else str(text).zfill(5)
