"""Cross entropy, smoothed in either convention and weighted by class."""

from __future__ import annotations

from torch import Tensor, nn

from training.config.losses import CrossEntropyConfig
from training.losses.class_weights import make_class_weights
from training.losses.log_probability import log_probability, log_probability_and_mean


class CrossEntropy(nn.Module):
    """Mean over the batch of -w(y) sum_j q_j log p_j, with q the smoothed label; w: class_weights.py.

    "others": q_y = 1 - eps, q_j = eps / (K - 1) (report B); "uniform": q_y = 1 - eps + eps / K, q_j = eps / K
    (torch). Smoothing eps of the first equals eps K / (K - 1) of the second. A plain mean (report A): torch's
    weighted one divides by the sum of the weights instead.
    """

    class_weights: Tensor | None

    def __init__(self, config: CrossEntropyConfig, *, class_counts: Tensor) -> None:
        super().__init__()
        self.uniform_smoothing = _uniform_smoothing(config, num_classes=len(class_counts))
        weights = make_class_weights(
            config.class_weights, class_counts=class_counts, effective_beta=config.effective_beta
        )
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        eps = self.uniform_smoothing
        if eps > 0:
            log_p, mean_log_p = log_probability_and_mean(logits, labels)
            log_p = (1 - eps) * log_p + eps * mean_log_p
        else:
            log_p = log_probability(logits, labels)
        if self.class_weights is not None:
            log_p = self.class_weights[labels] * log_p
        return -log_p.mean()


def _uniform_smoothing(config: CrossEntropyConfig, *, num_classes: int) -> float:
    """The smoothing in torch's convention; ValueError where the label keeps less than another class."""
    smoothing = config.smoothing
    if smoothing > 0 and config.smoothing_convention == "others":
        smoothing *= num_classes / max(1, num_classes - 1)
    if smoothing > 1:
        raise ValueError(
            f"loss.smoothing: expected at most {1 - 1 / num_classes:g} for {num_classes} classes, where "
            f"the label keeps no more than any other class; received {config.smoothing}."
        )
    return smoothing
