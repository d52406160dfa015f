"""Photos seen as in serving, without a step: how good a model is after an epoch, and what it finds hard.

Several processes share the photos, each one once, and every process gets the whole answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from recognition.backbones import Model
from recognition.loader import make_inference_loader
from recognition.metrics import error_metrics
from recognition.preprocessing import Preprocessing, normalize
from training.environment import Environment
from training.loader import Reader
from training.loss_log import STATISTICS, LossLog, measure
from training.signals import StopSignals


class NotAllSeen(Exception):  # noqa: N818  it is no error
    """A stop signal came before all photos were seen, in this process or another; nothing was recorded."""


class SeenBatch(NamedTuple):
    """One batch on the device."""

    photos: Tensor
    """Normalised, float32 [B, 3, S, S], channels-last."""
    labels: Tensor
    """int64 [B]."""
    positions: Tensor
    """Places among all the photos, int64 [B], on the CPU."""


class SeenPhotos:
    """Some photos of a store with their labels, prepared as in serving; there may be none."""

    def __init__(
        self,
        reader: Reader,
        *,
        rows: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
        preprocessing: Preprocessing,
        batch_size: int,
        num_workers: int,
        environment: Environment,
    ) -> None:
        self.reader = reader
        self.rows = rows
        self.labels = torch.from_numpy(labels)
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.environment = environment

    def __len__(self) -> int:
        """Return how many photos there are, over all processes."""
        return len(self.rows)

    def own_batches(self) -> Iterator[SeenBatch]:
        """Yield this process's share: every num_processes-th photo."""
        environment = self.environment
        chosen = torch.arange(environment.process_index, len(self), environment.num_processes)
        loader = make_inference_loader(
            self.reader,
            self.rows[chosen.numpy()],
            preprocessing=self.preprocessing,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )
        device = environment.device
        for canvases, places in loader:
            positions = chosen[places]
            pixels = normalize(canvases[:, 0].to(device), self.preprocessing)
            yield SeenBatch(
                photos=pixels.contiguous(memory_format=torch.channels_last),
                labels=self.labels[positions].to(device),
                positions=positions,
            )


@torch.inference_mode()
def validate(
    model: Model, photos: SeenPhotos, *, stop: StopSignals, environment: Environment
) -> dict[str, float]:
    """Return val/mean_top1_error, val/top1_error, val/loss (plain cross entropy); {} without photos.

    NotAllSeen where `stop` received a signal.
    """
    if len(photos) == 0:
        return {}
    model.eval()
    device = environment.device
    positions, classes = [torch.empty(0).long()], [torch.empty(0, device=device).long()]
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    for batch in photos.own_batches():
        if stop.received:
            break
        with environment.autocast():
            logits = model(batch.photos)
        loss_sum += F.cross_entropy(logits.float(), batch.labels, reduction="sum")
        positions.append(batch.positions)
        classes.append(logits.argmax(dim=1))
    own = (torch.cat(positions).numpy(), loss_sum.item(), torch.cat(classes).cpu().numpy())
    shares = environment.gather(own)
    _require_all(photos, [places for places, _, _ in shares])
    predicted, total = np.empty(len(photos), dtype=np.int64), 0.0
    for places, loss, found in shares:
        predicted[places] = found
        total += loss
    errors = error_metrics(predicted[:, None], photos.labels.numpy(), num_classes=model.head.out_features)
    return {
        "val/mean_top1_error": errors["mean_top1_error"],
        "val/top1_error": errors["top1_error"],
        "val/loss": total / len(photos),
    }


@torch.inference_mode()
def record_losses(
    model: Model, photos: SeenPhotos, loss_log: LossLog, *, stop: StopSignals, environment: Environment
) -> None:
    """Add one sighting of each photo, in evaluation mode, to the loss log of the same list.

    NotAllSeen where `stop` received a signal.
    """
    model.eval()
    positions = [torch.empty(0).long()]
    measured = [torch.empty(len(STATISTICS), 0, device=environment.device)]
    for batch in photos.own_batches():
        if stop.received:
            break
        with environment.autocast():
            logits = model(batch.photos)
        positions.append(batch.positions)
        measured.append(measure(logits, batch.labels))
    own = (torch.cat(positions).numpy(), torch.cat(measured, dim=1).cpu().numpy())
    shares = environment.gather(own)
    _require_all(photos, [places for places, _ in shares])
    for places, statistics in shares:
        loss_log.record(torch.from_numpy(statistics), positions=torch.from_numpy(places))


def _require_all(photos: SeenPhotos, shares: Sequence[npt.NDArray[np.int64]]) -> None:
    """All processes find the same, also where the signal reached one of them alone."""
    if sum(len(places) for places in shares) < len(photos):
        raise NotAllSeen
