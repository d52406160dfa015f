"""Which photos are learnt from and which only measured; labels become class indexes here.

The table never contains true labels: nothing that trains reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl

from catalog.chance import draw_uniform

METHODS = ("given", "stratified")
SPLITS = ("train", "val", "test", "holdout")
SPLITS_FILE = "splits.parquet"
CLASSES_FILE = "classes.json"


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How photos are divided into train, val, test and holdout."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    method: Literal["given", "stratified"] = "given"
    """given: the source's own splits; stratified: by chance in every class."""
    val_share: float = 0.1
    """stratified: share of the labelled photos for validation."""
    test_share: float = 0.1
    """stratified: share of the labelled photos for the test."""
    min_train_per_class: int = 1
    """Photos that a class keeps in train before any goes elsewhere by chance."""
    holdout_share: float = 0.0
    """Share of train set aside for validation when evaluation itself happens on val."""

    def __post_init__(self) -> None:
        shares = (self.val_share, self.test_share, self.holdout_share)
        if min(shares) < 0 or self.val_share + self.test_share >= 1 or self.holdout_share >= 1:
            raise ValueError(
                "Expected shares of at least 0 with val_share + test_share < 1 and holdout_share < 1, "
                f"received {self}."
            )
        if self.min_train_per_class < 1:
            raise ValueError(f"Expected min_train_per_class >= 1, received {self.min_train_per_class}.")


def make_splits(
    photos: pl.DataFrame, *, class_names: Sequence[str], config: SplitConfig, seed: int
) -> pl.DataFrame:
    """Assign every photo of a store (photos.parquet) to a split, in the store's order.

    Columns: photo_id, class (Int32 index into class_names, null where unlabelled), coarse, split. Chance
    depends on (seed, photo_id) only, so new photos move no old one, unless a class would have too few in
    train. stratified puts unlabelled photos into test. Raises ValueError for unknown labels or methods, and
    for `given` where the source has no splits.
    """
    splits = photos.select(
        "photo_id",
        _class_index(photos["label"], class_names),
        pl.col("coarse_label").alias("coarse"),
    )
    if config.method == "given":
        splits = splits.with_columns(_given_splits(photos))
    elif config.method == "stratified":
        splits = _split_by_chance(splits, config=config, seed=seed)
    else:
        raise ValueError(f"Unknown split method {config.method!r}. Methods: {', '.join(METHODS)}.")
    if config.holdout_share > 0:
        splits = _set_aside(splits, config=config, seed=seed)
    return splits.select("photo_id", "class", "coarse", "split")


def _class_index(labels: pl.Series, class_names: Sequence[str]) -> pl.Series:
    index = {name: number for number, name in enumerate(class_names)}
    classes = labels.replace_strict(index, default=None, return_dtype=pl.Int32).alias("class")
    unknown = labels.filter(labels.is_not_null() & classes.is_null())
    if len(unknown):
        names = unknown.unique(maintain_order=True)
        raise ValueError(
            f"Expected labels of the store's {len(class_names)} classes, received {len(names)} others on "
            f"{len(unknown)} photos, first {', '.join(repr(name) for name in names[:5])}. Ingest the "
            "source again."
        )
    return classes


def _given_splits(photos: pl.DataFrame) -> pl.Series:
    given = photos["split"]
    known = given.is_in(["train", "val", "test"]).fill_null(False)
    if not known.all():
        example = photos["photo_id"].filter(~known)[0]
        raise ValueError(
            f"The split method 'given' needs train, val or test on every photo; {(~known).sum()} of "
            f"{len(photos)} photos have none, first {example}. Methods: {', '.join(METHODS)}; use "
            "'stratified' for a source without splits."
        )
    return given


def _split_by_chance(splits: pl.DataFrame, *, config: SplitConfig, seed: int) -> pl.DataFrame:
    chance = draw_uniform(splits["photo_id"], seed=seed, purpose="split")
    wanted = (
        pl.when(pl.col("class").is_null() | (pl.col("chance") < config.test_share))
        .then(pl.lit("test"))
        .when(pl.col("chance") < config.test_share + config.val_share)
        .then(pl.lit("val"))
        .otherwise(pl.lit("train"))
    )
    # The photos of a class with the largest numbers are train by right: one more photo displaces at most one.
    needed = pl.col("class").is_not_null() & _is_among_last(config.min_train_per_class)
    split = pl.when(needed).then(pl.lit("train")).otherwise(wanted)
    return splits.with_columns(chance).with_columns(split.alias("split"))


def _set_aside(splits: pl.DataFrame, *, config: SplitConfig, seed: int) -> pl.DataFrame:
    """Move a share of train to holdout, leaving every class its minimum."""
    train = splits.filter(pl.col("split") == "train", pl.col("class").is_not_null())
    train = train.with_columns(draw_uniform(train["photo_id"], seed=seed, purpose="holdout"))
    aside = train.filter(
        pl.col("chance") < config.holdout_share, ~_is_among_last(config.min_train_per_class)
    ).select("photo_id", pl.lit("holdout").alias("moved"))
    joined = splits.join(aside, on="photo_id", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("moved", "split").alias("split"))


def _is_among_last(count: int) -> pl.Expr:
    """Whether a photo's chance is among the `count` largest of its class; equal chances by photo id."""
    order = pl.struct("chance", "photo_id").rank("ordinal", descending=True).over("class")
    return order <= count


def save_splits(
    splits: pl.DataFrame, folder: Path, *, class_names: Sequence[str], coarse_of: Mapping[str, str]
) -> None:
    """Write splits.parquet and classes.json into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    splits.write_parquet(folder / SPLITS_FILE)
    classes = {
        "class_names": list(class_names),
        "coarse_names": [coarse_of.get(name) for name in class_names],
    }
    text = json.dumps(classes, indent=1, ensure_ascii=False)
    (folder / CLASSES_FILE).write_text(text + "\n", encoding="utf-8")


def load_splits(folder: Path) -> pl.DataFrame:
    """Read the splits table of a folder: photo_id, class, coarse, split."""
    return pl.read_parquet(folder / SPLITS_FILE)


def load_class_names(folder: Path) -> tuple[list[str], list[str | None]]:
    """Read the class names of a splits folder, and the coarse name of each (None where there is none)."""
    classes = json.loads((folder / CLASSES_FILE).read_text(encoding="utf-8"))
    return classes["class_names"], classes["coarse_names"]
