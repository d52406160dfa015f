"""One JSON of photos with class numbers: what a team of the AliProducts challenge trained from.

{"annotations": [{"category_id": 0, "fpath": "/val/00000/1849756.jpg"}, ...], "num_classes": 50030}; a path's
leading slash means the data set's root.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from catalog.sources import SourceOptions
from catalog.sources.folder import Folder, read_index
from catalog.sources.index import CheckedRows, IndexedSource, check_rows, locate, put_aside
from catalog.sources.json_rows import JsonRows, as_number, as_text, read_json
from catalog.sources.list_file import index_files
from catalog.sources.matching import PLACE


class AnnotationsConfig(SourceOptions):
    """One file, or one a split; each relative to the data set's root."""

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
    frames, rejected = [], []
    for split, name in named.items():
        read, counts[name] = _read_annotations(folder, name)
        frames.append(read.rows.with_columns(split=pl.lit(split, pl.String), where=pl.lit(name)))
        rejected.append(read.rejected)
    num_classes = counts[next(iter(counts))]
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"Expected files with one num_classes, received {counts}: they are not of one data set."
        )
    width = len(str(num_classes - 1))
    rows = pl.concat(frames).with_columns(
        pl.col("label").str.zfill(width),
        exact=pl.col("path").str.strip_chars_start("/"),
        path=locate(pl.col("path"), folder).str.strip_chars_start("/"),
    )
    class_names = [str(number).zfill(width) for number in range(num_classes)]
    checked = check_rows(rows, folder, indexes=list(named.values()), rejected=pl.concat(rejected))
    return IndexedSource(
        "annotations", folder, _refuse_unknown(checked, class_names), class_names=class_names
    )


def _read_annotations(folder: Folder, name: str) -> tuple[JsonRows, int]:
    """Rows whose label is a number as text, and num_classes. Raises ValueError."""
    form = '{"annotations": [{"category_id": .., "fpath": ".."}, ..], "num_classes": ..}'
    read = read_json(
        read_index(folder, name),
        name=name,
        key="annotations",
        fields=("category_id", "fpath"),
        form=form,
        judge=_judge,
    )
    num_classes, num_rows = read.beside.get("num_classes"), len(read.rows) + len(read.rejected)
    usable = isinstance(num_classes, int) and not isinstance(num_classes, bool) and num_classes >= 1
    if num_rows == 0 or not usable:
        raise ValueError(
            f"{name}: expected annotations and num_classes of at least 1, received {num_rows} annotations "
            f"and num_classes {num_classes}. Fetch the file again."
        )
    return read, int(str(num_classes))


def _judge(category_id: Any, fpath: Any) -> tuple[str | None, str | None]:
    number = as_number(category_id, field="category_id")
    return as_text(fpath, field="fpath"), None if number is None else str(number)


def _refuse_unknown(checked: CheckedRows, class_names: list[str]) -> CheckedRows:
    """Photos of a class beyond num_classes (or below 0) are rejected: no head has an output for it."""
    known = checked.rows["label"].is_null() | checked.rows["label"].is_in(class_names)
    message = pl.format(
        "{} gives it the category_id {}, num_classes is {}.", PLACE, "label", len(class_names)
    )
    strange = put_aside(checked.rows.filter(~known), reason="unknown_class", message=message)
    return CheckedRows(rows=checked.rows.filter(known), set_aside=pl.concat([checked.set_aside, strange]))
