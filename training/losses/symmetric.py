"""Symmetric cross entropy, which also punishes probability that the label's class does not get (report A)."""

from __future__ import annotations

from torch import Tensor, nn

from training.config.losses import SymmetricConfig
from training.losses.class_weights import make_class_weights
from training.losses.log_probability import log_probability, other_probability


class SymmetricCrossEntropy(nn.Module):
    """Mean over the batch of alpha w(y) CE + beta RCE (report A; Wang et al. 2019, equations 5 and 6).

    RCE = -sum_j p_j log q_j of a one-hot label q, log 0 clipped to A, is -A (1 - p_y): bounded by -A.
    """

    class_weights: Tensor | None

    def __init__(self, config: SymmetricConfig, *, class_counts: Tensor) -> None:
        super().__init__()
        self.alpha, self.beta, self.log_zero = config.alpha, config.beta, config.log_zero
        weights = make_class_weights(config.class_weights, class_counts=class_counts, effective_beta=0.0)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        log_p = log_probability(logits, labels)
        cross_entropy = -log_p if self.class_weights is None else -self.class_weights[labels] * log_p
        reverse = -self.log_zero * other_probability(log_p)
        return (self.alpha * cross_entropy + self.beta * reverse).mean()
