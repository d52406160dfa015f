"""What layouts with an index share: rows that name a photo each, put in order and handed out.

A layout only reads its own format into rows of COLUMNS; paths, repeated rows, splits and coarse classes are
judged here, once, for every layout. A bad row is set aside with a reason and never stops the good ones; what
is wrong with an index as a whole is an error.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from catalog.sources import FilePhoto, SetAside, SourcePhoto, is_remote
from catalog.sources.folder import Folder

SPLITS = ("train", "val", "test")
COLUMNS = dict.fromkeys(("path", "label", "split", "group", "coarse_label", "true_label", "where"), pl.String)
"""Columns of an index's rows; `where` is the index's name for messages. Missing ones count as unknown."""
_ABSOLUTE = r"^(/|[A-Za-z]:/|[a-z0-9]+://)"
_FACTS = ("label", "split", "group", "coarse_label", "true_label")
_ASIDE = {"photo_id": pl.String, "reason": pl.String, "message": pl.String}


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """Rows with one usable path each, and what was set aside (photo_id, reason, message) on the way."""

    rows: pl.DataFrame
    set_aside: pl.DataFrame


def check_rows(rows: pl.DataFrame) -> CheckedRows:
    """Put an index's rows (COLUMNS or some of them) in order. Raises ValueError for an unknown split."""
    rows = _complete(rows)
    _check_splits(rows)
    rows, without_path = _check_paths(rows)
    rows, repeated = _check_repeated(rows)
    return CheckedRows(rows=rows, set_aside=pl.concat([without_path, repeated]))


class IndexedSource:
    """Photos in the order of their index."""

    def __init__(
        self,
        layout: str,
        folder: Folder,
        checked: CheckedRows,
        *,
        class_names: Sequence[str] | None = None,
        coarse_of: dict[str, str] | None = None,
    ) -> None:
        """class_names: the rows' labels, sorted, where none are given; coarse_of likewise."""
        rows = checked.rows
        if rows.is_empty():
            first = f" The first: {checked.set_aside['message'][0]}" if len(checked.set_aside) else ""
            raise ValueError(
                f"Expected photos in the index of {folder.name}, received none that can be used.{first}"
            )
        self.layout = layout
        self.class_names = names_of(rows["label"]) if class_names is None else list(class_names)
        self.coarse_of = _coarse_classes(rows) if coarse_of is None else coarse_of
        self._root = folder.root
        self._set_aside = checked.set_aside
        self._rows = _with_marks(rows, folder)

    def __len__(self) -> int:
        return len(self._rows)

    def photos(self) -> Iterator[SourcePhoto]:
        """The photos in the order of the index."""
        for path, label, split, group, coarse_label, true_label, mark in self._rows.iter_rows():
            if coarse_label is None and label is not None:
                coarse_label = self.coarse_of.get(label)
            yield FilePhoto(
                photo_id=path,
                label=label,
                split=split,
                coarse_label=coarse_label,
                true_label=true_label,
                group=group,
                root=self._root,
                path=path,
                mark=mark,
            )

    def set_aside(self) -> Iterator[SetAside]:
        """Rows without a usable path, contradicting rows, and what the layout itself left out."""
        for photo_id, reason, message in self._set_aside.iter_rows():
            yield SetAside(photo_id=photo_id, reason=reason, message=message)


def _complete(rows: pl.DataFrame) -> pl.DataFrame:
    """All COLUMNS in their order, as text without white space at its ends, null where unknown or empty."""
    missing = [pl.lit(None, pl.String).alias(name) for name in COLUMNS if name not in rows.columns]
    texts = pl.col(pl.String).str.strip_chars()
    return (
        rows.with_columns(missing)
        .select(pl.col(name).cast(pl.String) for name in COLUMNS)
        .with_columns(pl.when(texts != "").then(texts))
    )


def names_of(labels: pl.Series) -> list[str]:
    """The labels once each, sorted; by their number where all are whole numbers."""
    names = labels.drop_nulls().unique()
    numbers = names.cast(pl.Int64, strict=False)
    order = pl.struct(numbers, names.alias("name")) if numbers.null_count() == 0 else names
    return names.to_frame("name").sort(order).to_series().to_list()


def put_aside(rows: pl.DataFrame, *, reason: str, message: pl.Expr) -> pl.DataFrame:
    """Rows (their `path` is the photo id) as a table of what is set aside."""
    return rows.select(
        pl.col("path").alias("photo_id"), pl.lit(reason).alias("reason"), message.alias("message")
    )


