"""A long tail of a given steepness out of photos that have none, or not that one, for studies.

Photos that are left out stay in the splits table as split "unused": nothing learns or measures them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from catalog.chance import draw, hash_ids, order_within
from imaging.config import Config

Ints = npt.NDArray[np.int64]


class TailConfig(Config):
    """How many photos of each class stay in train, for studies."""

    imbalance: float = Field(default=1.0, ge=1)
    """Photos of the largest class for each one of the smallest; 1: all classes alike."""
    photos_head: int | None = Field(default=None, ge=1)
    """Photos of the largest class; null: all that it has. With imbalance 1 and null nothing is left out."""

    @property
    def is_off(self) -> bool:
        """Whether every photo stays."""
        return self.imbalance == 1 and self.photos_head is None


def cut_tail(splits: pl.DataFrame, *, config: TailConfig, min_per_class: int, seed: int) -> pl.DataFrame:
    """Leave n_k photos of each class in train and call the rest "unused", in the splits' order.

    n_k = n_head x imbalance^(-rank / (K - 1)), rounded (Cui et al., "Class-balanced loss", 2019), with the K
    classes in train ranked by their photos there, ties by index; at most what a class has and at least
    min_per_class. The photos that stay have the smallest draws of (seed, photo_id), so a larger imbalance
    keeps a subset. Unlabelled photos stay.
    """
    if config.is_off:
        return splits
    rows = ((splits["split"] == "train") & splits["class"].is_not_null()).arg_true().to_numpy()
    if len(rows) == 0:
        return splits
    classes = splits["class"].gather(rows).to_numpy()
    photo_ids = splits["photo_id"].gather(rows)
    sizes = _tail_sizes(np.bincount(classes), config=config, min_per_class=min_per_class)
    order = order_within(classes, draw(hash_ids(photo_ids), seed=seed, purpose="tail"), photo_ids)
    unused = rows[order >= sizes[classes]]
    return splits.with_columns(splits["split"].clone().scatter(unused, "unused"))


def _tail_sizes(counts: Ints, *, config: TailConfig, min_per_class: int) -> Ints:
    """How many photos of each class stay, `[K]`."""
    ranked = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    head = counts.max() if config.photos_head is None else config.photos_head
    steps = np.arange(len(ranked)) / max(len(ranked) - 1, 1)
    sizes = np.zeros_like(counts)
    sizes[ranked] = np.maximum(np.rint(head * config.imbalance**-steps), min_per_class)
    return np.minimum(sizes, counts)
