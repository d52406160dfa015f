"""Stored photos to batches for embedding, in order and unchanged; training augments in its own loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recognition.loader_processes import ProcessLoader
from recognition.preprocessing import Preprocessing, load_canvases, stack_canvases
from recognition.views import distinct_crops


class Reader(Protocol):
    """What the loader needs of a photo store; it is pickled into the workers."""

    def read(self, row: int) -> bytes:
        """Return the stored bytes of one photo."""


class CanvasDataset(Dataset[tuple[Tensor, int]]):
    """The chosen rows of a photo store as crops uint8 [V, 3, S, S], each with its position among the rows."""

    def __init__(
        self,
        reader: Reader,
        rows: Sequence[int] | npt.NDArray[np.int64],
        *,
        preprocessing: Preprocessing,
        views: Sequence[str],
    ):
        self.reader = reader
        self.rows = np.asarray(rows, dtype=np.int64)
        self.preprocessing = preprocessing
        self.crops = distinct_crops(preprocessing.views(views))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        row = int(self.rows[position])
        try:
            canvases = load_canvases(
                self.reader.read(row), preprocessing=self.preprocessing, crops=self.crops
            )
        except ValueError as error:
            raise ValueError(
                f"Row {row} of the photo store does not decode: {error} Ingest again."
            ) from error
        return canvases, position


def make_inference_loader(
    reader: Reader,
    rows: Sequence[int] | npt.NDArray[np.int64],
    *,
    preprocessing: Preprocessing,
    views: Sequence[str] = ("center",),
    batch_size: int,
    num_workers: int = 0,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Yield (canvases uint8 [B, V, 3, S, S], positions int64 [B]) over the rows in order, each row once.

    V counts the distinct crops of the views: 1 for "center", and for "center" with "flip".
    """
    dataset = CanvasDataset(reader, rows, preprocessing=preprocessing, views=views)
    return ProcessLoader(
        dataset,  # type: ignore[arg-type]  # one item's position is an int, a batch's a tensor
        in_background=torch.accelerator.current_accelerator(check_available=True) is None,
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=_collate,
    )


def _collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    canvases, positions = zip(*items, strict=True)
    return stack_canvases(canvases), torch.tensor(positions)
