"""From a loss's configuration to the loss."""

from __future__ import annotations

from torch import Tensor, nn

from training.config.losses import (
    AccuracyConfig,
    BalancedSoftmaxConfig,
    BiTemperedConfig,
    CrossEntropyConfig,
    FocalConfig,
    LogitAdjustedConfig,
    LossConfig,
    SymmetricConfig,
)
from training.losses.accuracy import ExpectedError, PrecisionLoss
from training.losses.bi_tempered import BiTemperedLoss
from training.losses.cross_entropy import CrossEntropy
from training.losses.focal import FocalLoss
from training.losses.priors import PriorCrossEntropy
from training.losses.symmetric import SymmetricCrossEntropy


def make_loss(config: LossConfig, *, class_counts: Tensor) -> nn.Module:
    """Build the loss that a phase names: float32 logits [B, K] and labels int64 [B] to a scalar to lower.

    class_counts int64 [K] counts the photos of each class on the phase's list.
    """
    match config:
        case CrossEntropyConfig():
            return CrossEntropy(config, class_counts=class_counts)
        case SymmetricConfig():
            return SymmetricCrossEntropy(config, class_counts=class_counts)
        case AccuracyConfig():
            return ExpectedError() if config.reading == "probability" else PrecisionLoss()
        case FocalConfig():
            return FocalLoss(config)
        case BiTemperedConfig():
            return BiTemperedLoss(config, num_classes=len(class_counts))
        case LogitAdjustedConfig():
            return PriorCrossEntropy(tau=config.tau, class_counts=class_counts)
        case BalancedSoftmaxConfig():
            return PriorCrossEntropy(tau=1.0, class_counts=class_counts)
