"""What a person should know of the data before anything trains on them, and what must not be trained on.

One look at the store, its quarantine and the splits: reasons to stop, each a sentence, and warnings, each a
count with its names. The stage `split` makes it (docs/decisions/008), so an empty test is found before every
phase was trained, and not after.
"""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import Field

from catalog.quarantine import count_reasons
from catalog.splits import SplitConfig, choose_method, deals_validation
from contracts.values import GIVEN_SPLITS, SPLIT_NAMES
from imaging.config import Config

REVIEW_FILE = "review.json"
FORMAT_VERSION = 1
_KEPT = 100  # photos of a kind that review.json names; the quarantine has all of them
_ASKED_FOR = ("dropped_label",)  # refused because data.options says so, so not a fault of the source

# Characters that a person cannot tell apart in most fonts: Cyrillic and Greek letters (in lower case),
# quotes, blanks. Compared, never replaced.
_ALIKE = dict(
    zip(
        map(
            ord,
            "аеорсухіјѕԁԛԝαορνικ"
            + "\u2018\u2019\u02bc\u00b4`\u201c\u201d"
            + "\u2800\u3164\u115f\u1160\uffa0",
        ),
        "aeopcyxijsdqwaopvik" + 5 * "'" + 2 * '"' + 5 * " ",
        strict=True,
    )
)


class ReviewConfig(Config):
    """When the review of the data stops the stage `split`, and what it names."""

    max_refused_share: float = Field(default=0.1, ge=0, le=1)
    """The share of a source's rows and files that may be refused; more stop the stage. 1 allows all."""
    small_class: int = Field(default=1, ge=0)
    """Classes of at most so many photos are named; 0 names none."""
    shown_names: int = Field(default=5, ge=0)
    """Names that are printed of each kind; review.json holds every class and a hundred photos."""


@dataclass(frozen=True, kw_only=True)
class Warned:
    """One kind of thing to know: how many, and which."""

    what: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Review:
    """What was found, in the order of the table that is printed."""

    num_classes: int
    num_photos: int
    num_refused: int
    method: str
    """given or stratified: what `auto` came to."""
    splits: tuple[dict[str, Any], ...]
    """split, photos, labelled, classes: a row a split; none where a stop came before splitting."""
    warnings: tuple[Warned, ...]
    stops: tuple[str, ...]
    """Sentences, each with what to do; none where the data can be trained on."""


class ReviewError(ValueError):
    """The data must not be trained on as they are; the message has a sentence for each reason."""


def check_source(
    photos: pl.DataFrame, quarantine: pl.DataFrame, *, split: SplitConfig, config: ReviewConfig
) -> list[str]:
    """Reasons to stop that are known before splitting (photos.parquet, quarantine.parquet), as sentences."""
    return [*_check_refused(photos, quarantine, config=config), *_check_given(photos, split=split)]


def _check_refused(photos: pl.DataFrame, quarantine: pl.DataFrame, *, config: ReviewConfig) -> list[str]:
    refused = quarantine.filter(~pl.col("reason").is_in(_ASKED_FOR))
    total = photos.height + refused.height
    if refused.height <= config.max_refused_share * total:
        return []
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in count_reasons(refused).items())
    share = refused.height / total
    return [
        f"Expected at most {config.max_refused_share:.0%} of the source's rows and files to be refused, "
        f"received {refused.height:,} of {total:,} ({share:.0%}: {reasons}): look at them with `aisle photos "
        "quarantine` and mend the source, or allow them with "
        f"data.review.max_refused_share={_round_up(share)}."
    ]


def _round_up(share: float) -> float:
    return min(1.0, round(share + 0.005, 2))


