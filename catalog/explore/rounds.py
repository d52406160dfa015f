"""What a refinement round dropped, shown beside what it kept: report B's Figures 1-3, for every round.

Numbers say how much was dropped; only eyes see whether it was wrong. Photos in the rows are chosen by mean
loss, ties by photo id, so the same round shows the same photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.explore.classes import STATISTICS, count_classes, summarise
from catalog.explore.figures import plot_round
from catalog.explore.page import Block, Plot, Section, Sheet, SheetRow, Shot, Strip, Table, Text

_ROWS = 12
_SHOTS = 5  # on either side
_CONFUSIONS = 10


@dataclass(frozen=True, kw_only=True)
class Round:
    """One refinement: the list it started from, the list it made, and the evidence that it went by."""

    name: str
    before: pl.DataFrame
    """The base list: photo_id, class, why."""
    after: pl.DataFrame
    """The refined list: photo_id, class, why."""
    evidence: pl.DataFrame
    """A loss log or out-of-fold predictions: photo_id, mean_loss, mean_margin, other_class and more."""


def describe_round(
    round: Round,
    *,
    class_names: Sequence[str],
    coarse_names: Sequence[str | None],
    truth: pl.DataFrame | None,
) -> Section:
    """Counts, losses, class sizes, the most frequent confusions, and suspicious beside typical photos."""
    judged = _judge(round, truth)
    before = count_classes(round.before, num_classes=len(class_names))
    after = count_classes(round.after, num_classes=len(class_names))
    table = Table(
        caption="The list before and after", columns=("list", *STATISTICS),
        rows=[("before", *summarise(before)), ("after", *summarise(after))],
    )  # fmt: skip
    blocks: list[Block] = [Text(text=_sentence(judged, round)), table]
    if len(judged) and judged["mean_loss"].is_finite().any():
        caption = "Mean losses of kept and dropped photos, and photos per class; all photos are counted."
        alt = "Histograms of the losses of kept and dropped photos; photos per class before and after"
        png = plot_round(*_losses(judged), before=before, after=after)
        blocks.append(Plot(file=f"{round.name}_losses.png", png=png, alt=alt, caption=caption))
    else:
        blocks.append(Text(text="The evidence holds no loss for a photo of the list before."))
    if not judged["kept"].all():
        blocks += [
            _sheet(judged, file=f"{round.name}_suspicious.png", class_names=class_names),
            *_confusions(judged, class_names=class_names, coarse_names=coarse_names),
        ]
    return Section(anchor=f"round-{round.name}", title=f"Round {round.name}", blocks=blocks)


def _judge(round: Round, truth: pl.DataFrame | None) -> pl.DataFrame:
    """The list before: photo_id, class, kept, mean_loss, mean_margin, other_class, true_class."""
    evidence = round.evidence.select("photo_id", "mean_loss", "mean_margin", "other_class")
    known = pl.DataFrame(schema={"photo_id": pl.String, "class": pl.Int32}) if truth is None else truth
    finite = pl.when(pl.col("mean_loss").is_finite()).then("mean_loss").alias("mean_loss")
    kept = round.after.select("photo_id", kept=pl.lit(True))
    return (
        round.before.select("photo_id", "class")
        .join(kept, on="photo_id", how="left", maintain_order="left")
        .join(evidence, on="photo_id", how="left", maintain_order="left")
        .join(known.select("photo_id", true_class="class"), on="photo_id", how="left", maintain_order="left")
        .with_columns(pl.col("kept").fill_null(False), finite)
    )


def _sentence(judged: pl.DataFrame, round: Round) -> str:
    dropped = judged.filter(~pl.col("kept"))
    num_kept = len(judged) - len(dropped)
    came = len(round.after) - num_kept
    text = f"Of {len(judged):,} photos the round dropped {len(dropped):,} and kept {num_kept:,}."
    if came:
        text += f" It added {came:,} that the list before did not have."
    known = judged.filter(pl.col("true_class").is_not_null())
    wrong = known.filter(pl.col("class") != pl.col("true_class"))
    if known.is_empty():
        return (
            text + " No true labels are known, so nobody but the reader can say how many of them were wrong."
        )
    caught = int((~wrong["kept"]).sum())
    known_dropped = int((~known["kept"]).sum())
    text += f" True labels are known for {len(known):,} photos, {len(wrong):,} of them labelled wrongly."
    if known_dropped and len(wrong):
        text += (
            f" {100 * caught / known_dropped:.1f} % of the dropped were wrong (precision), "
            f"{100 * caught / len(wrong):.1f} % of the wrong were dropped (recall)."
        )
    return text


def _losses(judged: pl.DataFrame) -> tuple[Any, Any, Any]:
    """Losses `[N]` of kept, of dropped, and of known wrong labels (None where no truth is known)."""
    seen = judged.filter(pl.col("mean_loss").is_not_null()).with_columns(pl.col("mean_loss").cast(pl.Float64))
    wrong = seen.filter(pl.col("class") != pl.col("true_class"))["mean_loss"].to_numpy()
    kept, dropped = (
        seen.filter("kept")["mean_loss"].to_numpy(),
        seen.filter(~pl.col("kept"))["mean_loss"].to_numpy(),
    )
    return kept, dropped, wrong if seen["true_class"].is_not_null().any() else None


def _sheet(judged: pl.DataFrame, *, file: str, class_names: Sequence[str]) -> Sheet:
    sizes = judged.group_by("class").agg(pl.len().alias("size"), (~pl.col("kept")).sum().alias("dropped"))
    sizes = (
        sizes.filter(pl.col("dropped") > 0).sort(["dropped", "class"], descending=[True, False]).head(_ROWS)
    )
    shown = judged.filter(pl.col("class").is_in(sizes["class"].implode()))
    suspicious = _first_of_classes(shown.filter(~pl.col("kept")), descending=True)
    typical = _first_of_classes(shown.filter("kept"), descending=False)
    rows = []
    for index, size, dropped in sizes.iter_rows():
        strips = [
            Strip(shots=_shots(suspicious, index, class_names), tone="dropped"),
            Strip(shots=_shots(typical, index, class_names), tone="kept", empty="none kept"),
        ]
        counts = f"class {index}, {dropped:,} of {size:,} dropped"
        rows.append(SheetRow(title=class_names[index], note=counts, strips=strips))
    note = (
        f"The {len(rows)} classes with most dropped photos. What the model saw instead is its strongest "
        "other class; where it put the label first, that class is called the runner-up."
    )
    headings = ("Dropped: highest loss first", "Kept: lowest loss first")
    title = "Suspicious labels beside typical ones"
    return Sheet(title=title, note=note, headings=headings, rows=rows, file=file)


def _first_of_classes(photos: pl.DataFrame, *, descending: bool) -> pl.DataFrame:
    order = photos.sort(["mean_loss", "photo_id"], descending=[descending, False], nulls_last=True)
    return order.group_by("class", maintain_order=True).head(_SHOTS)


def _shots(photos: pl.DataFrame, index: int, class_names: Sequence[str]) -> list[Shot]:
    return [
        Shot(photo_id=photo["photo_id"], lines=_lines(photo, class_names))
        for photo in photos.filter(pl.col("class") == index).to_dicts()
    ]


def _lines(photo: dict[str, Any], class_names: Sequence[str]) -> list[str]:
    lines = ["never seen"] if photo["mean_loss"] is None else [f"loss {photo['mean_loss']:.2f}"]
    if photo["mean_margin"] is not None:
        lines.append(f"margin {photo['mean_margin']:+.2f}")
    if photo["other_class"] is not None and not photo["kept"]:
        first = photo["mean_margin"] is not None and photo["mean_margin"] > 0
        lines.append(f"{'runner-up' if first else 'saw'}: {class_names[photo['other_class']]}")
    if photo["true_class"] is not None:
        right = photo["true_class"] == photo["class"]
        lines.append("label is right" if right else f"truth: {class_names[photo['true_class']]}")
    return lines


def _confusions(
    judged: pl.DataFrame, *, class_names: Sequence[str], coarse_names: Sequence[str | None]
) -> list[Block]:
    """The labels most often dropped for one other class; none where the evidence names no other class."""
    pairs = (
        judged.filter(~pl.col("kept"), pl.col("other_class").is_not_null())
        .group_by("class", "other_class")
        .len()
        .sort(["len", "class", "other_class"], descending=[True, False, False])
        .head(_CONFUSIONS)
    )
    if pairs.is_empty():
        return []
    rows = [
        (class_names[label], class_names[other], count, _same_coarse(coarse_names, label, other))
        for label, other, count in pairs.iter_rows()
    ]
    columns = ("label", "strongest other class", "dropped photos", "same coarse class")
    return [Table(caption="What the model saw instead most often", columns=columns, rows=rows)]


def _same_coarse(coarse_names: Sequence[str | None], label: int, other: int) -> str | None:
    if coarse_names[label] is None or coarse_names[other] is None:
        return None
    return "yes" if coarse_names[label] == coarse_names[other] else "no"
