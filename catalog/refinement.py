"""Loss-guided refinement (report B, stage 2): the photos a model finds easiest are the ones labelled rightly.

A wrong label stands out by a loss that stays high while the model learns the class. Ours, where the report is
silent: the cut by loss comes first but never takes a class below min(keep, n_k); ranks and median are taken
after it; an incomplete band uses the median photos; ties break by photo id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

_CUT_SHARE = 0.832  # report B cuts at 9 for ln 50,030 = 10.82

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RefinementConfig:
    """Which photos of each class a refinement list keeps."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    rule: Literal["low_loss"] = "low_loss"
    """low_loss: the photos with the lowest mean loss of their class."""
    keep: int = 5
    """Photos of each class."""
    first_rank: int = 1
    """Rank of the first photo kept: 1 for the lowest losses, 6 and 11 for report B's further lists."""
    max_mean_loss: float | None = None
    """Photos with a higher mean loss are cut first; null: 0.832 times the log of the number of classes."""

    def __post_init__(self) -> None:
        if self.rule != "low_loss":
            raise ValueError(f"Unknown refinement rule {self.rule!r}. Rules: low_loss.")
        if self.keep < 1 or self.first_rank < 1:
            raise ValueError(f"Expected keep >= 1 and first_rank >= 1, received {self}.")


@dataclass(frozen=True, kw_only=True)
class DroppedScore:
    """How well the photos that a refinement list drops match the labels known to be wrong."""

    num_listed: int
    """Labelled training photos whose truth is known."""
    num_wrong: int
    num_dropped: int
    num_wrong_dropped: int
    precision: float | None
    """Wrong among the dropped; None where none is dropped."""
    recall: float | None
    """Dropped among the wrong; None where none is wrong."""


def refine(loss_log: pl.DataFrame, *, num_classes: int, config: RefinementConfig) -> pl.DataFrame:
    """Make a refinement list (photo_id, class, why) of a loss log (photo_id, class, mean_loss), in its order.

    Losses are in nats; a photo without a finite loss (never seen) ranks last. With first_rank above 1 a class
    uses its median photos instead of a band that is incomplete, or whose mean loss is higher than theirs
    (report B). Raises ValueError for classes outside 0..num_classes-1 and where no loss is finite.
    """
    _check_log(loss_log, num_classes=num_classes)
    max_loss = _CUT_SHARE * math.log(num_classes) if config.max_mean_loss is None else config.max_mean_loss
    ranked = _rank(loss_log)
    classes = loss_log["class"].to_numpy()[ranked].astype(np.int64)
    losses = _finite_losses(loss_log)[ranked]
    sizes = np.bincount(classes, minlength=num_classes)
    starts = np.cumsum(sizes) - sizes
    passing = np.bincount(classes[losses <= max_loss], minlength=num_classes)
    left = np.maximum(passing, np.minimum(config.keep, sizes))
    offsets, band_used = _first_places(losses, starts, left, config=config)
    places = offsets[:, None] + np.arange(config.keep)
    chosen = places < left[:, None]
    rows = ranked[(starts[:, None] + places)[chosen]]
    kept = loss_log[rows].select(
        "photo_id",
        pl.col("class").cast(pl.Int32),
        why=_why(
            places[chosen] + 1,
            np.broadcast_to(left[:, None], places.shape)[chosen],
            np.broadcast_to(band_used[:, None], places.shape)[chosen],
        ),
    )
    return kept[np.argsort(rows)]