def _check_given(photos: pl.DataFrame, *, split: SplitConfig) -> list[str]:
    labelled = photos.filter(pl.col("label").is_not_null())
    given = labelled.filter(pl.col("split").is_in(GIVEN_SPLITS))
    missing = labelled.height - given.height
    if given.is_empty() or split.ignore_given:
        return []
    parts = ", ".join(
        f"{count:,} in {name}" for name, count in given.group_by("split").len().sort("split").iter_rows()
    )
    if split.method == "stratified":
        return [
            f"Expected a source without splits beside data.split.method: stratified, received one that gives "
            f"them ({parts}): keep them with data.split.method=auto, or split all photos again with "
            "data.split.ignore_given=true."
        ]
    if missing and split.unassigned == "stop":
        without = labelled.filter(~pl.col("split").is_in(GIVEN_SPLITS).fill_null(False))["photo_id"]
        return [
            f"Expected a split of every labelled photo or of none, received {parts} and {missing:,} in none "
            f"({_first(without.to_list(), 3)}): complete the source, or put those into train with "
            "data.split.unassigned=train, leave them out with data.split.unassigned=unused, or split all "
            "photos again with data.split.method=stratified data.split.ignore_given=true."
        ]
    return []


def make_review(
    photos: pl.DataFrame,
    quarantine: pl.DataFrame,
    splits: pl.DataFrame | None,
    *,
    class_names: Sequence[str],
    split: SplitConfig,
    config: ReviewConfig,
    evaluation_split: str | None,
    validation_split: str | None,
    watched_by: Sequence[str] = (),
) -> Review:
    """Review a store (photos.parquet, quarantine.parquet) and its splits (splits.parquet, None before them).

    evaluation_split, validation_split: None where nothing is evaluated, or watched. watched_by: phases that
    go by the error on validation_split, which must not be empty then.
    """
    stops = check_source(photos, quarantine, split=split, config=config)
    warnings = [
        *_warn_of_phantoms(photos, class_names),
        *_warn_of_names(class_names),
        *_warn_of_refused(quarantine),
    ]
    parts: list[dict[str, Any]] = []
    if splits is not None:
        parts = _count_splits(splits)
        sizes = {part["split"]: part["labelled"] for part in parts}
        stops += _check_train(sizes)
        stops += _check_evaluation(sizes, evaluation_split=evaluation_split, photos=photos, split=split)
        unwatched: list[Warned] = []
        if validation_split is not None:
            stops += _check_validation(sizes, validation_split=validation_split, watched_by=watched_by)
            unwatched = _warn_of_validation(photos, sizes, validation_split=validation_split, split=split)
        warnings = [
            *unwatched,
            *_warn_of_classes(splits, class_names, evaluation_split=evaluation_split, config=config),
            *_warn_of_unlabelled(splits),
            *warnings,
        ]
    return Review(
        num_classes=len(class_names),
        num_photos=photos.height,
        num_refused=quarantine.height,
        method=choose_method(photos, config=split),
        splits=tuple(parts),
        warnings=tuple(warnings),
        stops=tuple(stops),
    )


def _count_splits(splits: pl.DataFrame) -> list[dict[str, Any]]:
    counted = splits.group_by("split").agg(
        photos=pl.len(), labelled=pl.col("class").count(), classes=pl.col("class").drop_nulls().n_unique()
    )
    rows = {row["split"]: row for row in counted.iter_rows(named=True)}
    return [rows[name] for name in SPLIT_NAMES if name in rows]


def _check_train(sizes: dict[str, int]) -> list[str]:
    if sizes.get("train"):
        return []
    return ["Expected labelled photos in train, received none: nothing could be learnt; look at the splits."]


