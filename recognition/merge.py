"""How members' logits become one ranked answer; evaluation and serving both come through here.

Everything is float32. A full sort of 50,030 classes is never needed: the best k are found first and only rows
with ties at the edge are sorted, so that equal scores always put the lower class id first. Buffers are reused
from chunk to chunk, because fresh ones of 100 MB cost more in page faults than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from recognition.bundle import Merge
from recognition.feature_bank import FeatureBank
from recognition.heads import LinearHead


class _Merger:
    """Takes members one after the other into one [B, K] buffer and ranks the sum."""

    def __init__(self, merge: Merge) -> None:
        if merge not in get_args(Merge):
            raise ValueError(f"Expected a merge of {', '.join(get_args(Merge))}, received {merge!r}.")
        self.merge = merge
        self.total: Tensor | None = None
        self.votes: list[Tensor] = []
        self.num_members = 0

    def start(self, total: Tensor) -> None:
        """Begin a chunk with the first member's logits [B, K], which are overwritten and hold the sum."""
        self.votes = []
        self.num_members = 1
        self.total = self._score(total)

    def add(self, logits: Tensor) -> None:
        """Add another member's logits [B, K], which are overwritten."""
        assert self.total is not None
        self.num_members += 1
        self.total.add_(self._score(logits))

    def top_k(self, k: int) -> tuple[Tensor, Tensor]:
        """Return (classes int64 [B, k], probabilities float32 [B, k]) of the members taken so far."""
        assert self.total is not None
        mean = self.total.div_(self.num_members)
        scores, classes = ranked_top_k(mean, k=k)
        if self.merge == "logits":
            highest = scores[:, :1]
            return classes, (scores - highest).exp_() / mean.sub_(highest).exp_().sum(dim=1, keepdim=True)
        if self.merge == "vote":
            classes = _rank_by_votes(mean, classes, torch.stack(self.votes, dim=1))
            scores = mean.gather(1, classes)
        return classes, scores

    def _score(self, logits: Tensor) -> Tensor:
        if self.merge == "logits":
            return logits
        if self.merge == "vote":
            self.votes.append(logits.argmax(dim=1))  # the first of equal ones, says torch
        logits.sub_(logits.amax(dim=1, keepdim=True)).exp_()
        return logits.div_(logits.sum(dim=1, keepdim=True))


def merge_top_k(logits: Sequence[Tensor], *, merge: Merge, k: int) -> tuple[Tensor, Tensor]:
    """Merge members' logits (each [B, K]) into the k best classes and their probabilities.

    "logits": softmax of the mean logits, ranked by them. "probabilities": mean of the softmaxes. "vote": by
    the number of members whose first choice a class is, ties by the mean of the softmaxes, which is also
    the probability reported. Equal scores put the lower class id first. k above K is cut to K.
    Returns (classes int64 [B, k], probabilities float32 [B, k]).
    """
    if not logits or any(member.shape != logits[0].shape for member in logits):
        shapes = [tuple(member.shape) for member in logits]
        raise ValueError(f"Expected logits of one shape from at least one member, received {shapes}.")
    merger = _Merger(merge)
    merger.start(logits[0].to(torch.float32, copy=True))
    for member in logits[1:]:
        merger.add(member.to(torch.float32, copy=True))
    return merger.top_k(k)


@torch.inference_mode()
def predict_bank(
    banks: Sequence[FeatureBank],
    heads: Sequence[LinearHead],
    *,
    merge: Merge,
    k: int,
    row_chunk: int = 256,
) -> tuple[Tensor, Tensor]:
    """Apply each member's head to its feature bank and merge, `row_chunk` photos at a time.

    Two buffers of row_chunk x K float32 are all it needs beside the features: 103 MB at 50,030 classes, where
    chunks of 2,048 rows took ten times the memory and were no faster.
    Returns (classes int64 [N, k], probabilities float32 [N, k]). ValueError where banks and heads do not
    belong together. The products are computed where the heads lie.
    """
    _check_banks(banks, heads)
    device = heads[0].weight.device
    num_photos, num_classes = len(banks[0].features), heads[0].num_classes
    merger = _Merger(merge)
    buffers = torch.empty(min(2, len(banks)), min(row_chunk, num_photos), num_classes, device=device)
    results = []
    for start in range(0, num_photos, row_chunk):
        rows = slice(start, min(start + row_chunk, num_photos))
        for member, (bank, head) in enumerate(zip(banks, heads, strict=True)):
            features = torch.from_numpy(bank.features[rows].copy()).to(device)
            logits = buffers[min(member, 1), : len(features)]
            head(features, out=logits)
            if member == 0:
                merger.start(logits)
            else:
                merger.add(logits)
        results.append(merger.top_k(k))
    classes, scores = (torch.cat(parts).cpu() for parts in zip(*results, strict=True))
    return classes, scores


def ranked_top_k(scores: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row and their columns, in falling order, equal ones by rising column.

    scores [B, K]; returns (values [B, k], columns int64 [B, k]).
    """
    if k < 1:
        raise ValueError(f"Expected k >= 1, received {k}.")
    k = min(k, scores.shape[1])
    values, columns = scores.topk(k, dim=1)
    tied = (scores >= values[:, -1:]).sum(dim=1) > k  # torch's choice among these is not defined
    if tied.any():
        columns[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    columns = columns.sort(dim=1).values
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def _rank_by_votes(mean: Tensor, best: Tensor, votes: Tensor) -> Tensor:
    """Rank by votes, then mean probability, then class id; mean [B, K], best [B, k], votes [B, M].

    The k winners are among the voted classes and the k most probable ones, so only these are sorted.
    """
    candidates = torch.cat([best, votes], dim=1).sort(dim=1).values
    counts = (candidates.unsqueeze(2) == votes.unsqueeze(1)).sum(dim=2)
    counts[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = -1  # repeated candidates go last
    order = mean.gather(1, candidates).sort(dim=1, descending=True, stable=True).indices
    by_probability = counts.gather(1, order).sort(dim=1, descending=True, stable=True).indices
    return candidates.gather(1, order.gather(1, by_probability))[:, : best.shape[1]]


def _check_banks(banks: Sequence[FeatureBank], heads: Sequence[LinearHead]) -> None:
    if not banks or len(banks) != len(heads):
        raise ValueError(f"Expected one head for each bank, received {len(banks)} banks, {len(heads)} heads.")
    for bank, head in zip(banks, heads, strict=True):
        if bank.photo_ids != banks[0].photo_ids:
            raise ValueError(f"{bank.bundle_dir.parent} holds other photos than the first bank: embed again.")
        if head.num_features != bank.features.shape[1] or head.num_classes != heads[0].num_classes:
            raise ValueError(
                f"{bank.bundle_dir.parent}: expected a head of {bank.features.shape[1]} features and "
                f"{heads[0].num_classes} classes, received {head.num_features} and {head.num_classes}."
            )
