"""Photos and losses as AliProducts would give them, drawn: what `bench.lists` makes lists of.

Class sizes fall from 8,000 to 5, a tenth of the labels is wrong, and their losses stay high while the others
fall. Rows are shuffled, which is the harder order for every sort. Arrow IPC without compression, so that
reading the input takes no more memory than the input itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

LOSSES, PHOTOS = "losses.arrow", "photos.arrow"
LARGEST, SMALLEST = 8_000, 5
WRONG_SHARE, UNSEEN_SHARE = 0.1, 0.01

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """How much is drawn."""

    num_photos: int
    num_classes: int
    num_epochs: int


def draw_data(folder: Path, *, scale: Scale) -> None:
    """Write losses.arrow (photo_id, class, content, loss_0.., evidence), photos.arrow (as photos.parquet)."""
    rng = np.random.default_rng(0)
    classes = rng.permutation(np.repeat(np.arange(scale.num_classes), draw_sizes(scale)))
    photo_ids = pl.select(
        pl.format(
            "train/{}/{}.jpg", pl.lit(pl.Series(classes)), pl.lit(pl.Series(rng.permutation(len(classes))))
        )
    ).to_series()
    evidence = _draw_evidence(classes, scale=scale, rng=rng)
    content = {
        "source_sha256": pl.Series([number.to_bytes(32) for number in range(len(classes))], dtype=pl.Binary),
        "perceptual_hash": np.random.default_rng(1).integers(0, 2**63, len(classes)).astype(np.uint64),
    }
    named = {"photo_id": photo_ids, "class": classes.astype(np.int32), **content}
    pl.DataFrame(named | evidence).write_ipc(folder / LOSSES)
    pl.DataFrame(
        {
            "photo_id": photo_ids,
            "label": pl.select(pl.lit(pl.Series(classes)).cast(pl.String)).to_series(),
            "coarse_label": pl.Series([None] * len(classes), dtype=pl.String),
            "group": pl.Series([None] * len(classes), dtype=pl.String),
            "split": pl.Series([None] * len(classes), dtype=pl.String),
            "sha256": [f"{number:064x}" for number in range(len(classes))],
            **content,
        }
    ).write_ipc(folder / PHOTOS)


def draw_sizes(scale: Scale) -> Array:
    """Photos of each class `[K]`, largest first: a power law from LARGEST to SMALLEST with the right sum."""
    ranks = np.arange(1, scale.num_classes + 1)
    largest = min(LARGEST, scale.num_photos // 10)
    steepest, flattest = 5.0, 0.0
    for _ in range(60):
        power = (steepest + flattest) / 2
        sizes = np.maximum(SMALLEST, largest * ranks**-power).astype(np.int64)
        steepest, flattest = (power, flattest) if sizes.sum() < scale.num_photos else (steepest, power)
    sizes[: scale.num_photos - sizes.sum()] += 1
    if sizes.sum() != scale.num_photos:
        raise ValueError(
            f"Expected at least {SMALLEST} photos for each of {scale.num_classes} classes, received "
            f"{scale.num_photos} photos."
        )
    return sizes


def _draw_evidence(classes: Array, *, scale: Scale, rng: np.random.Generator) -> dict[str, Array | pl.Series]:
    """Losses of each epoch, null where a photo was not seen, and what `confident` and `aum` read."""
    count = len(classes)
    wrong = rng.random(count) < WRONG_SHARE
    other = (classes + 1 + rng.integers(0, scale.num_classes - 1, count)) % scale.num_classes
    level = rng.gamma(2.0, 1.2, count) + wrong * rng.normal(6.5, 1.5, count).clip(0)
    columns: dict[str, Array | pl.Series] = {}
    for epoch in range(scale.num_epochs):
        losses = (level * (1 - 0.1 * epoch) + rng.exponential(0.5, count)).astype(np.float32)
        seen = rng.random(count) >= UNSEEN_SHARE if epoch else np.ones(count, dtype=np.bool_)
        columns[f"loss_{epoch}"] = pl.Series(losses).set(pl.Series(~seen), None)
    p_label = np.exp(-level).astype(np.float32)
    p_other = ((1 - p_label) * np.where(wrong, rng.beta(4, 2, count), rng.beta(1, 9, count))).astype(
        np.float32
    )
    return columns | {
        "mean_margin": np.log((p_label + 1e-9) / (p_other + 1e-9)),
        "mean_label_probability": p_label,
        "mean_other_probability": p_other,
        "other_class": other.astype(np.int32),
    }
