"""What layouts with an index share: rows that name a photo each, put in order and handed out.

A layout only reads its own format into rows of COLUMNS; paths, repeated rows, splits and coarse classes are
judged here, once, for every layout. A bad row is rejected with a reason and never stops the good ones; what
is wrong with an index as a whole is an error.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import polars as pl

from catalog.sources import FilePhoto, SetAside, SourcePhoto, is_remote
from catalog.sources.folder import ASIDE, Folder, Listing
from catalog.sources.matching import PLACE, match_files

SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The split that a name in lower case stands for."""
COLUMNS = {
    **dict.fromkeys(("path", "label", "split", "group", "coarse_label", "true_label", "where"), pl.String),
    "number": pl.Int64,
    "exact": pl.String,
}
"""Columns of an index's rows. `where` is the index's name for messages, `number` a row's line in it (or the
negative number of the row), `exact` the path letter by letter where `path` is tidied. Missing ones count as
unknown; without numbers, rows are counted."""
Unlisted = Literal["set_aside", "unlabelled", "ignore"]
_ABSOLUTE = r"^(/|[A-Za-z]:/|[a-z0-9]+://)"
_FACTS = ("label", "split", "group", "coarse_label", "true_label")


@dataclass(frozen=True, kw_only=True)
class CheckedRows:
    """Rows with one file each, and what was rejected (ASIDE) on the way."""

    rows: pl.DataFrame
    set_aside: pl.DataFrame


def check_rows(
    rows: pl.DataFrame,
    folder: Folder,
    *,
    indexes: Collection[str],
    inside: str = "",
    unlisted: Unlisted = "set_aside",
    rejected: pl.DataFrame | None = None,
    listing: Listing | None = None,
) -> CheckedRows:
    """Put an index's rows (COLUMNS or some of them) in order, each with the file that it means.

    indexes: files below the root that are no photos. inside: the folder that holds the photos. unlisted: what
    becomes of the files there that no row names. rejected: rows that could not be read (ASIDE). listing: what
    `list_for` found, where that was asked before. Raises ValueError where no row can be used.
    """
    before = pl.DataFrame(schema=ASIDE) if rejected is None else rejected
    if rows.is_empty():
        raise _no_rows(before, folder)
    rows = _complete(rows)
    rows, without_path = _check_paths(rows)
    rows, strange = _check_splits(rows)
    aside = pl.concat([before, without_path, strange])
    if rows.is_empty():
        raise _no_rows(aside, folder)
    if listing is None:
        listing = list_for(rows, folder, inside=inside, indexes=indexes)
    matched = match_files(rows, listing, place=inside.strip("/") or folder.name)
    rows, repeated = _check_repeated(matched.rows)
    aside = pl.concat([aside, matched.rejected, repeated])
    if unlisted != "ignore":
        aside.extend(matched.left_out)
    files = matched.unlisted.filter(~pl.col("path").is_in(aside["photo_id"].implode()))
    if unlisted == "unlabelled":
        rows = pl.concat([rows, files], how="diagonal")
    elif unlisted == "set_aside":
        message = f"No row of {', '.join(sorted(indexes))} names this file: add a row, or remove the file."
        aside.extend(put_aside(files, reason="no_row", message=pl.lit(message)))
    return CheckedRows(rows=rows, set_aside=aside)


def list_for(rows: pl.DataFrame, folder: Folder, *, inside: str, indexes: Collection[str]) -> Listing:
    """What lies in the photos' folder; in the whole root where a row leads out of that folder."""
    inside = inside.strip("/")
    if inside and not rows["path"].str.starts_with(f"{inside}/").all():
        whole = folder.listing()
        beyond = ~pl.col("path").is_in(rows["path"].implode()) & ~pl.col("path").str.starts_with(f"{inside}/")
        listing = replace(
            whole,
            files=whole.files.filter(~beyond),
            rejected=whole.rejected.filter(pl.col("photo_id").str.starts_with(f"{inside}/")),
        )
    else:
        listing = folder.listing(inside)
    return replace(
        listing,
        files=listing.files.filter(~pl.col("path").is_in([posixpath.normpath(name) for name in indexes])),
    )


