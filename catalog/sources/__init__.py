"""Where photos come from: one module a layout, all of them giving the same kind of photo.

Ingest knows no layout: it reads `photos()` of whatever source it is handed, in that order.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import ConfigDict, ValidationError

from imaging.config import Config
from imaging.config_errors import describe_errors, near_match

LAYOUTS = ("synthetic", "image_folder", "table", "list_file", "annotations", "grocery_store", "aliproducts")
_FIXED_LAYOUTS = ("image_folder", "grocery_store", "aliproducts")


class SourceOptions(Config):
    """The options of a layout, strictly typed: "3" is not accepted as a number, nor 3 as text."""

    model_config = ConfigDict(strict=True)


OptionsT = TypeVar("OptionsT", bound=SourceOptions)


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

    @abstractmethod
    def stamp(self) -> str | None:
        """A mark that changes when the photo's bytes may have changed, found without reading; or None."""


@dataclass(frozen=True, kw_only=True)
class FilePhoto(SourcePhoto):
    """A photo that lies in a file, on this machine or in a store such as s3; small, so it goes to workers."""

    root: str
    """The source's folder, or its URL (`s3://bucket/folder`)."""
    path: str
    """Relative to root, with forward slashes."""
    mark: str | None = None
    """What a listing of a remote folder said of the file (see stamp); None on this machine."""

    def read(self) -> bytes:
        """The file's bytes. Raises OSError where it is missing or not readable."""
        if not is_remote(self.root):
            return Path(self.root, self.path).read_bytes()
        (answer,) = read_photos([self])
        if isinstance(answer, OSError):
            raise answer
        return answer

    def stamp(self) -> str | None:
        """Size and time of change of a local file; what the listing said of a remote one."""
        if is_remote(self.root):
            return self.mark
        try:
            status = os.stat(f"{self.root}/{self.path}")  # noqa: PTH116  a Path takes three times as long
        except OSError:
            return None
        return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A photo that a source knows of but does not hand out: a reason to count by, and what to do."""

    photo_id: str
    reason: str
    """no_row, dropped_label, ...: one word for each kind."""
    message: str


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

    def set_aside(self) -> Iterator[SetAside]:
        """What the source knows of and does not hand out, such as a file that its table has no row for."""


def read_photos(photos: Sequence[SourcePhoto]) -> list[bytes | OSError]:
    """The bytes of each photo, or why it cannot be read; photos of a remote store come side by side.

    Raises RemoteError where the store itself does not answer: then no photo is at fault.
    """
    remote = [photo for photo in photos if isinstance(photo, FilePhoto) and is_remote(photo.root)]
    if not remote:
        return [_read(photo) for photo in photos]
    from catalog.sources.remote import read_files  # fsspec only where a store is read

    fetched = read_files([(photo.root, photo.path) for photo in remote])
    answers = dict(zip(map(id, remote), fetched, strict=True))
    return [answers[id(photo)] if id(photo) in answers else _read(photo) for photo in photos]


def _read(photo: SourcePhoto) -> bytes | OSError:
    try:
        return photo.read()
    except OSError as error:
        return error


def is_remote(root: str) -> bool:
    """Whether a root is the URL of a store, such as s3://bucket/folder, and no folder of this machine."""
    return "://" in root


def make_source(
    layout: str,
    *,
    root: Path | str | None = None,
    options: SourceOptions | Mapping[str, Any] | None = None,
) -> Source:
    """Open a source by the name of its layout.

    root: the folder of the photos, or its fsspec URL as text (s3://bucket/folder; keys and endpoint come
    from the environment). options: a SyntheticConfig, TableConfig, ListFileConfig or AnnotationsConfig, or
    its fields; the other layouts have none. Raises ValueError for an unknown layout or option and for
    an index that cannot be used, FileNotFoundError where the photos are not there, RemoteError where a store
    does not answer.
    """
    if layout not in LAYOUTS:
        raise ValueError(
            f"Unknown source layout {layout!r}{near_match(layout, LAYOUTS)}. Layouts: {', '.join(LAYOUTS)}."
        )
    if layout == "synthetic" and root is not None:
        raise ValueError(f"The synthetic source draws its photos and takes no root, received {root}.")
    if layout not in _FIXED_LAYOUTS:
        return _open_with_options(layout, root, options or {})
    if given := dict(options or {}):
        raise ValueError(f"The source layout {layout} takes no options, received {', '.join(given)}.")
    return _open_fixed(layout, root)


def _open_with_options(
    layout: str, root: Path | str | None, options: SourceOptions | Mapping[str, Any]
) -> Source:
    """Modules are loaded only when their layout is opened: a worker needs none of them."""
    from catalog.sources.folder import open_folder

    if layout == "table":
        from catalog.sources.table import TableConfig, open_table

        return open_table(open_folder(root, layout=layout), _check(options, TableConfig, layout=layout))
    if layout == "list_file":
        from catalog.sources.list_file import ListFileConfig, open_list_file

        list_config = _check(options, ListFileConfig, layout=layout)
        return open_list_file(open_folder(root, layout=layout), list_config)
    if layout == "annotations":
        from catalog.sources.annotations import AnnotationsConfig, open_annotations

        annotations_config = _check(options, AnnotationsConfig, layout=layout)
        return open_annotations(open_folder(root, layout=layout), annotations_config)
    from catalog.sources.synthetic import SyntheticConfig, SyntheticSource

    return SyntheticSource(_check(options, SyntheticConfig, layout=layout))


def _check(options: SourceOptions | Mapping[str, Any], kind: type[OptionsT], *, layout: str) -> OptionsT:
    """The options as their class. Raises ValueError with a sentence for each that is unknown or wrong."""
    try:
        return kind.model_validate(options if isinstance(options, SourceOptions) else dict(options))
    except ValidationError as error:
        problems = " ".join(describe_errors(error, kind=kind))
        raise ValueError(f"The options of the source layout {layout}: {problems}") from error


def _open_fixed(layout: str, root: Path | str | None) -> Source:
    """Layouts whose form is known, so that there is nothing to choose."""
    from catalog.sources.folder import open_folder

    folder = open_folder(root, layout=layout)
    if layout == "grocery_store":
        from catalog.sources.grocery_store import open_grocery_store

        return open_grocery_store(folder)
    if layout == "aliproducts":
        from catalog.sources.aliproducts import open_aliproducts

        return open_aliproducts(folder)
    from catalog.sources.image_folder import ImageFolderSource

    return ImageFolderSource(folder)
