"""How much a photo counts by the size of its class."""

from __future__ import annotations

import torch
from torch import Tensor

from training.config.losses import ClassWeights


def make_class_weights(kind: ClassWeights, *, class_counts: Tensor, effective_beta: float) -> Tensor | None:
    """Return float32 [K] weights of classes with class_counts int64 [K] photos on the phase's list, or None.

    inverse: N / (K n_k) (report A), which has a mean of 1 over the photos. effective_number: (1 - b) /
    (1 - b^n_k) (Cui et al. 2019, equation 2), scaled to a mean of 1 over the classes. Classes without photos
    weigh 0, and both K and that mean do without them: report A counts on the list. None weighs all alike.
    """
    if kind == "none":
        return None
    counts = class_counts.double()  # in float32, 1 - .9999^5 is off in the fourth digit
    present = counts > 0
    if kind == "inverse":
        weights = counts.sum() / (present.sum() * counts)
    else:
        weights = (1 - effective_beta) / (1 - effective_beta**counts)
        weights = weights / weights[present].mean()
    return weights.where(present, torch.zeros_like(weights)).float()
