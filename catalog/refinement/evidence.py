"""What refinement rules read: which kind of path each rule wants, and evidence put beside a list's photos.

A loss log and out-of-fold predictions have the same columns (`contracts.evidence`), so a rule does not ask
which one it was given. A path of another kind is refused here, by name, before any rule misreads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from catalog.lists import load_list
from contracts.evidence import LOSS_LOG, OUT_OF_FOLD
from contracts.table import Table, find_table
from imaging.config import Config

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

Evidence: TypeAlias = pl.DataFrame | Mapping[str, pl.DataFrame]
"""One table, or a folder's tables by file stem."""


class Refinement(Config):
    """What every refinement rule has: where it reads, and how many classes must be left."""

    base: str
    """Path of the list that is filtered or added to; conf/nothing.yaml for an empty one."""
    evidence: str
    """Path of what the rule reads about the photos: a loss log, out-of-fold predictions, duplicates or
    another list."""
    min_classes_kept: int | None = Field(default=None, ge=1)
    """The stage fails where the list keeps fewer classes; null: any number will do."""


class RefinementByScore(Refinement):
    """What rules have that read a loss log or out-of-fold predictions."""

    members: tuple[str, ...] = ()
    """Where evidence is a folder of out-of-fold predictions: the files that are put together, such as one for
    each held-out fold; none of their photos may occur twice."""


def load_scores(
    path: Path, *, columns: Sequence[str] | None = None, members: Sequence[str] = ()
) -> pl.DataFrame:
    """Read a loss log or out-of-fold predictions, or put together the named files of a folder of these.

    columns: those to read beside photo_id, class and source_sha256; None for all that both have. Raises
    FileNotFoundError; ValueError for another kind of path and for photos that occur twice.
    """
    wanted = LOSS_LOG.names if columns is None else ["photo_id", "class", *columns, "source_sha256"]
    if not path.is_dir():
        if members:
            raise ValueError(
                f"Expected a folder of out-of-fold predictions for the members {list(members)}, received the "
                f"file {path}."
            )
        return _read_scores(path, wanted)
    if not members:
        raise ValueError(
            f"Expected a loss log or out-of-fold predictions, received the folder {path}: name a file in it, "
            f"or the files to put together as `members`, of {_stems(path)}."
        )
    table = pl.concat([_read_scores(path / f"{name}.parquet", wanted) for name in members])
    twice = table["photo_id"].is_duplicated()
    if twice.any():
        raise ValueError(
            f"Expected each photo in one of the members {list(members)}, received {int(twice.sum())} rows of "
            f"photos in several, first {table['photo_id'].filter(twice)[0]!r}: put held-out folds together."
        )
    return table


def load_members(path: Path, *, members: Sequence[str]) -> dict[str, pl.DataFrame]:
    """Read the named out-of-fold predictions of a folder, by name. Raises as `load_scores` does."""
    if not path.is_dir():
        raise ValueError(
            f"Expected a folder of out-of-fold predictions with {list(members)}, received {path}."
        )
    return {
        name: _read_scores(path / f"{name}.parquet", OUT_OF_FOLD.names, among=[OUT_OF_FOLD])
        for name in members
    }


def load_other_list(path: Path, *, splits: pl.DataFrame | None) -> pl.DataFrame:
    """Read the list that a set operation takes as evidence."""
    if path.is_dir():
        raise ValueError(f"Expected a list, received the folder {path}.")
    return load_list(path, splits=splits)


def _read_scores(
    path: Path, columns: Sequence[str], *, among: Sequence[Table] = (LOSS_LOG, OUT_OF_FOLD)
) -> pl.DataFrame:
    if not path.exists():
        raise FileNotFoundError(
            f"Expected a loss log or out-of-fold predictions at {path}, found none, beside it "
            f"{_stems(path.parent)}: run the stage that makes it, or correct `evidence` and `members`."
        )
    return pl.DataFrame(find_table(path, among=among).read(path, columns))


def _stems(folder: Path) -> list[str]:
    return sorted(found.stem for found in folder.glob("*.parquet"))


def match_scores(base: pl.DataFrame, scores: pl.DataFrame, *, num_classes: int) -> pl.DataFrame:
    """The evidence about each photo of a labelled list, in the list's order.

    Raises ValueError for photos of the list without a row, for content or labels that differ, and for classes
    outside 0..num_classes-1: such evidence was recorded on another list.
    """
    matched = scores
    if not base["photo_id"].equals(scores["photo_id"]):
        matched = base.select("photo_id").join(
            scores.with_columns(_has_row=pl.lit(True)), on="photo_id", how="left", maintain_order="left"
        )
        _refuse(
            base,
            matched["_has_row"].is_null(),
            "Expected evidence about every photo of the base list, received none for",
            "record or predict the photos of this list, or choose the base that the evidence was made on",
        )
        matched = matched.drop("_has_row")
    _refuse(
        base,
        base["source_sha256"].ne_missing(matched["source_sha256"]),
        "Expected evidence about the photos of the base list, received other content under the names of",
        "these photos changed since: record or predict them again",
    )
    _refuse(
        base,
        base["class"].ne_missing(matched["class"]),
        "Expected evidence about the labels of the base list, received another label for",
        "record or predict the photos with these labels",
    )
    require_classes(base, num_classes=num_classes)
    return matched


def require_classes(rows: pl.DataFrame, *, num_classes: int) -> None:
    """Raise ValueError for photos without a class of 0..num_classes-1."""
    _refuse(
        rows,
        ~rows["class"].is_between(0, num_classes - 1).fill_null(False),
        f"Expected classes of 0..{num_classes - 1}, received another for",
        "use lists and evidence of this data; a rule about labels needs labelled photos",
    )


def _refuse(base: pl.DataFrame, wrong: pl.Series, problem: str, advice: str) -> None:
    if wrong.any():
        first = base.filter(wrong).head(3)
        shown = ", ".join(f"{photo!r} (class {label})" for photo, label in first["photo_id", "class"].rows())
        raise ValueError(f"{problem} {int(wrong.sum())} of {len(base)} photos, first {shown}: {advice}.")
