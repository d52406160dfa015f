"""A table with a row a photo (CSV or Parquet): how shops and label tools export what they know.

The table's columns are named by options; which file a row means is `folder`/`path``suffix`, below the data
set's root. Rows without a file are left to ingest, which refuses them one by one like any unreadable photo.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import polars as pl

from catalog.sources import near_match
from catalog.sources.folder import Folder, read_index
from catalog.sources.index import CheckedRows, IndexedSource, check_rows, list_files, locate, put_aside

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which table, which of its columns, and what of it is left out."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

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
    drop_labels: tuple[str, ...] = ()
    """Labels that are no class, such as "Not sure"; their photos are set aside."""
    unlisted: Literal["set_aside", "unlabelled", "ignore"] = "set_aside"
    """Files in `folder` that no row names: counted in the quarantine, photos without label, or nothing."""

    def __post_init__(self) -> None:
        if len(self.separator) != 1:
            raise ValueError(f"Expected a separator of one character, received {self.separator!r}.")


def open_table(folder: Folder, config: TableConfig) -> IndexedSource:
    """The photos of a table. Raises ValueError for a table that cannot be read as the options say."""
    checked = check_rows(_read_rows(folder, config))
    rows, dropped = _drop(checked.rows, config)
    aside = pl.concat([checked.set_aside, dropped])
    if config.unlisted != "ignore":
        files = _unlisted(
            folder, config, named=pl.concat([checked.rows["path"], checked.set_aside["photo_id"]])
        )
        if config.unlisted == "unlabelled":
            rows = pl.concat([rows, files.select("path")], how="diagonal")
        else:
            message = f"No row of {config.index} names this file: add a row, or remove the file."
            aside.extend(put_aside(files, reason="no_row", message=pl.lit(message)))
    return IndexedSource("table", folder, CheckedRows(rows=rows, set_aside=aside))


def _read_rows(folder: Folder, config: TableConfig) -> pl.DataFrame:
    """The table's columns under the names of index.COLUMNS, with the paths of their files."""
    wanted = {
        "path": config.path_column,
        "label": config.label_column,
        "split": config.split_column,
        "group": config.group_column,
        "coarse_label": config.coarse_column,
        "true_label": config.true_label_column,
    }
    named = {name: column for name, column in wanted.items() if column is not None}
    table = read_table(read_index(folder, config.index), columns=tuple(named.values()), config=config)
    if table.is_empty():
        raise ValueError(f"{config.index}: expected a row a photo, received none. Export the table again.")
    rows = table.select(_as_text(table[column]).alias(name) for name, column in named.items())
    path = locate(pl.col("path"), folder, inside=config.folder) + config.suffix
    return rows.with_columns(path=path, where=pl.lit(config.index))


def read_table(content: bytes, *, columns: Sequence[str], config: TableConfig) -> pl.DataFrame:
    """The named columns of a CSV (all as text, so 007 stays 007) or Parquet file, told apart by content."""
    is_parquet = content.startswith(b"PAR1")
    if b"\0" in content[:100] and not is_parquet:
        raise ValueError(f"{config.index}: expected CSV in UTF-8 or Parquet, received another kind of file.")
    once = list(dict.fromkeys(columns))
    csv: dict[str, Any] = {"separator": config.separator, "infer_schema": False}
    try:
        if is_parquet:
            _check_columns(once, names=tuple(pl.read_parquet_schema(io.BytesIO(content))), config=config)
            return pl.read_parquet(io.BytesIO(content), columns=once)
        _check_columns(once, names=tuple(pl.read_csv(content, n_rows=0, **csv).columns), config=config)
        return pl.read_csv(content, columns=once, **csv)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeDecodeError) as error:
        raise ValueError(
            f"{config.index}: expected CSV in UTF-8 with a header, or Parquet, received something else "
            f"({str(error).splitlines()[0]}). Export the table again."
        ) from error


def _check_columns(columns: Sequence[str], *, names: tuple[str, ...], config: TableConfig) -> None:
    for column in columns:
        if column not in names:
            one = f" If {names[0]!r} are several, set separator." if len(names) == 1 else ""
            raise ValueError(
                f"{config.index}: expected a column {column!r}{near_match(column, names) or ', found none.'} "
                f"Its columns: {', '.join(names)}.{one} The ..._column options name columns."
            )


def _as_text(column: pl.Series) -> pl.Series:
    """A column as text; whole numbers that came as floats, since some were missing, without their .0."""
    if column.dtype.is_nested() or column.dtype == pl.Binary:
        raise ValueError(f"Expected text or numbers in the column {column.name!r}, received {column.dtype}.")
    if column.dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        column = whole if (whole == column).all() else column
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


def _unlisted(folder: Folder, config: TableConfig, *, named: pl.Series) -> pl.DataFrame:
    """The files in the config's folder that no row names, in a column path."""
    files = list_files(folder, config.folder.strip("/")).filter(pl.col("path") != config.index)
    found = files["path"].is_in(named.implode())
    if not found.any():
        there = f"a file there is {files['path'][0]!r}" if len(files) else f"{config.folder!r} has no files"
        raise ValueError(
            f"Expected files for the rows of {config.index}, found none of {len(named):,}: the first row "
            f"means {named[0]!r}, {there}. Set folder and suffix so that they agree."
        )
    return files.filter(~found)