def _check_evaluation(
    sizes: dict[str, int], *, evaluation_split: str | None, photos: pl.DataFrame, split: SplitConfig
) -> list[str]:
    if evaluation_split is None or sizes.get(evaluation_split):
        return []
    if choose_method(photos, config=split) == "stratified":
        todo = (
            f"raise data.split.{evaluation_split}_share, choose another seed, or add photos"
            if evaluation_split in ("val", "test")
            else "raise data.split.holdout_share, or choose another data.evaluation_split"
        )
    elif evaluation_split == "test" and sizes.get("val"):
        todo = (
            "evaluate on val and watch a part of train with data.evaluation_split=val "
            "data.validation_split=holdout data.split.holdout_share=0.1, or give the source a labelled test"
        )
    else:
        todo = (
            f"give the source labelled photos in {evaluation_split}, or split all photos again with "
            "data.split.method=stratified data.split.ignore_given=true"
        )
    there = ", ".join(f"{name} {count:,}" for name, count in sizes.items() if count) or "none anywhere"
    return [
        f"Expected labelled photos in the evaluation split {evaluation_split!r}, received none (labelled: "
        f"{there}): {todo}."
    ]


def _check_validation(
    sizes: dict[str, int], *, validation_split: str, watched_by: Sequence[str]
) -> list[str]:
    if sizes.get(validation_split) or not watched_by:
        return []
    return [
        f"Expected labelled photos in {validation_split!r}, whose error {_first(watched_by, 5)} go by, "
        "received none: give the splits a validation part (data.split.val_share, data.split.holdout_share), "
        "or change keep_weights, early_stop_epochs and schedule of these phases."
    ]


def _warn_of_validation(
    photos: pl.DataFrame, sizes: dict[str, int], *, validation_split: str, split: SplitConfig
) -> list[Warned]:
    if deals_validation(photos, config=split):
        what = f"photos of train dealt to val: the source has no val ({split.val_share:.0%} of train)"
        return [Warned(what=what, count=sizes.get("val", 0), names=())]
    if not sizes.get(validation_split):
        return [Warned(what=f"photos in {validation_split}, so no epoch is validated", count=0, names=())]
    return []


def _warn_of_classes(
    splits: pl.DataFrame, class_names: Sequence[str], *, evaluation_split: str | None, config: ReviewConfig
) -> list[Warned]:
    # Thinned out photos count as photos of their class, but not as photos to learn from.
    counts = (
        splits.drop_nulls("class")
        .group_by("class")
        .agg(
            photos=pl.len(),
            train=(pl.col("split") == "train").sum(),
            evaluated=(pl.col("split") == pl.lit(evaluation_split)).sum(),
        )
    )
    classes = pl.DataFrame({"class": range(len(class_names)), "name": class_names}).cast({"class": pl.Int32})
    table = classes.join(counts, on="class", how="left", maintain_order="left").fill_null(0)
    some = pl.col("photos") > 0
    kinds = [
        ("classes missing in train", some & (pl.col("train") == 0)),
        (f"classes missing in {evaluation_split}, the evaluation split", some & (pl.col("evaluated") == 0)),
        (_few(config.small_class), some & (pl.col("photos") <= config.small_class)),
    ]
    found = [
        (what, table.filter(those)["name"].to_list())
        for what, those in kinds
        if evaluation_split is not None or not what.startswith("classes missing in None")
    ]
    return [Warned(what=what, count=len(names), names=tuple(names)) for what, names in found if names]


def _warn_of_phantoms(photos: pl.DataFrame, class_names: Sequence[str]) -> list[Warned]:
    with_photos = set(photos["label"].unique())
    names = tuple(name for name in class_names if name not in with_photos)
    return [Warned(what="classes without a photo", count=len(names), names=names)] if names else []


def _few(count: int) -> str:
    return "classes with one photo" if count == 1 else f"classes with at most {count} photos"


def _warn_of_unlabelled(splits: pl.DataFrame) -> list[Warned]:
    unlabelled = splits.filter(pl.col("class").is_null())
    found = {
        name: unlabelled.filter(pl.col("split") == name)["photo_id"] for name in ("train", "val", "holdout")
    }
    return [
        Warned(
            what=f"photos without a label in {name}: not used", count=len(ids), names=tuple(ids.head(_KEPT))
        )
        for name, ids in found.items()
        if len(ids)
    ]


