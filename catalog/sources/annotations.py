"""One JSON of photos with class numbers: what a team of the AliProducts challenge trained from.

{"annotations": [{"category_id": 0, "fpath": "/val/00000/1849756.jpg"}, ...], "num_classes": 50030}; a path's
leading slash means the data set's root.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from catalog.sources.folder import Folder, read_index
from catalog.sources.index import CheckedRows, IndexedSource, check_rows, locate, put_aside
from catalog.sources.list_file import index_files

_SCHEMA = {
    "annotations": pl.List(pl.Struct({"category_id": pl.Int64(), "fpath": pl.String()})),
    "num_classes": pl.Int64(),
}


@dataclass(frozen=True, kw_only=True)
class AnnotationsConfig:
    """One file, or one a split; each relative to the data set's root."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    index: str | None = None
    """The file of all photos, where the files are not split."""
    train: str | None = None
    """The file of the training photos."""
    val: str | None = None
    """The file of the validation photos."""
    test: str | None = None
    """The file of the test photos; an annotation without category_id is an unlabelled photo."""


def open_annotations(folder: Folder, config: AnnotationsConfig) -> IndexedSource:
    """The photos of the files; classes are all of 0..num_classes-1, also those without a photo.

    A class's name is its number with leading zeros, as wide as the largest (00000 of 50,030 classes).
    """
    named = index_files(index=config.index, train=config.train, val=config.val, test=config.test)
    counts: dict[str, int] = {}
    frames = []
    for split, name in named.items():
        frame, counts[name] = _read_annotations(folder, name)
        frames.append(frame.with_columns(split=pl.lit(split, pl.String), where=pl.lit(name)))
    num_classes = counts[next(iter(counts))]
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"Expected files with one num_classes, received {counts}: they are not of one data set."
        )
    width = len(str(num_classes - 1))
    rows = pl.concat(frames).with_columns(label=pl.col("label").cast(pl.String).str.zfill(width))
    class_names = [str(number).zfill(width) for number in range(num_classes)]
    checked = check_rows(rows)
    return IndexedSource(
        "annotations", folder, _refuse_unknown(checked, class_names), class_names=class_names
    )


def _read_annotations(folder: Folder, name: str) -> tuple[pl.DataFrame, int]:
    """Columns path and label (a number), and num_classes. Raises ValueError."""
    try:
        content = pl.read_json(io.BytesIO(read_index(folder, name)), schema=_SCHEMA)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise ValueError(
            f'{name}: expected {{"annotations": [{{"category_id": .., "fpath": ".."}}, ..], "num_classes": '
            f"..}}, received something else ({str(error).splitlines()[0]}). Fetch the file again."
        ) from error
    photos = content["annotations"].explode().drop_nulls()
    num_classes = content["num_classes"][0]
    if photos.is_empty() or num_classes is None or num_classes < 1:
        raise ValueError(
            f"{name}: expected annotations and num_classes of at least 1, received {len(photos)} annotations "
            f"and num_classes {num_classes}. Fetch the file again."
        )
    rows = photos.struct.unnest()
    path = locate(pl.col("fpath"), folder).str.strip_chars_start("/")
    return rows.select(path=path, label="category_id"), num_classes


def _refuse_unknown(checked: CheckedRows, class_names: list[str]) -> CheckedRows:
    """Photos of a class beyond num_classes (or below 0) go aside: no head has an output for it."""
    known = checked.rows["label"].is_null() | checked.rows["label"].is_in(class_names)
    message = pl.format(
        "{} gives it the category_id {}, num_classes is {}.", "where", "label", len(class_names)
    )
    strange = put_aside(checked.rows.filter(~known), reason="unknown_class", message=message)
    return CheckedRows(rows=checked.rows.filter(known), set_aside=pl.concat([checked.set_aside, strange]))
