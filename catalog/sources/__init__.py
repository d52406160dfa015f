"""Where photos come from: one module a layout, all of them giving the same kind of photo.

Ingest knows no layout: it reads `photos()` of whatever source it is handed, in that order.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

LAYOUTS = ("synthetic", "grocery_store", "image_folder", "aliproducts")


@dataclass(frozen=True, kw_only=True)
class SourcePhoto(ABC):
    """One photo of a source, not read yet; None says that the source does not know."""

    photo_id: str
    """Relative path with forward slashes, unique in the source."""
    label: str | None
    """The class name that the source gives the photo; it may be wrong."""
    split: str | None = None
    """train, val or test where the source has fixed splits."""
    coarse_label: str | None = None
    true_label: str | None = None
    """The class that the photo really shows, only for scoring; no stage before evaluation reads it."""
    group: str | None = None
    """Photos that belong together, such as those of one sender."""

    @abstractmethod
    def read(self) -> bytes:
        """The bytes of the photo as the source has them. Raises OSError where they cannot be read."""


@dataclass(frozen=True, kw_only=True)
class FilePhoto(SourcePhoto):
    """A photo that lies in a file."""

    path: Path

    def read(self) -> bytes:
        """The file's bytes. Raises OSError where it is missing or not readable."""
        return self.path.read_bytes()


class Source(Protocol):
    """A layout of photos on disk, or a way of drawing them."""

    @property
    def layout(self) -> str:
        """The layout's name, one of LAYOUTS."""

    @property
    def class_names(self) -> list[str]:
        """All classes in the order of their index."""

    @property
    def coarse_of(self) -> dict[str, str]:
        """The coarse class of each class name; empty where the source has none."""

    def __len__(self) -> int:
        """The number of photos."""

    def photos(self) -> Iterator[SourcePhoto]:
        """All photos, always in the same order."""


def make_source(layout: str, *, root: Path | None = None, options: Mapping[str, Any] | None = None) -> Source:
    """Open a source by the name of its layout; options are the fields of SyntheticConfig for `synthetic`.

    Raises ValueError for an unknown layout or option, FileNotFoundError where the photos are not there.
    """
    options = options or {}
    if layout == "synthetic":
        from catalog.sources.synthetic import SyntheticSource, make_synthetic_config

        if root is not None:
            raise ValueError(f"The synthetic source draws its photos and takes no root, received {root}.")
        return SyntheticSource(make_synthetic_config(options))
    if layout not in LAYOUTS:
        raise ValueError(
            f"Unknown source layout {layout!r}{near_match(layout, LAYOUTS)}. Layouts: {', '.join(LAYOUTS)}."
        )
    if options:
        raise ValueError(f"The source layout {layout} takes no options, received {', '.join(options)}.")
    return _open_folder(layout, root=root)


def _open_folder(layout: str, *, root: Path | None) -> Source:
    if root is None or not root.is_dir():
        raise FileNotFoundError(
            f"The source layout {layout} needs the folder of its photos, received root {str(root)!r}, "
            "which is no folder: set the data set's root parameter to where the photos lie."
        )
    if layout == "grocery_store":
        from catalog.sources.grocery_store import GroceryStoreSource

        return GroceryStoreSource(root)
    if layout == "aliproducts":
        from catalog.sources.aliproducts import AliProductsSource

        return AliProductsSource(root)
    from catalog.sources.image_folder import ImageFolderSource

    return ImageFolderSource(root)


def near_match(name: str, choices: tuple[str, ...]) -> str:
    """', did you mean ...?' for the end of an error's first sentence, or nothing."""
    matches = difflib.get_close_matches(str(name), choices, n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""
