"""A folder a class: how most companies hand over photos.

Either root/<class>/<photo>, or root/train/<class>/<photo> with val and test beside it. Photos that lie
directly in a split's folder have no label.
"""

from __future__ import annotations

from collections.abc import Iterator

from catalog.sources import FilePhoto, SetAside, SourcePhoto
from catalog.sources.folder import Folder

SPLITS = ("train", "val", "test")


class ImageFolderSource:
    """Photos whose class is their folder's name; hidden files are left out, all other files are photos."""

    layout = "image_folder"

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        folders = folder.folders()
        self._splits = tuple(split for split in SPLITS if split in folders) if "train" in folders else ()
        strangers = [name for name in folders if name not in SPLITS]
        if self._splits and strangers:
            raise ValueError(
                f"{folder.name} has a folder train, so its other folders can only be val and test; received "
                f"{', '.join(strangers[:5])}. Move them elsewhere, or rename train if it is a class."
            )
        self._classes = {split: folder.folders(split) for split in self._splits} or {"": folders}
        self.class_names = sorted({name for names in self._classes.values() for name in names})
        self.coarse_of: dict[str, str] = {}
        if not self.class_names:
            raise ValueError(
                f"Expected one folder a class in {folder.name}, found none: the layout is <class>/<photo> or "
                "train/<class>/<photo>."
            )
        self._num_photos = sum(1 for _ in self.photos())

    def __len__(self) -> int:
        return self._num_photos

    def photos(self) -> Iterator[SourcePhoto]:
        """All photos, split by split and class by class."""
        for split, names in self._classes.items():
            prefix = f"{split}/" if split else ""
            for label in names:
                yield from self._photos(f"{prefix}{label}", label=label, split=split or None)
            if split:  # directly in a split's folder: photos without label
                yield from self._photos(split, label=None, split=split)

    def set_aside(self) -> Iterator[SetAside]:
        """Nothing: every file is handed out."""
        return iter(())

    def _photos(self, inside: str, *, label: str | None, split: str | None) -> Iterator[SourcePhoto]:
        for path, mark in self._folder.files(inside, deep=label is not None):
            yield FilePhoto(
                photo_id=path, label=label, split=split, root=self._folder.root, path=path, mark=mark
            )
