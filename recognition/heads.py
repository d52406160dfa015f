"""The linear head of a bundle, which turns pooled features into logits wherever a model answers.

Whatever head a phase trained, its bundle holds this one: features of length 1 where the phase compared
directions, then one product. Training, evaluation and serving use the same two functions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


def unit_length(features: Tensor) -> Tensor:
    """Return features [B, D] divided by their Euclidean lengths; a row of zeros stays."""
    return F.normalize(features, dim=1)


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits float32 [B, K] of pooled features float32 [B, D], without the backbone that made them."""

    weight: Tensor
    """float32 [K, D]."""
    bias: Tensor
    """float32 [K]."""
    normalize_features: bool = False
    """Whether features are brought to length 1 first."""

    @property
    def num_features(self) -> int:
        """D."""
        return self.weight.shape[1]

    @property
    def num_classes(self) -> int:
        """K."""
        return self.weight.shape[0]

    def __call__(self, features: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Return logits [B, K]; `out` is a buffer for them, since fresh 100 MB cost page faults."""
        if self.normalize_features:
            features = unit_length(features)
        return torch.addmm(self.bias, features, self.weight.t(), out=out)
