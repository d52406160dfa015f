"""Lists: the rows that a phase trains on, each with the reason why it is there.

Saved as Parquet, and answering what a person asks of them: what is in this one, and what changed between two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from catalog.content import CONTENT, add_content, require_content
from contracts.lists import LIST
from contracts.values import GROUPS, Group

_OF_A_PERSON = ["photo_id", "class", "why"]


@dataclass(frozen=True, kw_only=True)
class Third:
    """A third of the classes by number of training photos: the groups that errors are reported for."""

    name: Group
    num_classes: int
    num_classes_kept: int
    num_before: int
    """Labelled photos of these classes in the split."""
    num_after: int
    """Photos of these classes in the list."""


@dataclass(frozen=True, kw_only=True)
class ListSummary:
    """What `aisle lists show` prints."""

    num_photos: int
    num_unlabelled: int
    num_classes: int
    """Classes with a photo in the list."""
    num_classes_before: int
    """Classes with a labelled photo in the split."""
    share: float
    """The list's photos that are labelled ones of the split, as a share of the split's."""
    by_split: dict[str, int]
    """The list's photos by the split they are in, most first."""
    thirds: tuple[Third, ...]
    smallest: tuple[int, int] | None
    """Class and number of its photos in the list; of equal ones the first class. None without labels."""
    largest: tuple[int, int] | None
    reasons: dict[str, int]
    """Photos by their why with # for its numbers, most first."""


@dataclass(frozen=True, kw_only=True)
class ListDiff:
    """What `aisle lists diff` prints: how the second list differs from the first."""

    num_before: int
    num_after: int
    num_same: int
    """Photos with the same content, the same class and the same reason in both."""
    came: pl.DataFrame
    """photo_id, class, why of the photos that only the second has, in its order."""
    went: pl.DataFrame
    """photo_id, class, why of the photos that only the first has, in its order."""
    relabelled: pl.DataFrame
    """photo_id, class, class_after of the photos whose class changed."""
    reasons_changed: pl.DataFrame
    """photo_id, class, why, why_after of the photos with one class and another reason."""
    content_changed: pl.DataFrame | None
    """photo_id, class_after of the names that both have for photos of different content, which may be among
    those with another class or reason too; None where one of the lists does not say what its photos are."""
    classes: pl.DataFrame
    """class, before, after, came, went (photos): the classes whose photos changed, most changed first."""


