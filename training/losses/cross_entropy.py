"""Cross entropy with label smoothing in both conventions; they differ by a factor K / (K - 1)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from training.config import LossConfig


class CrossEntropy(nn.Module):
    """Mean over the batch of -sum_j q_j log p_j, with q the smoothed label.

    "others": q_y = 1 - eps, q_j = eps / (K - 1) (report B); "uniform": q_y = 1 - eps + eps / K, q_j = eps / K
    (torch). Smoothing eps of the first equals eps * K / (K - 1) of the second.
    """

    def __init__(self, config: LossConfig, *, num_classes: int) -> None:
        super().__init__()
        smoothing = config.smoothing
        if config.smoothing_convention == "others":
            smoothing *= num_classes / (num_classes - 1)
        if smoothing > 1:
            raise ValueError(
                f"loss.smoothing: expected at most {1 - 1 / num_classes:g} for {num_classes} classes, where "
                f"the label keeps no more than any other class; received {config.smoothing}."
            )
        self.uniform_smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        return F.cross_entropy(logits, labels, label_smoothing=self.uniform_smoothing)


def make_loss(config: LossConfig, *, num_classes: int) -> CrossEntropy:
    """Build the loss that the phase names."""
    return CrossEntropy(config, num_classes=num_classes)
