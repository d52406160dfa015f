"""Which file on disk each row of an index means.

Tables and disks spell one name in several ways: macOS decomposes accents (NFD), spreadsheets cut the space
at a name's end, other systems write backslashes. A row gets the file that is named exactly; where none is,
the one that differs in such a spelling only. The photo's id is always the name on disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from catalog.sources.folder import ASIDE, Listing
from catalog.sources.walk import HIDDEN

PLACE = pl.format(
    "{}, {} {}",
    "where",
    pl.when(pl.col("number") > 0).then(pl.lit("line")).otherwise(pl.lit("row")),
    pl.col("number").abs(),
)
"""Where a row stands, for messages: `t.csv, line 7`."""
_NO_FILE = "names a file that is not there{}: restore it, or remove the row."
_OTHER_CASE = " (one in other upper and lower case is: {})"


@dataclass(frozen=True, kw_only=True)
class MatchedRows:
    """Rows whose file is there, and what was rejected."""

    rows: pl.DataFrame
    """`path` is the name on disk, `mark` what a listing said of it."""
    rejected: pl.DataFrame
    """ASIDE: rows without a file."""
    left_out: pl.DataFrame
    """ASIDE: what the listing rejected and no row names."""
    unlisted: pl.DataFrame
    """path and mark of the files that no row names."""


def match_files(rows: pl.DataFrame, listing: Listing, *, place: str) -> MatchedRows:
    """Find the file of each row (path, exact, where, number, ...). Raises ValueError where no row has one.

    place: the folder that was listed, for that error.
    """
    hidden = listing.rejected.filter(reason=HIDDEN).select(path="photo_id", mark=pl.lit(None, pl.String))
    files = pl.concat([listing.files, hidden])
    named = find_files(rows, files["path"])
    found, lost = pl.col("file").is_not_null(), named.filter(pl.col("file").is_null())
    matched = named.filter(found).drop("path").rename({"file": "path"})
    if matched.is_empty() and len(rows):
        raise _nothing_matches(rows, files, place=place)
    rejected, explained = _reject(lost, listing, files)
    taken = matched["path"].implode()
    return MatchedRows(
        rows=matched.drop("exact", "ambiguous").join(files, on="path", how="left", maintain_order="left"),
        rejected=rejected,
        left_out=listing.rejected.filter(
            ~pl.col("photo_id").is_in(taken), ~pl.col("photo_id").is_in(explained.implode())
        ),
        unlisted=listing.files.filter(~pl.col("path").is_in(taken)),
    )


def find_files(rows: pl.DataFrame, files: pl.Series) -> pl.DataFrame:
    """The rows with `file`, the name on disk or null, and `ambiguous`, where several would do equally."""
    exact, tidy = pl.col("exact").is_in(files.implode()), pl.col("path").is_in(files.implode())
    named = rows.with_columns(
        file=pl.when(exact.fill_null(False)).then("exact").when(tidy.fill_null(False)).then("path"),
        ambiguous=pl.lit(False),
    )
    if named["file"].null_count() == 0:
        return named
    spelt = pl.DataFrame({"path": files}).select("path", norm=_normal("path"))
    alike = spelt.group_by("norm").agg(pl.col("path").first().alias("like"), pl.len().alias("count"))
    named = named.with_columns(norm=_normal("path")).join(alike, on="norm", how="left", maintain_order="left")
    return named.with_columns(
        file=pl.coalesce("file", pl.when(pl.col("count") == 1).then("like")),
        ambiguous=pl.col("file").is_null() & (pl.col("count") > 1).fill_null(False),
    ).drop("norm", "like", "count")


def _normal(column: str) -> pl.Expr:
    """A name composed (NFC), and without spaces at its end."""
    return pl.col(column).str.normalize("NFC").str.strip_chars_end(" ")


def _reject(lost: pl.DataFrame, listing: Listing, files: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Rows without a file as ASIDE, and the listing's rejected names that they explain."""
    if lost.is_empty():
        return pl.DataFrame(schema=ASIDE), pl.Series("photo_id", [], dtype=pl.String)
    cases = files.group_by(low=pl.col("path").str.to_lowercase()).agg(pl.col("path").first().alias("other"))
    known = listing.rejected.rename({"photo_id": "path", "reason": "known", "message": "why"})
    lost = (
        lost.with_columns(low=pl.col("path").str.to_lowercase())
        .join(cases, on="low", how="left", maintain_order="left")
        .join(known.unique("path"), on="path", how="left", maintain_order="left")
    )
    hint = pl.format(_OTHER_CASE, "other").fill_null("")
    reason = (
        pl.when("ambiguous").then(pl.lit("ambiguous_name")).otherwise(pl.coalesce("known", pl.lit("no_file")))
    )
    message = (
        pl.when("ambiguous")
        .then(
            pl.format(
                "{} names a file of which several spellings are there (accents composed or not, a space at "
                "the end) and none as written: rename all but one, or correct the row.",
                PLACE,
            )
        )
        .when(pl.col("why").is_not_null())
        .then(pl.format("{} names it. {}", PLACE, "why"))
        .otherwise(pl.format("{} " + _NO_FILE, PLACE, hint))
    )
    rejected = lost.select(photo_id="path", reason=reason, message=message)
    return rejected, lost.filter(pl.col("why").is_not_null())["path"]


def _nothing_matches(rows: pl.DataFrame, files: pl.DataFrame, *, place: str) -> ValueError:
    there = f"a file there is {files['path'][0]!r}" if len(files) else f"{place!r} has no files"
    return ValueError(
        f"Expected files for the rows of {rows['where'][0]}, found none of {len(rows):,}: the first row "
        f"means {rows['path'][0]!r}, {there}. Set folder and suffix so that they agree, or correct the paths."
    )
