"""A folder a class: how most companies hand over photos.

Either root/<class>/<photo>, or root/train/<class>/<photo> with val and test beside it. Photos that lie
directly in a split's folder have no label.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from catalog.sources import FilePhoto, SourcePhoto

SPLITS = ("train", "val", "test")


class ImageFolderSource:
    """Photos whose class is their folder's name; hidden files are left out, all other files are photos."""

    layout = "image_folder"

    def __init__(self, root: Path) -> None:
        self._root = root
        folders = _folders(root)
        self._splits = tuple(split for split in SPLITS if split in folders) if "train" in folders else ()
        strangers = [name for name in folders if name not in SPLITS]
        if self._splits and strangers:
            raise ValueError(
                f"{root.name} has a folder train, so its other folders can only be val and test; received "
                f"{', '.join(strangers[:5])}. Move them elsewhere, or rename train if it is a class."
            )
        class_folders = (
            [name for split in self._splits for name in _folders(root / split)] if self._splits else folders
        )
        self.class_names = sorted(set(class_folders))
        self.coarse_of: dict[str, str] = {}
        if not self.class_names:
            raise ValueError(
                f"Expected one folder a class in {root.name}, found none: the layout is <class>/<photo> or "
                "train/<class>/<photo>."
            )
        self._num_photos = sum(1 for _ in self.photos())

    def __len__(self) -> int:
        return self._num_photos

    def photos(self) -> Iterator[SourcePhoto]:
        """All photos, split by split, sorted by path."""
        if not self._splits:
            yield from self._class_photos(self._root, split=None)
        for split in self._splits:
            yield from self._class_photos(self._root / split, split=split)
            for name in _files(self._root / split):
                yield self._photo(self._root / split / name, label=None, split=split)

    def _class_photos(self, folder: Path, *, split: str | None) -> Iterator[SourcePhoto]:
        for label in _folders(folder):
            for parent, folders, _ in os.walk(folder / label):
                folders[:] = _folders(Path(parent))
                for name in _files(Path(parent)):
                    yield self._photo(Path(parent) / name, label=label, split=split)

    def _photo(self, path: Path, *, label: str | None, split: str | None) -> SourcePhoto:
        photo_id = path.relative_to(self._root).as_posix()
        return FilePhoto(photo_id=photo_id, label=label, split=split, path=path)


def _folders(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))


def _files(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if not e.is_dir() and not e.name.startswith("."))
