"""The layout of the AliProducts challenge (CVPR 2020): 50,030 SKU classes, millions of photos, JSON indexes.

train/<class_id>/<image_id>, val/<class_id>/<image_id> and a flat, unlabelled test/, named by train.json,
val.json and test.json = {"images": [{"class_id": "00000", "image_id": "1.jpg"}, ...]} (test.json without
class_id). Some files are palette PNGs with a jpg name, which `imaging` reads by their content.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from catalog.sources import FilePhoto, SourcePhoto

SPLITS = ("train", "val", "test")


class AliProductsSource:
    """Photos that the JSON indexes name; the classes are those of train.json, sorted."""

    layout = "aliproducts"

    def __init__(self, root: Path) -> None:
        self._root = root
        if not (root / "train.json").exists():
            raise FileNotFoundError(
                f"Expected train.json in {root.name}, found none: the layout is train.json with "
                "train/<class_id>/ and, where you have them, val.json with val/<class_id>/ and test.json "
                "with test/."
            )
        self._images = {
            split: _read_index(root / f"{split}.json", labelled=split != "test")
            for split in SPLITS
            if (root / f"{split}.json").exists()
        }
        self.class_names: list[str] = self._images["train"]["class_id"].unique().sort().to_list()
        self.coarse_of: dict[str, str] = {}
        self._check_classes()

    def __len__(self) -> int:
        return sum(len(images) for images in self._images.values())

    def photos(self) -> Iterator[SourcePhoto]:
        """The photos of train, val and test, each in the order of its index."""
        for split, images in self._images.items():
            for class_id, image_id in images.iter_rows():
                photo_id = f"{split}/{image_id}" if class_id is None else f"{split}/{class_id}/{image_id}"
                yield FilePhoto(photo_id=photo_id, label=class_id, split=split, path=self._root / photo_id)

    def _check_classes(self) -> None:
        for split, images in self._images.items():
            known = images["class_id"].is_null() | images["class_id"].is_in(self.class_names)
            if not known.all():
                strangers = images["class_id"].filter(~known).unique().sort().to_list()
                raise ValueError(
                    f"{split}.json names {len(strangers)} classes that train.json lacks, first "
                    f"{', '.join(strangers[:5])}: the two files are not of one data set."
                )


def _read_index(path: Path, *, labelled: bool) -> pl.DataFrame:
    """Columns class_id (five digits, null in an unlabelled index) and image_id. Raises ValueError."""
    text = pl.String()
    fields = [pl.Field("class_id", text)] if labelled else []
    images_type = pl.List(pl.Struct([*fields, pl.Field("image_id", text)]))
    try:
        images = pl.read_json(path, schema={"images": images_type})["images"].explode().struct.unnest()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(
            f'{path.name}: expected {{"images": [{{"class_id": .., "image_id": ..}}, ..]}}, received '
            f"something else ({error}). Fetch the file again."
        ) from error
    class_id = pl.col("class_id").str.zfill(5) if labelled else pl.lit(None, text).alias("class_id")
    images = images.select(class_id, "image_id")
    if images.is_empty():
        raise ValueError(f"{path.name}: expected a list of images, received none. Fetch the file again.")
    columns = ["class_id", "image_id"] if labelled else ["image_id"]
    incomplete = images.filter(pl.any_horizontal(pl.col(columns).is_null()))
    if len(incomplete):
        raise ValueError(
            f"{path.name}: expected {' and '.join(columns)} in every image, {len(incomplete)} of "
            f"{len(images)} lack one. Correct or remove them."
        )
    return images
