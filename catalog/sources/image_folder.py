"""A folder a class: how most companies hand over photos.

Either root/<class>/<photo>, or root/train/<class>/<photo> with val and test beside it, in upper or lower
case; valid and validation count as val. Photos that lie directly in a split's folder have no label. A folder
without a file makes no class.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import polars as pl

from catalog.sources import FilePhoto, SetAside, SourcePhoto
from catalog.sources.folder import Folder, Listing
from catalog.sources.index import SPLIT_OF, put_aside
from contracts.values import GIVEN_SPLITS

_NO_CLASS = "It lies in no class folder, the layout is {}: move it into one, or remove it."

logger = logging.getLogger(__name__)


class ImageFolderSource:
    """Photos whose class is their folder's name; every file in a class folder is a photo."""

    layout = "image_folder"

    def __init__(self, folder: Folder) -> None:
        splits = _find_splits(folder)
        listing = folder.listing()
        self._root = folder.root
        self._photos, stray = _sort(listing, splits)
        form = "<split>/<class>/<photo>" if splits else "<class>/<photo>"
        message = pl.lit(_NO_CLASS.format(form))
        self._set_aside = pl.concat([listing.rejected, put_aside(stray, reason="no_class", message=message)])
        self.class_names: list[str] = self._photos["label"].drop_nulls().unique().sort().to_list()
        self.coarse_of: dict[str, str] = {}
        if not self.class_names:
            first = f" The first file: {stray['path'][0]!r}." if len(stray) else ""
            raise ValueError(
                f"Expected one folder a class in {folder.name}, found none with a file: the layout is "
                f"<class>/<photo> or train/<class>/<photo>.{first}"
            )
        named = {name for inside in splits or [""] for name in folder.folders(inside)}
        empty = sorted(named - set(self.class_names))
        if empty:
            logger.warning(
                "%d folders of %s hold no file and make no class: %s",
                len(empty),
                folder.name,
                ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else ""),
            )

    def __len__(self) -> int:
        return len(self._photos)

    def photos(self) -> Iterator[SourcePhoto]:
        """All photos, split by split and class by class, as they were when the source was opened."""
        for path, mark, label, split in self._photos.iter_rows():
            yield FilePhoto(photo_id=path, label=label, split=split, root=self._root, path=path, mark=mark)

    def set_aside(self) -> Iterator[SetAside]:
        """Files beside the class folders, hidden files, links to nothing and the like."""
        for photo_id, reason, message in self._set_aside.iter_rows():
            yield SetAside(photo_id=photo_id, reason=reason, message=message)


def _find_splits(folder: Folder) -> dict[str, str]:
    """The split of each split folder; empty where the folders are classes. Raises ValueError if unsure."""
    folders = folder.folders()
    splits = {name: SPLIT_OF[name.lower()] for name in folders if name.lower() in SPLIT_OF}
    if "train" not in splits.values():
        return {}
    twice = sorted(name for name in splits if list(splits.values()).count(splits[name]) > 1)
    if twice:
        raise ValueError(
            f"Expected one folder a split in {folder.name}, received {', '.join(twice)}: bring the photos of "
            "one split into one folder."
        )
    strangers = [name for name in folders if name not in splits]
    if strangers and len(splits) == 1:
        raise ValueError(
            f"{folder.name} has a folder {next(iter(splits))}, so its other folders can only be val and "
            f"test; received {', '.join(strangers[:5])}. Move them elsewhere, or rename it if it is a class."
        )
    return splits


def _sort(listing: Listing, splits: dict[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Photos (path, mark, label, split) in their order, and the files (path, mark) that have no class."""
    names = ["first", "second", "rest"][: 3 if splits else 2]
    parts = pl.col("path").str.splitn("/", len(names)).struct.rename_fields(names).alias("parts")
    files = listing.files.with_columns(parts).unnest("parts")
    first, nested, none = pl.col("first"), pl.col("second").is_not_null(), pl.lit(None, pl.String)
    if not splits:
        photos = files.filter(nested).select("path", "mark", label="first", split=none)
        return photos.sort("label", maintain_order=True), files.filter(~nested).select("path", "mark")
    ordered = []
    for folder, split in sorted(splits.items(), key=lambda item: GIVEN_SPLITS.index(item[1])):
        inside = files.filter(first == folder, nested).with_columns(split=pl.lit(split))
        has_class = pl.col("rest").is_not_null()
        labelled = inside.filter(has_class).select("path", "mark", label="second", split="split")
        ordered += [
            labelled.sort("label", maintain_order=True),
            inside.filter(~has_class).select("path", "mark", label=none, split="split"),
        ]
    loose = ~nested | ~first.is_in(list(splits))
    return pl.concat(ordered), files.filter(loose).select("path", "mark")