def score_dropped(kept: pl.DataFrame, *, splits: pl.DataFrame, truth: pl.DataFrame) -> DroppedScore:
    """Count how many wrong labels of train a refinement list dropped.

    truth: photos.parquet (photo_id, label, true_label); photos whose truth is unknown are not counted. Raises
    ValueError where no truth is known.
    """
    listed = (
        splits.filter(pl.col("split") == "train", pl.col("class").is_not_null())
        .join(truth.select("photo_id", "label", "true_label"), on="photo_id", how="inner")
        .filter(pl.col("true_label").is_not_null())
    )
    if listed.is_empty():
        raise ValueError("Expected true labels to score against, received none: only some sources know them.")
    wrong = listed["label"] != listed["true_label"]
    dropped = ~listed["photo_id"].is_in(kept["photo_id"].implode())
    num_wrong, num_dropped, both = int(wrong.sum()), int(dropped.sum()), int((wrong & dropped).sum())
    return DroppedScore(
        num_listed=len(listed),
        num_wrong=num_wrong,
        num_dropped=num_dropped,
        num_wrong_dropped=both,
        precision=both / num_dropped if num_dropped else None,
        recall=both / num_wrong if num_wrong else None,
    )


def _check_log(loss_log: pl.DataFrame, *, num_classes: int) -> None:
    if loss_log.is_empty() or not loss_log["mean_loss"].is_finite().any():
        raise ValueError(
            f"Expected a loss log with finite losses, received {len(loss_log)} rows without one: the "
            "recording phase diverged or saw no photo; lower its learning rate and run it again."
        )
    outside = loss_log.filter(~pl.col("class").is_between(0, num_classes - 1).fill_null(False))
    if len(outside):
        raise ValueError(
            f"Expected classes of 0..{num_classes - 1} in the loss log, received {outside['class'][0]} for "
            f"{outside['photo_id'][0]!r} ({len(outside)} such rows): it was recorded with other classes."
        )


def _finite_losses(loss_log: pl.DataFrame) -> npt.NDArray[np.float32]:
    losses = loss_log["mean_loss"].cast(pl.Float32).fill_null(np.inf).to_numpy()
    return np.where(np.isfinite(losses), losses, np.float32(np.inf)).astype(np.float32)


def _rank(loss_log: pl.DataFrame) -> Ints:
    """Rows sorted by class, mean loss, photo id.

    Class and the bits of the float32 loss pack into one integer, whose sort is several times faster than one
    over three columns; a loss of at least 0 orders like its bits. Only equal keys are then put in the order
    of ids.
    """
    bits = np.maximum(_finite_losses(loss_log), np.float32(0)).view(np.uint32).astype(np.uint64)
    keys = (loss_log["class"].to_numpy().astype(np.uint64) << np.uint64(32)) | bits
    ranked = np.argsort(keys, kind="stable")
    ordered = keys[ranked]
    same = ordered[1:] == ordered[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
    if len(tied):
        ties = pl.DataFrame({"key": ordered[tied], "row": ranked[tied]}).with_columns(
            loss_log["photo_id"][ranked[tied]]
        )
        ranked[tied] = ties.sort("key", "photo_id")["row"].to_numpy()
    return ranked


def _first_places(
    losses: npt.NDArray[np.float32], starts: Ints, left: Ints, *, config: RefinementConfig
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The place of the first photo kept of each class `[K]`, and whether it is the band's or the median's."""
    band = np.full_like(left, config.first_rank - 1)
    median = np.maximum(left - config.keep, 0) // 2
    complete = band + config.keep <= left

    def mean_loss(offsets: Ints) -> npt.NDArray[np.float64]:
        places = np.minimum(starts + offsets, len(losses) - 1)[:, None] + np.arange(config.keep)
        means: npt.NDArray[np.float64] = losses[np.minimum(places, len(losses) - 1)].mean(
            axis=1, dtype=np.float64
        )
        return means

    use_band = complete & (mean_loss(band) <= mean_loss(median))
    return np.where(use_band, band, median), use_band | (config.first_rank == 1)


def _why(ranks: Ints, counts: Ints, from_band: npt.NDArray[np.bool_]) -> pl.Series:
    table = pl.DataFrame({"rank": ranks, "of": counts, "kind": np.where(from_band, "rank", "median, rank")})
    return table.select(why=pl.format("low_loss: {} {} of {}", "kind", "rank", "of"))["why"]
