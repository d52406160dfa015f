"""Text files of `path label` lines: what many training scripts, and a team of the challenge, read.

Where a line has several gaps, that one counts before which the name of a file that is there ends; a line
without a label is an unlabelled photo. Where this is not unique, name a separator (a tab, a comma), the last
of which ends the path. Lines that begin with # and name no file are comments.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import polars as pl
from pydantic import model_validator

from catalog.sources import SourceOptions
from catalog.sources.folder import Folder, read_index
from catalog.sources.index import IndexedSource, check_rows, list_for, locate, put_aside, tidy
from catalog.sources.matching import PLACE, find_files


class ListFileConfig(SourceOptions):
    """One list, or one a split; each relative to the data set's root."""

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

    @model_validator(mode="after")
    def _separator_is_text(self) -> Self:
        if self.separator == "":
            raise ValueError(
                "Expected a separator of a list file, received an empty one: null is white space."
            )
        return self


def open_list_file(folder: Folder, config: ListFileConfig) -> IndexedSource:
    """The photos of the lists; labels are text, and the classes are in numeric order if all are numbers."""
    named = index_files(index=config.index, train=config.train, val=config.val, test=config.test)
    lines = pl.concat(
        _read_list(folder, name).with_columns(split=pl.lit(split, pl.String), where=pl.lit(name))
        for split, name in named.items()
    ).with_row_index("id")
    readings = _locate(_split_at_last(lines, config.separator), folder, config)
    inside, indexes = config.folder.strip("/"), list(named.values())
    listing = list_for(readings, folder, inside=inside, indexes=indexes)
    known = pl.concat([listing.files["path"], listing.rejected["photo_id"]])
    readings = find_files(readings, known)
    sure = pl.col("file").is_not_null() & (pl.col("text").str.count_matches(r"\s+") == 1)
    if config.separator is not None:
        sure = pl.lit(True)
    is_comment = pl.col("text").str.starts_with("#")
    unsure = readings.filter(~sure | is_comment).select(lines.columns)
    read, rejected = _find_readings(unsure, known, folder, config)
    certain = readings.filter(sure & ~is_comment).select(read.columns)
    rows = pl.concat([certain, read]).sort("id")
    return IndexedSource(
        "list_file",
        folder,
        check_rows(rows, folder, indexes=indexes, inside=inside, rejected=rejected, listing=listing),
    )


def _find_readings(
    lines: pl.DataFrame, known: pl.Series, folder: Folder, config: ListFileConfig
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Lines with spaces or of a comment's look, read so that their file is there; those that cannot be.

    A comment whose every reading names no file is dropped; of other lines without a file, those of two fields
    or one are left to `check_rows`.
    """
    if config.separator is None:
        pairs = [
            (number, path, label) for number, text in lines.select("id", "text").iter_rows()
            for path, label in _readings(text)
        ]  # fmt: skip
        schema: dict[str, Any] = {"id": lines.schema["id"], "path": pl.String, "label": pl.String}
        every = lines.join(pl.DataFrame(pairs, schema=schema, orient="row"), on="id", maintain_order="left")
    else:
        every = _split_at_last(lines, config.separator)
    every = find_files(_locate(every, folder, config), known)
    found = every.filter(pl.col("file").is_not_null())
    once, several = ~pl.col("id").is_duplicated(), found.filter(pl.col("id").is_duplicated())
    without = every.filter(~pl.col("id").is_in(found["id"].implode()), ~pl.col("text").str.starts_with("#"))
    few = pl.len().over("id") <= 2
    message = "{}: {}. Where paths or labels hold spaces, set the option separator."
    told = [
        put_aside(
            rows.unique("id", keep="first", maintain_order=True).with_columns(path=PLACE),
            reason=reason,
            message=pl.format(message, PLACE, pl.lit(words)),
        )
        for rows, reason, words in (
            (several, "ambiguous_name", "several files are named by its beginning"),
            (without.filter(~few), "no_file", "no file that is there is named by its beginning"),
        )
    ]
    plain = without.filter(few).unique("id", keep="last", maintain_order=True)
    columns = [*lines.columns, "path", "exact", "label"]
    return pl.concat([found.filter(once), plain]).select(columns), pl.concat(told)


def _readings(text: str) -> Iterator[tuple[str, str | None]]:
    """A line as a whole, then split at each of its gaps: path and label."""
    yield text, None
    for gap in re.finditer(r"\s+", text):
        yield text[: gap.start()], text[gap.end() :]


def _split_at_last(lines: pl.DataFrame, separator: str | None) -> pl.DataFrame:
    """path and label of each line: the label is what follows the last gap, or separator."""
    between = r"\s+(\S+)" if separator is None else rf"{pl.escape_regex(separator)}(.*)"
    pattern, text = f"^(.*){between}$", pl.col("text")
    return lines.with_columns(
        path=text.str.extract(pattern, 1).fill_null(text), label=text.str.extract(pattern, 2)
    )


def _locate(rows: pl.DataFrame, folder: Folder, config: ListFileConfig) -> pl.DataFrame:
    prefix = f"{config.folder.strip('/')}/" if config.folder.strip("/") else ""
    path = pl.col("path")
    return tidy(rows.with_columns(exact=prefix + path, path=locate(path, folder, inside=config.folder)))


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


class Line(NamedTuple):
    """A line of a list that is not empty."""

    number: int
    """From 1."""
    text: str


def read_lines(content: bytes, *, name: str) -> Iterator[Line]:
    """The lines of a text without white space at their ends. Raises ValueError where it is not UTF-8."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        bad = content.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else error.reason
        raise ValueError(
            f"{name}, line {bad}: expected text in UTF-8, received {kind} at byte {error.start}: save "
            "it as UTF-8."
        ) from error
    # universal line ends as files have them; str.splitlines also ends lines at characters that names may hold
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if stripped := line.strip():
            yield Line(number, stripped)


def _read_list(folder: Folder, name: str) -> pl.DataFrame:
    """Columns number and text of a list's lines."""
    lines = pl.DataFrame(
        read_lines(read_index(folder, name), name=name),
        schema={"number": pl.Int64, "text": pl.String},
        orient="row",
    )
    if lines.is_empty():
        raise ValueError(f"{name}: expected a line `path label` a photo, received none. Make the list again.")
    return lines
