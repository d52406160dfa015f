"""Focal loss, which leaves photos alone that are already right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config.losses import FocalConfig
from training.losses.log_probability import log_probability, other_probability


class FocalLoss(nn.Module):
    """Mean over the batch of -(1 - p_y)^gamma log p_y (Lin et al. 2017, equation 4)."""

    def __init__(self, config: FocalConfig) -> None:
        super().__init__()
        self.gamma = config.gamma

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        log_p = log_probability(logits, labels)
        # above 0, because for gamma < 1 the power's slope at 0 is infinite, and infinity times log 1 is NaN
        other_p = other_probability(log_p).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(other_p**self.gamma * log_p).mean()
