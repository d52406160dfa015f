"""Photos that are there more than once: how many, which copies leak into a test, whose labels contradict.

Copies are shown as `catalog.duplicates` ties them together, exact and near ones alike: a wrong label or a
leak is a fact about the whole group, not about one pair of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import polars as pl

from catalog.duplicates import tie_copies
from catalog.explore.figures import plot_duplicates
from catalog.explore.overview import splits_present
from catalog.explore.page import Block, Cell, Plot, Section, Sheet, SheetRow, Shot, Strip, Table, Text

_CASES = 10  # groups in each contact sheet
_SHOWN = 6  # photos of one group
_SAME_BYTES = -1  # in the place of a distance
_WHY = (
    "A copy on both sides of train and test makes a measured error too small; copies with contradicting "
    "labels cannot all be right."
)


def describe_copies(
    exact: pl.DataFrame, near: pl.DataFrame, *, splits: pl.DataFrame, class_names: Sequence[str]
) -> Section:
    """Counts of exact and near copies, and contact sheets of those that matter most."""
    if exact.is_empty() and near.is_empty():
        none = Text(text="No photo has the same bytes as another, and none looks like another.")
        return Section(anchor="duplicates", title="Duplicates", blocks=[none])
    places = splits.select("photo_id", "class", "split")
    ties = _find_ties(exact, near, places)
    same_bytes = exact.join(places, on="photo_id", how="left")
    alike = tie_copies(exact, near).join(places, on="photo_id", how="left")
    blocks: list[Block] = [
        Text(text=_WHY),
        _count_groups(same_bytes, alike),
        _count_splits(same_bytes, alike, present=splits_present(splits)),
        _plot_ties(ties),
        *_sheets(alike, ties, class_names=class_names),
    ]
    return Section(anchor="duplicates", title="Duplicates", blocks=blocks)


def _find_ties(exact: pl.DataFrame, near: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """photo_id, other_id, distance (exact copies: _SAME_BYTES, to the first of a group), contradicts."""
    first = pl.col("photo_id").first().over("group")
    stars = exact.select(photo_id=first, other_id="photo_id", distance=pl.lit(_SAME_BYTES, dtype=pl.Int32))
    ties = pl.concat([stars.filter(pl.col("photo_id") != pl.col("other_id")), near.select(stars.columns)])
    labels = places.select("photo_id", "class")
    return (
        ties.join(labels, on="photo_id", how="left")
        .join(labels.rename({"photo_id": "other_id", "class": "other_class"}), on="other_id", how="left")
        .with_columns(contradicts=(pl.col("class") != pl.col("other_class")).fill_null(False))
    )


def _judge_groups(groups: pl.DataFrame) -> pl.DataFrame:
    """group, size, contradicts (two labels or more), crosses (two splits or more, unused left out)."""
    return groups.group_by("group").agg(
        pl.len().alias("size"),
        contradicts=pl.col("class").drop_nulls().n_unique() > 1,
        crosses=pl.col("split").filter(pl.col("split") != "unused").n_unique() > 1,
    )


def _count_groups(same_bytes: pl.DataFrame, alike: pl.DataFrame) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, groups in (("same bytes", same_bytes), ("same bytes or look alike", alike)):
        judged = _judge_groups(groups)
        rows.append(
            (name, len(judged), len(groups), int(judged["contradicts"].sum()), int(judged["crosses"].sum()))
        )
    columns = ("copies", "groups", "photos", "groups with contradicting labels", "groups across splits")
    return Table(caption="Groups of copies", columns=columns, rows=rows)


def _count_splits(same_bytes: pl.DataFrame, alike: pl.DataFrame, *, present: Sequence[str]) -> Block:
    """How many groups have photos in both of two splits."""
    counts = []
    for groups in (same_bytes, alike):
        places = groups.select("group", "split").unique()
        both = places.join(places, on="group", suffix="_b").filter(pl.col("split") != pl.col("split_b"))
        numbers = both.group_by("split", "split_b").len().rows()
        counts.append({(one, other): number for one, other, number in numbers})
    rows = [
        (f"{one} and {other}", counts[0].get((one, other), 0), counts[1][one, other])
        for one, other in combinations(present, 2)
        if (one, other) in counts[1]
    ]
    if not rows:
        return Text(text="No group has photos in more than one split.")
    return Table(
        caption="Groups with photos in two splits",
        columns=("splits", "same bytes", "same bytes or look alike"),
        rows=rows,
    )


def _plot_ties(ties: pl.DataFrame) -> Plot:
    counts = ties.group_by("distance").agg(pl.len(), pl.col("contradicts").sum()).sort("distance")
    kinds = ["same bytes" if distance == _SAME_BYTES else str(distance) for distance in counts["distance"]]
    contradicting = counts["contradicts"].to_list()
    agreeing = (counts["len"] - counts["contradicts"]).to_list()
    return Plot(
        file="duplicates.png",
        png=plot_duplicates(kinds, agreeing, contradicting),
        alt="Ties between copies by the distance of their perceptual hashes, contradicting labels apart",
        caption="Ties that make the groups, by how many of 64 bits of the perceptual hashes differ. A "
        "further photo of the same bytes, or of the same hash, is tied to the first one only.",
    )


def _sheets(groups: pl.DataFrame, ties: pl.DataFrame, *, class_names: Sequence[str]) -> list[Block]:
    """Contact sheets of contradicting labels, of copies across splits, and of the largest groups left."""
    distances = pl.concat(
        [ties.select("photo_id", "distance"), ties.select(photo_id="other_id", distance="distance")]
    )
    reach = groups.join(distances, on="photo_id").group_by("group").agg(pl.max("distance").alias("reach"))
    judged = _judge_groups(groups).join(reach, on="group")
    contradicts, crosses = pl.col("contradicts"), pl.col("crosses")
    nearest, largest = ("reach", "size", "group"), ("size", "reach", "group")
    kinds = (
        ("Contradicting labels", contradicts, nearest, "No copies contradict each other's labels."),
        (
            "Further copies across splits",
            crosses & ~contradicts,
            nearest,
            "No further ones lie across splits.",
        ),
        (
            "Further copies, the largest groups",
            ~crosses & ~contradicts,
            largest,
            "There are no further copies.",
        ),
    )
    blocks: list[Block] = []
    for title, condition, order, none in kinds:
        chosen = judged.filter(condition).sort(order, descending=[name == "size" for name in order])
        rows = [
            _row(groups, group, size=size, reach=reach, class_names=class_names)
            for group, size, reach in chosen.head(_CASES).select("group", "size", "reach").iter_rows()
        ]
        note = f"{len(rows)} of {len(chosen):,} groups; label and split of each photo."
        blocks.append(Sheet(title=title, note=note, headings=(), rows=rows) if rows else Text(text=none))
    return blocks


def _row(groups: pl.DataFrame, group: int, *, size: int, reach: int, class_names: Sequence[str]) -> SheetRow:
    """A group: one photo of each label and split before any second one, since what differs is what to see."""
    order = ["class", "split", "photo_id"]
    photos = groups.filter(pl.col("group") == group).sort(order, nulls_last=True)
    turns = photos.with_columns(turn=pl.int_range(pl.len()).over("class", "split"))
    shown = turns.sort(["turn", *order], nulls_last=True).head(_SHOWN)
    shots = [
        Shot(photo_id=photo_id, lines=("no label" if label is None else class_names[label], split))
        for photo_id, label, split in shown.select("photo_id", "class", "split").iter_rows()
    ]
    note = f"{size:,} photos" + ("" if reach == _SAME_BYTES else f", distance up to {reach}")
    if size > _SHOWN:
        note += f", {_SHOWN} shown"
    title = "Same bytes" if reach == _SAME_BYTES else "Look alike"
    return SheetRow(title=title, note=note, strips=[Strip(shots=shots)])
