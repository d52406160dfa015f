"""Photos of the store to uint8 batches, the same whatever number of processes prepares them.

Only uint8 leaves a loader process (a quarter of float32); normalisation happens on the training device.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from catalog.photo_store import DamagedShardError
from imaging.limits import PhotoError
from recognition.loader_processes import ProcessLoader
from recognition.preprocessing import stack_canvases
from training.augmentation import Augmentation
from training.samplers import Draw, EpochSampler
from training.seeding import seed_for, seed_generators


class Reader(Protocol):
    """Anything that returns a stored photo's bytes by row, such as catalog's PhotoStore."""

    def read(self, row: int) -> bytes:
        """Return the bytes of one row."""
        ...


class Failure(NamedTuple):
    """A photo that cannot be read, as data: an exception would lose its sentence between processes."""

    position: int
    message: str


class LoadedPhotos(NamedTuple):
    """One batch as it comes from the loader."""

    photos: Tensor
    """uint8 [B, 3, S, S]; empty where a photo failed."""

    positions: Tensor
    """Rows of the list, int64 [B], in the order of the draws."""

    failure: Failure | None
    """The first photo of the batch that cannot be read."""


class TrainingPhotos(Dataset[tuple[int, Tensor | Failure]]):
    """The photos of a list, decoded and augmented; each draw depends on (seed, epoch, place) alone."""

    def __init__(
        self,
        reader: Reader,
        *,
        rows: npt.NDArray[np.int64],
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.reader = reader
        self.rows = rows
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, draw: Draw) -> tuple[int, Tensor | Failure]:
        """Return (position, uint8 [3, S, S]) of one draw."""
        epoch, place, position = draw
        row = int(self.rows[position])
        seed_generators(seed_for("augmentation", self.seed, epoch, place), devices=False)
        try:
            return position, self.augmentation(self.reader.read(row))
        except PhotoError as error:
            changed = "Ingest refuses such photos: the store was changed, ingest again."
            return position, Failure(position, f"{error} {changed}")
        except DamagedShardError as error:
            return position, Failure(position, str(error))


def make_training_loader(
    photos: TrainingPhotos, *, sampler: EpochSampler, num_workers: int, device: torch.device
) -> ProcessLoader[tuple[int, Tensor | Failure]]:
    """Build the loader; it yields one LoadedPhotos for each list of the sampler.

    device: where training computes. A GPU copies from pinned memory while it works; a CPU lends its loader
    processes only what it leaves idle itself.
    """
    return ProcessLoader(
        photos,
        in_background=device.type == "cpu",
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )


def _collate(items: list[tuple[int, Tensor | Failure]]) -> LoadedPhotos:
    positions = torch.tensor([position for position, _ in items])
    for _, photo in items:
        if isinstance(photo, Failure):
            return LoadedPhotos(torch.empty(0, dtype=torch.uint8), positions, photo)
    return LoadedPhotos(stack_canvases([p for _, p in items if isinstance(p, Tensor)]), positions, None)