def _check_paths(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose path leads into the root, and those set aside because they have no such path."""
    rows = rows.with_columns(row=pl.int_range(1, pl.len() + 1).over("where"))
    absolute = pl.col("path").str.contains(_ABSOLUTE)
    untidy = pl.col("path").str.contains(r"(^|/)\.{0,2}(/|$)")  # a//b, ./a, a/../b, ../a
    odd = rows.filter(~absolute & untidy)
    if len(odd):
        tidy = {path: posixpath.normpath(path) for path in odd["path"].unique()}
        rows = rows.with_columns(pl.col("path").replace(tidy))
    outside = absolute | pl.col("path").str.contains(r"^\.\.(/|$)|^\.$")  # null where there is no path
    number = pl.format("{}, row {}", "where", pl.col("row"))
    aside = [
        put_aside(
            rows.filter(outside),
            reason="outside_root",
            message=pl.format(
                "{} names a file outside the data set's root: move it there, or remove it.", number
            ),
        ),
        put_aside(
            rows.filter(pl.col("path").is_null()).with_columns(path=number),
            reason="no_path",
            message=pl.format("{} has no path: fill it in, or remove the row.", pl.col("path")),
        ),
    ]
    return rows.filter(~outside).drop("row"), pl.concat(aside)


def locate(path: pl.Expr, folder: Folder, *, inside: str = "") -> pl.Expr:
    """An index's paths relative to the root, with forward slashes.

    Absolute ones (or URLs) lose the root in front, where they have it; the others are in the folder `inside`.
    """
    path = path.str.strip_chars().str.replace_all("\\", "/", literal=True)
    absolute = path.str.contains(_ABSOLUTE)
    roots = {folder.root}
    if not is_remote(folder.root):
        roots = {Path(folder.root).absolute().as_posix(), Path(folder.root).resolve().as_posix()}
    below = path
    for root in roots:
        below = below.str.strip_prefix(f"{root.rstrip('/')}/")
    prefix = f"{inside.strip('/')}/" if inside.strip("/") else ""
    return pl.when(absolute).then(below).when(path != "").then(pl.lit(prefix) + path)


def _check_repeated(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Equal rows once; a photo whose rows differ in a fact is set aside, as none can be trusted."""
    if not rows["path"].is_duplicated().any():
        return rows, pl.DataFrame(schema=_ASIDE)
    rows = rows.unique(["path", *_FACTS], keep="first", maintain_order=True)
    facts = [
        pl.when(pl.col(fact).n_unique() > 1).then(
            pl.format(
                " {} {}",
                pl.lit(fact),
                pl.col(fact).fill_null("none").unique(maintain_order=True).str.join(", "),
            )
        )
        for fact in _FACTS
    ]
    twice = rows["path"].is_duplicated()
    clashes = (
        rows.filter(twice)
        .group_by("path", maintain_order=True)
        .agg(pl.col("where").first(), pl.concat_str(facts, separator=";", ignore_nulls=True).alias("facts"))
    )
    message = pl.format(
        "{} has rows for it that contradict each other:{}. Keep the right one.", "where", "facts"
    )
    return rows.filter(~twice), put_aside(clashes, reason="contradicting_rows", message=message)


def _check_splits(rows: pl.DataFrame) -> None:
    strange = rows.filter(~pl.col("split").is_in(SPLITS))["split"].value_counts(sort=True)
    if len(strange):
        counted = ", ".join(f"{name!r} ({count:,} rows)" for name, count in strange.head(5).iter_rows())
        raise ValueError(
            f"Expected the splits {', '.join(SPLITS)} or an empty field, received {counted} in "
            f"{rows['where'][0]}. Rename them, or leave the split column out and split by hash."
        )


def _coarse_classes(rows: pl.DataFrame) -> dict[str, str]:
    pairs = rows.select("label", "coarse_label").drop_nulls().unique().sort(pl.all())
    split_labels = pairs.filter(pl.col("label").is_duplicated())
    if len(split_labels):
        label = split_labels["label"][0]
        names = split_labels.filter(pl.col("label") == label)["coarse_label"]
        raise ValueError(
            f"Expected one coarse class a label in {rows['where'][0]}, received {', '.join(names)} for "
            f"{label!r} ({split_labels['label'].n_unique()} such labels). Correct the rows, or leave "
            "the coarse column out."
        )
    return dict(pairs.iter_rows())


def _with_marks(rows: pl.DataFrame, folder: Folder) -> pl.DataFrame:
    """Marks of remote photos from one listing of the root; a request a photo would take hours."""
    rows = rows.drop("where")
    if not is_remote(folder.root):
        return rows.with_columns(mark=pl.lit(None, pl.String))
    return rows.join(list_files(folder), on="path", how="left", maintain_order="left")


def list_files(folder: Folder, path: str = "") -> pl.DataFrame:
    """Columns path and mark of all visible files below a path of the folder, in its order."""
    schema = {"path": pl.String, "mark": pl.String}
    return pl.DataFrame(folder.files(path), schema=schema, orient="row")
