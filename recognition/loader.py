"""Stored photos to batches for embedding, in order and unchanged; training augments in its own loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recognition.preprocessing import Preprocessing, load_stored, stack_canvases, to_canvas


class Reader(Protocol):
    """What the loader needs of a photo store; it is pickled into the workers."""

    def read(self, row: int) -> bytes:
        """Return the stored bytes of one photo."""


class CanvasDataset(Dataset[tuple[Tensor, int]]):
    """The chosen rows of a photo store as canvases uint8 [3, S, S], each with its position among the rows."""

    def __init__(
        self, reader: Reader, rows: Sequence[int] | npt.NDArray[np.int64], preprocessing: Preprocessing
    ):
        self.reader = reader
        self.rows = np.asarray(rows, dtype=np.int64)
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        row = int(self.rows[position])
        try:
            photo = load_stored(self.reader.read(row), preprocessing=self.preprocessing)
        except ValueError as error:
            raise ValueError(
                f"Row {row} of the photo store does not decode: {error} Ingest again."
            ) from error
        return to_canvas(photo, preprocessing=self.preprocessing), position


def make_inference_loader(
    reader: Reader,
    rows: Sequence[int] | npt.NDArray[np.int64],
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    num_workers: int = 0,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Yield (canvases uint8 [B, 3, S, S], positions int64 [B]) over the rows in order, each row once."""
    dataset = CanvasDataset(reader, rows, preprocessing)
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # one item's position is an int, a batch's a tensor
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
    )


def _collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    canvases, positions = zip(*items, strict=True)
    return stack_canvases(canvases), torch.tensor(positions)
