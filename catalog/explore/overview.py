"""What is in the catalogue, what ingest refused and why, and how large the photos are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from catalog.explore.figures import plot_photo_sizes
from catalog.explore.page import Block, Plot, Section, Table, Text, Tiles
from contracts.values import SPLIT_NAMES

_COMMON_SIZES = 8


def describe_catalogue(
    photos: pl.DataFrame,
    *,
    quarantine: pl.DataFrame,
    splits: pl.DataFrame,
    coarse_names: Sequence[str | None],
    exact: pl.DataFrame,
    near: pl.DataFrame,
    lists: Mapping[str, pl.DataFrame],
) -> Section:
    """The summary: counts, splits, and the refused photos by reason."""
    labelled = splits["class"].drop_nulls()
    tiles = [
        (len(photos), "photos in the store"),
        (labelled.n_unique(), "classes with a labelled photo"),
        (len({name for name in coarse_names if name is not None}), "coarse classes"),
        (len(splits) - len(labelled), "photos without a label"),
        (len(quarantine), "photos refused by ingest"),
        (len(exact) - exact["group"].n_unique(), "copies with the same bytes"),
        (len(near), "ties that look alike"),
        (len(lists), "lists"),
    ]
    blocks: list[Block] = [Tiles(tiles=tiles), _split_table(splits), *_quarantine_blocks(quarantine)]
    return Section(anchor="summary", title="Summary", blocks=blocks)


def describe_sizes(photos: pl.DataFrame) -> Section:
    """How large the photos came (upright) and how many bytes each takes in the store; every photo counts."""
    if photos.is_empty():
        return Section(anchor="sizes", title="Photo sizes", blocks=[Text(text="The store holds no photo.")])
    width, height = photos["source_width"], photos["source_height"]
    shrunk = int(((photos["width"] != width) | (photos["height"] != height)).sum())
    shorter, longer = (
        np.minimum(width.to_numpy(), height.to_numpy()),
        np.maximum(width.to_numpy(), height.to_numpy()),
    )
    total = photos["num_bytes"].sum() / 2**20
    text = (
        f"The shorter side has {_span(shorter)} pixels, the longer one {_span(longer)}. Ingest stored "
        f"{shrunk:,} of {len(photos):,} photos at another size than they came. They take {total:,.1f} MiB."
    )
    plot = Plot(
        file="photo_sizes.png",
        png=plot_photo_sizes(
            width.cast(pl.Int64).to_numpy(), height.cast(pl.Int64).to_numpy(), photos["num_bytes"].to_numpy()
        ),
        alt="Density of width and height, histograms of aspect ratio and of stored bytes",
        caption="Width, height and aspect ratio of the photos as they came (upright), and the bytes of each "
        "in the store. All photos are counted, none is sampled.",
    )
    return Section(anchor="sizes", title="Photo sizes", blocks=[Text(text=text), plot, _common_sizes(photos)])


def _span(values: npt.NDArray[np.int32]) -> str:
    if values.min() == values.max():
        return f"{values[0]:,}"
    return f"{values.min():,} to {values.max():,} (median {np.median(values):,.0f})"


def splits_present(splits: pl.DataFrame) -> list[str]:
    """The splits that hold a photo, train first."""
    return sorted(splits["split"].unique(), key=SPLIT_NAMES.index)


def _split_table(splits: pl.DataFrame) -> Table:
    counts = splits.group_by("split").agg(
        pl.len().alias("photos"),
        pl.col("class").is_null().sum().alias("unlabelled"),
        pl.col("class").drop_nulls().n_unique().alias("classes"),
    )
    rows = [
        (split, photos, photos / len(splits), unlabelled, classes)
        for split in splits_present(splits)
        for _, photos, unlabelled, classes in counts.filter(pl.col("split") == split).iter_rows()
    ]
    columns = ("split", "photos", "share", "without label", "classes")
    return Table(caption="Photos by split", columns=columns, rows=rows)


def _quarantine_blocks(quarantine: pl.DataFrame) -> list[Block]:
    if quarantine.is_empty():
        return [Text(text="Ingest refused no photo: the quarantine is empty.")]
    reasons = (
        quarantine.group_by("reason", maintain_order=True)
        .agg(pl.len().alias("photos"), pl.first("photo_id"), pl.first("message"))
        .sort(["photos", "reason"], descending=[True, False])
    )
    return [
        Table(
            caption="Photos that ingest refused; quarantine.parquet names each one",
            columns=("reason", "photos", "first photo", "what is wrong and what to do"),
            rows=reasons.rows(),
        )
    ]


def _common_sizes(photos: pl.DataFrame) -> Table:
    sizes = (
        photos.group_by("source_width", "source_height")
        .len()
        .sort(["len", "source_width", "source_height"], descending=[True, False, False])
    )
    rows = [
        (f"{width:,} x {height:,}", count, count / len(photos))
        for width, height, count in sizes.head(_COMMON_SIZES).iter_rows()
    ]
    caption = f"The most common of {len(sizes):,} source sizes (width x height)"
    return Table(caption=caption, columns=("size", "photos", "share"), rows=rows)
