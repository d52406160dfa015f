"""A source of the real photos in ../shared/datasets, as many as a benchmark asks for."""

import os
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from catalog.sources import FilePhoto, SetAside

DATASETS = Path(os.environ.get("AISLE_DATASETS", "../shared/datasets"))


def find_photos() -> list[str]:
    """The photos of the grocery and the clothing data set (about 11,000), relative to DATASETS, sorted."""
    folders = [DATASETS / "grocery-store" / "dataset", DATASETS / "clothing" / "images"]
    paths = [path for folder in folders for kind in ("*.jpg", "*.png") for path in folder.rglob(kind)]
    if not paths:
        raise SystemExit(f"No photos in {DATASETS}: set AISLE_DATASETS to the folder of the data sets.")
    return sorted(path.relative_to(DATASETS).as_posix() for path in paths)


class RealPhotos:
    """`count` photos under ids of their own; the files repeat where there are fewer."""

    layout = "image_folder"

    def __init__(self, paths: list[str], count: int) -> None:
        self.class_names: list[str] = ["photo"]
        self.coarse_of: dict[str, str] = {}
        self._paths, self._count = paths, count

    def __len__(self) -> int:
        return self._count

    def photos(self) -> Iterator[FilePhoto]:
        """File after file, again and again, under ids as AliProducts has them."""
        for number, path in enumerate(islice(cycle(self._paths), self._count)):
            photo_id = f"train/{number % 50_030:05d}/{number:07d}.jpg"
            yield FilePhoto(photo_id=photo_id, label="photo", root=str(DATASETS), path=path)

    def set_aside(self) -> Iterator[SetAside]:
        """Nothing."""
        return iter(())
