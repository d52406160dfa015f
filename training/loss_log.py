"""How well each photo of the list was learnt: what refinement reads to find wrong labels (report B, stage 2).

Whatever the phase lowers, this is plain cross entropy in float32, before the photo's own step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from training.row_slices import row_slices

STATISTICS = ("loss", "margin", "label_probability", "other_probability", "other_class")
_NUM_AVERAGED = 4  # all but the class
_BLOCK = 256  # columns of which the largest is found one by one


def measure(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the STATISTICS of each photo, float32 [5, B], of logits [B, K >= 2] and labels int64 [B].

    margin = label's logit - largest other logit; other_class is the class of that one (float32 holds every
    index below 2^24). With d_j = z_j - z_y and s = log sum over j != y of exp d_j, the loss is log(1 + e^s)
    and p_y = 1 / (1 + e^s): exact also where p_y is nearly 1 and -log(softmax) rounds to 0.
    """
    logits = logits.detach()
    slices, num_classes = list(row_slices(logits)), logits.shape[1]
    width = num_classes + -num_classes % _BLOCK
    scratch = torch.full((slices[0].stop, width), -torch.inf, device=logits.device)
    pieces = [_measure_others(logits[rows].float(), labels[rows], scratch=scratch) for rows in slices]
    largest_other, other_class, odds = torch.cat(pieces).unbind(dim=1)
    loss = F.softplus(odds)
    other = torch.exp(largest_other - loss)
    return torch.stack([loss, -largest_other, torch.sigmoid(-odds), other, other_class])


def _measure_others(logits: Tensor, labels: Tensor, *, scratch: Tensor) -> Tensor:
    """Return the largest of d_j, j != y, its first class, and s, float32 [B, 3].

    scratch [B or more, K rounded up to blocks] is -inf beyond K. The largest is searched for in two steps: a
    vectorised maximum of each block, then the place in the best one. On a CPU, torch's own maximum with its
    place goes value by value over all K and costs as much as all the rest.
    """
    scratch = scratch[: len(logits)]
    differences = torch.sub(logits, logits.gather(1, labels[:, None]), out=scratch[:, : logits.shape[1]])
    differences.scatter_(1, labels[:, None], -torch.inf)
    blocks = scratch.view(len(scratch), scratch.shape[1] // _BLOCK, _BLOCK)
    block = blocks.amax(dim=2).argmax(dim=1, keepdim=True)
    place = blocks.take_along_dim(block[:, :, None], dim=1).argmax(dim=2)
    other_class = block * _BLOCK + place
    largest = differences.gather(1, other_class)
    odds = largest + differences.sub_(largest).exp_().sum(dim=1, keepdim=True).log()
    return torch.cat([largest, other_class, odds], dim=1)


class LossLog:
    """What is kept of each photo: float64 [5, N] sums of its statistics and of its squared loss, int64 [N]
    times seen, float32 [N] largest other probability so far and int32 [N] the class that had it.
    """

    def __init__(self, num_photos: int) -> None:
        self.sums: npt.NDArray[np.float64] = np.zeros((_NUM_AVERAGED + 1, num_photos))
        self.num_seen: npt.NDArray[np.int64] = np.zeros(num_photos, dtype=np.int64)
        self.largest_other: npt.NDArray[np.float32] = np.full(num_photos, -1, dtype=np.float32)
        self.other_class: npt.NDArray[np.int32] = np.full(num_photos, -1, dtype=np.int32)

    def record(self, statistics: Tensor, *, positions: Tensor) -> None:
        """Add one batch: what `measure` returned, and the photos' rows of the list, int64 [B]."""
        values, rows = statistics.double().cpu().numpy(), positions.cpu().numpy()
        np.add.at(self.num_seen, rows, 1)
        averaged = values[:_NUM_AVERAGED]
        for total, value in zip(self.sums, [*averaged, np.square(values[0])], strict=True):
            np.add.at(total, rows, value)
        self._record_other(rows, probability=values[3].astype(np.float32), classes=values[4].astype(np.int32))

    def _record_other(
        self,
        rows: npt.NDArray[np.int64],
        *,
        probability: npt.NDArray[np.float32],
        classes: npt.NDArray[np.int32],
    ) -> None:
        """Take over the sightings whose other probability is a photo's largest so far.

        Assigned in rising order, so that of a photo that is twice in the batch the larger one stays.
        """
        rising = np.argsort(probability, kind="stable")
        larger = rising[probability[rising] > self.largest_other[rows[rising]]]
        self.largest_other[rows[larger]] = probability[larger]
        self.other_class[rows[larger]] = classes[larger]

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps, {} of an empty log; the tensors share memory with the log."""
        if not self.num_seen.any():
            return {}
        return {name: torch.from_numpy(values) for name, values in self._arrays().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned."""
        for name, values in self._arrays().items():
            if name in state:
                values[:] = state[name].numpy()

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "sums": self.sums,
            "num_seen": self.num_seen,
            "largest_other": self.largest_other,
            "other_class": self.other_class,
        }

    def to_table(self, *, photo_ids: pa.ChunkedArray, labels: npt.NDArray[np.int64]) -> pa.Table:
        """Return one row a photo in the list's order; means and population variance over the times seen.

        other_class is that of the sighting where the other probability was largest. A photo never seen has
        num_seen 0 and nulls.
        """
        unseen = self.num_seen == 0
        loss, margin, label_p, other_p, squared = self.sums / np.maximum(self.num_seen, 1)
        columns = {
            "mean_loss": loss,
            "loss_variance": np.maximum(squared - np.square(loss), 0),
            "mean_margin": margin,
            "mean_label_probability": label_p,
            "mean_other_probability": other_p,
        }
        floats = {name: pa.array(c.astype(np.float32), mask=unseen) for name, c in columns.items()}
        return pa.table(
            {
                "photo_id": photo_ids,
                "class": pa.array(labels.astype(np.int32)),
                "mean_loss": floats["mean_loss"],
                "loss_variance": floats["loss_variance"],
                "num_seen": pa.array(self.num_seen.astype(np.int32)),
                "mean_margin": floats["mean_margin"],
                "mean_label_probability": floats["mean_label_probability"],
                "mean_other_probability": floats["mean_other_probability"],
                "other_class": pa.array(self.other_class, mask=unseen),
            }
        )
