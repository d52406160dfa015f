"""Text files of `path label` lines: what many training scripts, and a team of the challenge, read.

The label is the last field, so a path may hold spaces. A line of one field is an unlabelled photo; where
such a path holds spaces itself, name a separator (a tab, a comma), which then ends every path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from catalog.sources.folder import Folder, read_index
from catalog.sources.index import IndexedSource, check_rows, locate


@dataclass(frozen=True, kw_only=True)
class ListFileConfig:
    """One list, or one a split; each relative to the data set's root."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    index: str | None = None
    """The list of all photos, where the lists are not split."""
    train: str | None = None
    """The list of the training photos."""
    val: str | None = None
    """The list of the validation photos."""
    test: str | None = None
    """The list of the test photos."""
    folder: str = ""
    """Folder that the paths are in, relative to the data set's root."""
    separator: str | None = None
    """What stands between path and label; null for white space."""

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ValueError(
                "Expected a separator of a list file, received an empty one: null is white space."
            )


def open_list_file(folder: Folder, config: ListFileConfig) -> IndexedSource:
    """The photos of the lists; labels are text, and the classes are in numeric order if all are numbers."""
    named = index_files(index=config.index, train=config.train, val=config.val, test=config.test)
    rows = pl.concat(
        _read_lines(folder, name, separator=config.separator).with_columns(
            split=pl.lit(split, pl.String), where=pl.lit(name)
        )
        for split, name in named.items()
    )
    rows = rows.with_columns(locate(pl.col("path"), folder, inside=config.folder))
    return IndexedSource("list_file", folder, check_rows(rows))


def index_files(
    *, index: str | None, train: str | None, val: str | None, test: str | None
) -> dict[str | None, str]:
    """The file of each split, or of all photos (None). Raises ValueError for neither or both."""
    splits = {"train": train, "val": val, "test": test}
    named: dict[str | None, str] = {split: name for split, name in splits.items() if name is not None}
    if (index is None) != bool(named):
        raise ValueError(
            "Expected either the option index, or a file for train (and val, test), received "
            f"index {index!r} and {named or 'no split'}."
        )
    return named or {None: str(index)}


def _read_lines(folder: Folder, name: str, *, separator: str | None) -> pl.DataFrame:
    """Columns path and label of a list's lines, empty ones left out."""
    try:
        text = read_index(folder, name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: expected text in UTF-8, received {error.reason} at byte {error.start}."
        ) from error
    line = pl.col("line").str.strip_chars()
    lines = pl.DataFrame({"line": [text]}).select(pl.col("line").str.split("\n").explode()).select(line)
    lines = lines.filter(pl.col("line") != "")
    if lines.is_empty():
        raise ValueError(f"{name}: expected a line `path label` a photo, received none. Make the list again.")
    between = r"\s+(\S+)" if separator is None else rf"{pl.escape_regex(separator)}(.*)"
    pattern = f"^(.*){between}$"
    path = pl.col("line").str.extract(pattern, 1)
    return lines.select(path=path.fill_null(pl.col("line")), label=pl.col("line").str.extract(pattern, 2))
