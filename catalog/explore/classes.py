"""How many photos each class has, in every split and every list: the long tail that phases train against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from catalog.explore.figures import Ints, plot_class_frequency, plot_lists, plot_photos_per_class
from catalog.explore.overview import splits_present
from catalog.explore.page import Block, Cell, Plot, Section, Table, Text

_EXTREMES = 8
_PANELS = 12
STATISTICS = ("photos", "classes", "smallest class", "median", "largest")


def count_classes(rows: pl.DataFrame, *, num_classes: int) -> Ints:
    """Photos of each class `[num_classes]`; unlabelled rows do not count. Raises ValueError outside it."""
    classes = rows["class"].drop_nulls().to_numpy()
    if len(classes) and not 0 <= classes.min() <= classes.max() < num_classes:
        raise ValueError(
            f"Expected classes of 0..{num_classes - 1}, received {classes.min()}..{classes.max()}: splits, "
            "lists and losses of a report must know the same classes; run the stages that make them again."
        )
    return np.bincount(classes, minlength=num_classes).astype(np.int64)


def summarise(counts: Ints) -> tuple[Cell, ...]:
    """STATISTICS of class sizes; the smallest, (lower) median and largest of classes with photos."""
    present = counts[counts > 0]
    if len(present) == 0:
        return 0, 0, None, None, None
    middle = int(np.quantile(present, 0.5, method="lower"))
    return int(counts.sum()), len(present), int(present.min()), middle, int(present.max())


def describe_classes(
    splits: pl.DataFrame, *, class_names: Sequence[str], lists: Mapping[str, pl.DataFrame]
) -> list[Section]:
    """The sections on class sizes and on lists, two that explain each other."""
    num_classes = len(class_names)
    by_split = {
        split: counts
        for split in splits_present(splits)
        if (counts := count_classes(splits.filter(pl.col("split") == split), num_classes=num_classes)).sum()
    }
    base = count_classes(splits.filter(pl.col("split") == "train"), num_classes=num_classes)
    blocks: list[Block] = [Text(text="No photo has a label: there are no class sizes to show.")]
    if by_split:
        blocks = [_frequency(by_split), _histogram(by_split), _extremes(by_split, class_names)]
    return [
        Section(anchor="classes", title="Classes", blocks=blocks),
        Section(anchor="lists", title="Lists", blocks=_list_blocks(lists, base=base)),
    ]


def _frequency(by_split: Mapping[str, Ints]) -> Plot:
    first, counts = next(iter(by_split.items()))
    imbalance = counts.max() / counts[counts > 0].min()
    return Plot(
        file="class_frequency.png",
        png=plot_class_frequency(by_split),
        alt="Photos per class against the rank of the class, on a log scale, a line for each split",
        caption="Photos per class, each split sorted by itself. Head, medium and tail are thirds of the "
        f"classes by photos in {first}, whose largest class has {imbalance:,.1f} times the photos of its "
        "smallest.",
    )


def _histogram(by_split: Mapping[str, Ints]) -> Plot:
    return Plot(
        file="photos_per_class.png",
        png=plot_photos_per_class(by_split),
        alt="Histograms of photos per class, one for each split",
        caption="How many classes have how many photos, in each split.",
    )


def _extremes(by_split: Mapping[str, Ints], class_names: Sequence[str]) -> Table:
    """The largest and the smallest classes by their photos in the first split."""
    order = np.argsort(-next(iter(by_split.values())), kind="stable")
    caption = f"All {len(order):,} classes"
    if len(order) > 2 * _EXTREMES:
        order = np.concatenate([order[:_EXTREMES], order[-_EXTREMES:]])
        caption = f"The {_EXTREMES} largest and the {_EXTREMES} smallest classes"
    rows = [
        (class_names[index], str(index), *(int(counts[index]) for counts in by_split.values()))
        for index in order
    ]
    return Table(caption=caption, columns=("class", "index", *by_split), rows=rows)


def _list_blocks(lists: Mapping[str, pl.DataFrame], *, base: Ints) -> list[Block]:
    if not lists:
        return [Text(text="No list was given to this report.")]
    counts = {name: count_classes(rows, num_classes=len(base)) for name, rows in lists.items()}
    total = int(base.sum())
    table = Table(
        caption="Lists, beside the whole training split",
        columns=("list", "share of train", *STATISTICS),
        rows=[
            (name, number.sum() / total if total else None, *summarise(number))
            for name, number in {"(split train)": base, **counts}.items()
        ],
    )
    if total == 0:
        return [Text(text="Train holds no labelled photo: lists have nothing to be compared with."), table]
    shown = dict(list(counts.items())[:_PANELS])
    left_out = f" The first {_PANELS} of {len(lists)} lists." if len(lists) > _PANELS else ""
    plot = Plot(
        file="list_frequency.png",
        png=plot_lists(base, shown),
        alt="Photos per class of each list over those of the training split",
        caption="Photos per class of each list (line) over the training split (grey); where the grey "
        f"shows, the list leaves photos out.{left_out}",
    )
    return [table, plot]