def _no_rows(aside: pl.DataFrame, folder: Folder) -> ValueError:
    first = f" The first: {aside['message'][0]}" if len(aside) else ""
    return ValueError(
        f"Expected photos in the index of {folder.name}, received none that can be used.{first}"
    )


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
            raise _no_rows(checked.set_aside, folder)
        self.layout = layout
        self.class_names = names_of(rows["label"]) if class_names is None else list(class_names)
        self.coarse_of = _coarse_classes(rows) if coarse_of is None else coarse_of
        self._root = folder.root
        self._set_aside = checked.set_aside
        self._rows = rows.select("path", *_FACTS, "mark")

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
        """Rows without a file, contradicting rows, files without a row, and what the layout rejects."""
        for photo_id, reason, message in self._set_aside.iter_rows():
            yield SetAside(photo_id=photo_id, reason=reason, message=message)


def _complete(rows: pl.DataFrame) -> pl.DataFrame:
    """All COLUMNS in their order, facts without white space at their ends, null where unknown or empty."""
    missing = [pl.lit(None, kind).alias(name) for name, kind in COLUMNS.items() if name not in rows.columns]
    facts = pl.col("path", "where", *_FACTS).str.strip_chars()
    count = pl.int_range(1, pl.len() + 1).over("where")
    return (
        rows.with_columns(missing)
        .select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())
        .with_columns(pl.when(facts != "").then(facts))
        .with_columns(number=pl.coalesce("number", -count))
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
    rows = tidy(rows)
    absolute = pl.col("path").str.contains(_ABSOLUTE)
    outside = absolute | pl.col("path").str.contains(r"^\.\.(/|$)|^\.$")  # null where there is no path
    aside = [
        put_aside(
            rows.filter(outside),
            reason="outside_root",
            message=pl.format(
                "{} names a file outside the data set's root: move it there, or remove it.", PLACE
            ),
        ),
        put_aside(
            rows.filter(pl.col("path").is_null()).with_columns(path=PLACE),
            reason="no_path",
            message=pl.format("{} has no path: fill it in, or remove the row.", pl.col("path")),
        ),
    ]
    return rows.filter(~outside), pl.concat(aside)


def tidy(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose relative paths have no parts such as . and .. any more, where that can be."""
    untidy = pl.col("path").str.contains(r"(^|/)\.{0,2}(/|$)")  # a//b, ./a, a/../b, ../a
    odd = rows.filter(~pl.col("path").str.contains(_ABSOLUTE) & untidy)
    if odd.is_empty():
        return rows
    tidied = {path: posixpath.normpath(path) for path in odd["path"].unique()}
    return rows.with_columns(pl.col("path").replace(tidied))


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
        return rows, pl.DataFrame(schema=ASIDE)
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
        .agg(
            PLACE.first().alias("place"),
            pl.concat_str(facts, separator=";", ignore_nulls=True).alias("facts"),
        )
    )
    message = pl.format(
        "{} and later rows for it contradict each other:{}. Keep the right one.", "place", "facts"
    )
    return rows.filter(~twice), put_aside(clashes, reason="contradicting_rows", message=message)


def _check_splits(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of known splits, in whatever case and with the usual words for val, and those of others."""
    split = pl.col("split").str.to_lowercase()
    known = split.replace_strict(SPLIT_OF, default=None, return_dtype=pl.String)
    strange = rows.filter(pl.col("split").is_not_null() & known.is_null())
    message = pl.format(
        "{}: expected a split train, val or test, or an empty field, received '{}'. Rename it, or leave the "
        "split column out and split by hash.",
        PLACE,
        "split",
    )
    aside = put_aside(strange, reason="unknown_split", message=message)
    return rows.filter(pl.col("split").is_null() | known.is_not_null()).with_columns(split=known), aside


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