def save_list(rows: pl.DataFrame, path: Path) -> None:
    """Write a list (photo_id, class, why, source_sha256, perceptual_hash) as Parquet.

    class is null on every row of a list of unlabelled photos, and on no row of another. Raises ValueError
    where columns differ, some classes or contents are missing, or a photo occurs twice.
    """
    require_content(rows, name=path.name)
    num_unlabelled = rows["class"].null_count()
    if 0 < num_unlabelled < len(rows):
        example = rows.filter(pl.col("class").is_null())["photo_id"][0]
        raise ValueError(
            f"{path.name}: expected a class for every photo or for none, received {num_unlabelled} of "
            f"{len(rows)} without one, first {example!r}: keep labelled and unlabelled photos apart."
        )
    if rows["photo_id"].n_unique() < len(rows):
        twice = rows.filter(pl.col("photo_id").is_duplicated())["photo_id"]
        raise ValueError(
            f"{path.name}: expected each photo once, received {twice.n_unique()} photos more often, first "
            f"{twice[0]!r}."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    LIST.write(path, rows)


def load_list(path: Path, *, splits: pl.DataFrame | None = None) -> pl.DataFrame:
    """Read a list: photo_id, class (Int32), why, source_sha256, perceptual_hash.

    A person's own list may leave the last two out: its names then mean the photos of the splits table.
    Raises FileNotFoundError; ValueError for another table, and for names that the splits lack.
    """
    rows = pl.DataFrame(LIST.read(path))
    if rows.columns == _OF_A_PERSON:
        if splits is None:
            raise ValueError(
                f"{path.name}: expected {list(CONTENT)} beside photo_id, class and why, received a list of "
                "names alone. One that dvc.yaml makes is older than these columns: run `dvc repro`."
            )
        rows = add_content(rows, splits=splits, name=path.name)
    if rows.columns != LIST.names:
        raise ValueError(
            f"{path.name}: expected a list with columns {LIST.names}, received {rows.columns} of them: add "
            "the others, or leave out the photos' content as a whole."
        )
    return rows


def summarize(rows: pl.DataFrame, *, splits: pl.DataFrame, split: str = "train") -> ListSummary:
    """Count a list (photo_id, class, why) against the labelled photos of a split."""
    labelled = splits.filter(pl.col("split") == split, pl.col("class").is_not_null())
    of_split = rows.join(labelled.select("photo_id"), on="photo_id", how="semi")
    origin = rows.select("photo_id").join(splits.select("photo_id", "split"), on="photo_id", how="left")
    sizes = rows["class"].drop_nulls().value_counts().sort("count", "class")
    return ListSummary(
        num_photos=len(rows),
        num_unlabelled=rows["class"].null_count(),
        num_classes=len(sizes),
        num_classes_before=labelled["class"].n_unique(),
        share=len(of_split) / len(labelled) if len(labelled) else 0.0,
        by_split=_counts(origin["split"].fill_null("none")),
        thirds=_thirds(rows["class"], labelled["class"]),
        smallest=sizes.row(0) if len(sizes) else None,
        largest=sizes.sort("count", "class", descending=[True, False]).row(0) if len(sizes) else None,
        reasons=_kinds_of_reasons(rows["why"]),
    )


def diff(before: pl.DataFrame, after: pl.DataFrame) -> ListDiff:
    """Compare two lists photo by photo: by name, and what each name means by content, where both know it."""
    both = before.join(after, on="photo_id", suffix="_after", maintain_order="left")
    same_class = pl.col("class").eq_missing(pl.col("class_after"))
    same_reason = pl.col("why") == pl.col("why_after")
    came = after.join(before, on="photo_id", how="anti", maintain_order="left")
    went = before.join(after, on="photo_id", how="anti", maintain_order="left")
    relabelled = both.filter(~same_class)
    comparable = all("source_sha256" in rows.columns for rows in (before, after))
    same_content = pl.col("source_sha256") == pl.col("source_sha256_after") if comparable else pl.lit(True)
    return ListDiff(
        num_before=len(before),
        num_after=len(after),
        num_same=len(both.filter(same_class & same_reason & same_content)),
        came=came.select("photo_id", "class", "why"),
        went=went.select("photo_id", "class", "why"),
        content_changed=both.filter(~same_content).select("photo_id", "class_after") if comparable else None,
        relabelled=relabelled.select("photo_id", "class", "class_after"),
        reasons_changed=both.filter(same_class & ~same_reason).select(
            "photo_id", "class", "why", "why_after"
        ),
        classes=_changed_classes(
            before=before["class"],
            after=after["class"],
            came=pl.concat([came["class"], relabelled["class_after"]]),
            went=pl.concat([went["class"], relabelled["class"]]),
        ),
    )


def _changed_classes(**photos: pl.Series) -> pl.DataFrame:
    """Photos of each class in each of the columns, for classes that a photo came to or went from."""
    counts = pl.concat(
        [values.alias("class").to_frame().with_columns(of=pl.lit(name)) for name, values in photos.items()]
    )
    table = counts.group_by("class").agg(
        (pl.col("of") == name).sum().cast(pl.Int64).alias(name) for name in photos
    )
    changes = pl.col("came") + pl.col("went")
    return table.filter(changes > 0).sort([changes, "class"], descending=[True, False])


def _thirds(after: pl.Series, before: pl.Series) -> tuple[Third, ...]:
    """Head, medium and tail as recognition.metrics.frequency_groups divides the classes that have photos."""
    num_classes = max(int(before.max() or 0), int(after.max() or 0)) + 1  # type: ignore[arg-type]
    num_before, num_after = (
        np.bincount(classes.drop_nulls().to_numpy(), minlength=num_classes) for classes in (before, after)
    )
    order = np.argsort(-num_before, kind="stable")
    order = order[num_before[order] > 0]
    return tuple(
        Third(
            name=name,
            num_classes=len(members),
            num_classes_kept=int((num_after[members] > 0).sum()),
            num_before=int(num_before[members].sum()),
            num_after=int(num_after[members].sum()),
        )
        for name, members in zip(GROUPS, np.array_split(order, len(GROUPS)), strict=True)
    )


def _kinds_of_reasons(why: pl.Series) -> dict[str, int]:
    texts = why.value_counts(name="photos")
    kinds = texts.with_columns(pl.col("why").str.replace_all(r"-?\d+(\.\d+)?", "#"))
    counted = (
        kinds.group_by("why").agg(pl.col("photos").sum()).sort(["photos", "why"], descending=[True, False])
    )
    return dict(counted.iter_rows())


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.alias("value").value_counts(name="photos")
    return dict(counted.sort(["photos", "value"], descending=[True, False]).iter_rows())
