"""A table with a row a photo (CSV or Parquet): how shops and label tools export what they know.

The table's columns are named by options; which file a row means is `folder`/`path``suffix`, below the data
set's root. Rows without a file are left to ingest, which refuses them one by one like any unreadable photo.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from catalog.sources import SourceOptions
from catalog.sources.csv_rows import CsvRows, missing_column, read_csv
from catalog.sources.folder import ASIDE, Folder, read_index
from catalog.sources.index import CheckedRows, IndexedSource, check_rows, locate, put_aside
from imaging.config_errors import near_match

logger = logging.getLogger(__name__)


class TableConfig(SourceOptions):
    """Which table, which of its columns, and what of it is left out."""

    index: str
    """The table, CSV (UTF-8, with a header) or Parquet, relative to the data set's root."""
    path_column: str = "path"
    """Column that names the photo's file."""
    label_column: str | None = "label"
    """Column of the class; an empty field is an unlabelled photo. Null where no photo has a label."""
    group_column: str | None = None
    """Column of what belongs together, such as the sender; a split never divides a group."""
    split_column: str | None = None
    """Column with train, val or test, where the table has fixed splits."""
    coarse_column: str | None = None
    """Column of the coarse class, which the label must determine."""
    true_label_column: str | None = None
    """Column of the class that the photo really shows, where it is known; only studies of noise read it."""
    folder: str = ""
    """Folder that the paths are in, relative to the data set's root."""
    suffix: str = ""
    """What the table's paths lack at their end, such as .jpg."""
    separator: str = ","
    """What separates the fields of a CSV line; one character."""
    drop_labels: tuple[str, ...] = Field(default=(), strict=False)
    """Labels that are no class, such as "Not sure"; their photos are rejected."""
    missing: tuple[str, ...] = Field(
        default=("nan", "NaN", "NULL", "null", "None", "NA", "N/A", "#N/A", "<NA>"), strict=False
    )
    """Words for a missing value: photos with such a label are rejected, in other columns they are unknown."""
    unlisted: Literal["set_aside", "unlabelled", "ignore"] = "set_aside"
    """Files in `folder` that no row names: listed as rejected, photos without label, or nothing."""

    @model_validator(mode="after")
    def _separator_is_one_character(self) -> Self:
        if len(self.separator) != 1 or self.separator in '"\r\n':
            raise ValueError(
                f"Expected a separator of one character, no quote or line end, received {self.separator!r}."
            )
        return self


def open_table(folder: Folder, config: TableConfig) -> IndexedSource:
    """The photos of a table. Raises ValueError for a table that cannot be read as the options say."""
    rows, rejected = _read_rows(folder, config)
    checked = check_rows(
        rows,
        folder,
        indexes=[config.index],
        inside=config.folder,
        unlisted=config.unlisted,
        rejected=rejected,
    )
    rows, dropped = _drop(checked.rows, config)
    rows, missing = _drop_missing(rows, config)
    aside = pl.concat([checked.set_aside, dropped, missing])
    return IndexedSource("table", folder, CheckedRows(rows=rows, set_aside=aside))


def _read_rows(folder: Folder, config: TableConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The table's columns under the names of index.COLUMNS, with the paths of their files; rejected rows."""
    wanted = {
        "path": config.path_column,
        "label": config.label_column,
        "split": config.split_column,
        "group": config.group_column,
        "coarse_label": config.coarse_column,
        "true_label": config.true_label_column,
    }
    named = {name: column for name, column in wanted.items() if column is not None}
    read = read_table(read_index(folder, config.index), columns=tuple(named.values()), config=config)
    if read.rows.is_empty() and read.rejected.is_empty():
        raise ValueError(f"{config.index}: expected a row a photo, received none. Export the table again.")
    rows = pl.DataFrame([_as_text(read.rows[column]).alias(name) for name, column in named.items()])
    others = [name for name in named if name not in ("path", "label")]  # of a label a person decides
    rows = rows.with_columns(
        pl.when(~pl.col(name).str.strip_chars().is_in(config.missing)).then(name) for name in others
    )
    prefix = f"{config.folder.strip('/')}/" if config.folder.strip("/") else ""
    rows = rows.with_columns(
        path=locate(pl.col("path"), folder, inside=config.folder) + config.suffix,
        exact=prefix + pl.col("path") + config.suffix,
        where=pl.lit(config.index),
        number=read.lines,
    )
    return rows, read.rejected


def read_table(content: bytes, *, columns: Sequence[str], config: TableConfig) -> CsvRows:
    """The named columns of a CSV (all as text, so 007 stays 007) or Parquet file, told apart by content."""
    once = list(dict.fromkeys(columns))
    if not content.startswith(b"PAR1"):
        return read_csv(content, columns=once, separator=config.separator, name=config.index)
    try:
        names = tuple(pl.read_parquet_schema(io.BytesIO(content)))
        for column in once:
            if column not in names:
                raise ValueError(missing_column(column, names, name=config.index))
        rows = pl.read_parquet(io.BytesIO(content), columns=once)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise ValueError(
            f"{config.index}: expected CSV in UTF-8 with a header, or Parquet, received something else "
            f"({str(error).splitlines()[0]}). Export the table again."
        ) from error
    numbers = pl.Series("line", -np.arange(1, len(rows) + 1))
    return CsvRows(rows=rows, lines=numbers, rejected=pl.DataFrame(schema=ASIDE))


def _as_text(column: pl.Series) -> pl.Series:
    """A column as text; whole numbers that came as floats, since some were missing, without their .0."""
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        raise ValueError(f"Expected text or numbers in the column {column.name!r}, received {column.dtype}.")
    if column.dtype.is_float():
        column = column.fill_nan(None)
        whole = column.cast(pl.Int64, strict=False)
        same = whole.null_count() == column.null_count() and (whole == column).all()
        column = whole if same else column
    return column.cast(pl.String)


def _drop(rows: pl.DataFrame, config: TableConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    known = rows["label"].unique().drop_nulls().to_list()
    for label in config.drop_labels:
        if label not in known:
            hint = near_match(label, tuple(known))
            logger.warning("drop_labels: no row of %s has the label %r%s", config.index, label, hint)
    dropped = rows["label"].is_in(config.drop_labels).fill_null(False)
    message = pl.format("Its label {} is one of drop_labels: take it from there to keep the photo.", "label")
    return rows.filter(~dropped), put_aside(rows.filter(dropped), reason="dropped_label", message=message)


def _drop_missing(rows: pl.DataFrame, config: TableConfig) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Labels such as `nan` would become a class: their photos are rejected until a person has decided."""
    missing = rows["label"].is_in(config.missing).fill_null(False)
    message = pl.format(
        "Its label is {}, which tools write where a value is missing: leave the field empty for an "
        "unlabelled photo, or take the word from the option `missing` if it is a class.",
        "label",
    )
    return rows.filter(~missing), put_aside(rows.filter(missing), reason="missing_label", message=message)