def _warn_of_names(class_names: Sequence[str]) -> list[Warned]:
    groups = defaultdict[str, list[str]](list)
    for name in class_names:
        groups[print_form(name)].append(name)
    alike = [" = ".join(map(ascii, names)) for names in groups.values() if len(names) > 1]
    return (
        [Warned(what="class names that print alike", count=len(alike), names=tuple(alike))] if alike else []
    )


def print_form(name: str) -> str:
    """What is left of a name when nobody looks closely: equal for names that print alike.

    Case, NFC against NFD, spaces of any kind and number, zero-width characters, dashes, quotes, and letters
    of other scripts that look the same make no difference.
    """
    letters = []
    for char in unicodedata.normalize("NFC", name.casefold()).translate(_ALIKE):
        category = unicodedata.category(char)
        if char.isspace():
            letters.append(" ")
        elif category == "Pd" or char == "\u2212":
            letters.append("-")
        elif category not in ("Cf", "Cc") and not ("\ufe00" <= char <= "\ufe0f" or char == "\u034f"):
            letters.append(char)
    return unicodedata.normalize("NFC", " ".join("".join(letters).split()))


def _warn_of_refused(quarantine: pl.DataFrame) -> list[Warned]:
    return [
        Warned(
            what=f"refused: {reason}",
            count=count,
            names=tuple(quarantine.filter(pl.col("reason") == reason)["photo_id"].head(_KEPT)),
        )
        for reason, count in count_reasons(quarantine).items()
    ]


def _first(names: Sequence[str], count: int) -> str:
    more = len(names) - count
    return ", ".join(map(repr, names[:count])) + (f" and {more:,} more" if more > 0 else "")


def describe_review(review: Review, *, data: str, config: ReviewConfig) -> str:
    """The review as text: a table of splits and a table of warnings."""
    how = "as the source gives them" if review.method == "given" else "by chance in every class"
    lines = [
        f"Review of {data}: {review.num_classes:,} classes, {review.num_photos:,} photos, "
        f"{review.num_refused:,} refused; splits {how}"
    ]
    for part in review.splits:
        share = part["photos"] / max(1, review.num_photos)
        labelled = f", {part['labelled']:,} labelled" if part["labelled"] < part["photos"] else ""
        lines.append(
            f"  {part['split']:8} {part['photos']:>10,} photos, {share:.1%}{labelled}, "
            f"{part['classes']:,} classes"
        )
    if review.warnings:
        width = max(len(warned.what) for warned in review.warnings)
        lines.append("Warnings:")
    for warned in review.warnings:
        names = _shown(warned, config.shown_names)
        lines.append(f"  {warned.what:{width}} {warned.count:>8,}  {names}".rstrip())
    return "\n".join(lines)


def refuse_stops(review: Review, *, data: str) -> None:
    """Raise ReviewError, a sentence for each reason, where the data must not be trained on."""
    if review.stops:
        reasons = "\n".join(f"  - {stop}" for stop in review.stops)
        raise ReviewError(f"Nothing is trained on {data} as it is:\n{reasons}")


def _shown(warned: Warned, count: int) -> str:
    names = [name if " = " in name and name[:1] in "'\"" else repr(name) for name in warned.names[:count]]
    more = warned.count - len(names)
    return ", ".join(names) + (f" and {more:,} more" if names and more > 0 else "")


def save_review(review: Review, path: Path) -> None:
    """Write a review as JSON, free of times."""
    text = json.dumps({"format_version": FORMAT_VERSION, **asdict(review)}, indent=1, ensure_ascii=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def load_review(path: Path) -> Review:
    """Read a review. Raises ValueError for a file of another format."""
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.pop("format_version", None) != FORMAT_VERSION:
        raise ValueError(
            f"Expected {path} in format {FORMAT_VERSION}, received another: run dvc repro split."
        )
    warnings = tuple(
        Warned(what=item["what"], count=item["count"], names=tuple(item["names"]))
        for item in values.pop("warnings")
    )
    splits, stops = tuple(values.pop("splits")), tuple(values.pop("stops"))
    return Review(warnings=warnings, splits=splits, stops=stops, **values)
