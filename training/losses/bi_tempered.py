"""Bi-tempered logistic loss, for wrong labels: bounded for labels far off, heavy-tailed for near ones.

Amid et al. 2019 replace the logarithm and the exponential of cross entropy by

    log_t(x) = (x^(1 - t) - 1) / (1 - t),    exp_t(x) = max(0, 1 + (1 - t) x)^(1 / (1 - t)),

whose limits at t = 1 are the ordinary ones, and p by exp_t2(z - lambda(z)), lambda such that p sums to 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from imaging.config import require
from training.config.losses import BiTemperedConfig
from training.losses.log_probability import require_float32
from training.row_slices import row_slices


class BiTemperedLoss(nn.Module):
    """Mean over the batch of the Bregman divergence between the smoothed label q and p (equation 7).

    It is sum_j q_j (log_t1 q_j - log_t1 p_j) - (q_j^(2 - t1) - p_j^(2 - t1)) / (2 - t1), where
    q_y = 1 - eps and q_j = eps / (K - 1).
    """

    def __init__(self, config: BiTemperedConfig, *, num_classes: int) -> None:
        super().__init__()
        self.config = config
        # float32 must hold K^t2, which is 1 / p^t2 of K equal logits
        limits = {"smoothing": (0, 1 - 1 / num_classes), "t2": (1, 80 / math.log(max(2, num_classes)))}
        for key, (low, high) in limits.items():
            value, expected = getattr(config, key), f"a number from {low:g} to {high:g}"
            require(low <= value <= high, key=f"loss.{key}", expected=expected, received=value)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        losses: Tensor = _BiTempered.apply(logits, labels, self.config)
        return losses.mean()


class _BiTempered(Function):
    """The loss of each photo [B]; keeps p in one [B, K] buffer and turns it into the gradient.

    With dL/dp_j = (p_j - q_j) p_j^-t1 and dp_j/dz_i = p_j^t2 (delta_ij - r_i), where r = p^t2 / sum p^t2, the
    gradient is m - r sum_j m_j of m_j = (p_j - q_j) p_j^(t2 - t1). The normalisation is differentiated at its
    solution (the implicit function theorem), so that no iteration is kept.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, config: BiTemperedConfig) -> Tensor:
        require_float32(logits)
        probabilities = torch.empty_like(logits, memory_format=torch.contiguous_format)
        losses = logits.new_empty(len(logits))
        for rows in row_slices(logits):
            log_p = tempered_log_softmax(logits[rows], t=config.t2, num_iterations=config.num_iterations)
            losses[rows] = _divergence(log_p, labels[rows], config)
            torch.exp(log_p, out=probabilities[rows])
        ctx.config = config
        ctx.save_for_backward(probabilities, labels)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        buffer, labels = ctx.saved_tensors
        t1, t2 = ctx.config.t1, ctx.config.t2
        label_q, other_q = _targets(ctx.config, num_classes=buffer.shape[1])
        for rows in row_slices(buffer):
            p, label = buffer[rows], labels[rows, None]
            distance = p - other_q
            distance.scatter_add_(1, label, distance.new_full(label.shape, other_q - label_q))
            pull = distance.mul_(p ** (t2 - t1))
            share = p.pow_(t2)
            share *= pull.sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True)
            torch.sub(pull, share, out=p).mul_(grad[rows, None])
        return buffer, None, None


def tempered_log_softmax(logits: Tensor, *, t: float, num_iterations: int) -> Tensor:
    """Return log p [B, K], p = exp_t(z - lambda), of logits z [B, K] and a temperature t >= 1.

    lambda solves sum(p)^(1 - t) = 1, whose left side is concave in lambda: Newton's method rises from max z
    to the solution without overshooting, in about 4 steps where the fixed point of Amid et al. (algorithm 1)
    takes 20 for 50,030 classes. num_iterations is the most there are.
    """
    if t == 1:
        return logits.log_softmax(dim=1)
    c = t - 1
    # u = (t - 1)(lambda - z) >= 0, so that log p = -log(1 + u) / (t - 1)
    u = (logits.amax(dim=1, keepdim=True) - logits).mul_(c)
    near_enough = torch.finfo(u.dtype).eps ** 0.5  # a step squares the distance: one more reaches eps
    for _ in range(num_iterations):
        p = u.log1p().div_(-c).exp_()
        total = p.sum(dim=1, keepdim=True)
        slope = p.div_(1 + u).sum(dim=1, keepdim=True)  # of the total, as p^t = p / (1 + u)
        u += total * torch.expm1(c * total.log()) / slope
        if (total - 1).abs().max() < near_enough:
            break
    return u.log1p().div_(-c)


def _divergence(log_p: Tensor, labels: Tensor, config: BiTemperedConfig) -> Tensor:
    """The loss [B] of log p [B, K]."""
    t1 = config.t1
    label_q, other_q = _targets(config, num_classes=log_p.shape[1])
    entropy = _entropy(label_q, t1) + (log_p.shape[1] - 1) * _entropy(other_q, t1)
    crossed: Tensor = (label_q - other_q) * _tempered_log(log_p.gather(1, labels[:, None]).squeeze(1), t1)
    if other_q > 0:
        crossed = crossed + other_q * _tempered_log(log_p, t1).sum(dim=1)
    return entropy - crossed + ((2 - t1) * log_p).exp_().sum(dim=1) / (2 - t1)


def _tempered_log(log_x: Tensor, t: float) -> Tensor:
    """log_t(x) of the ordinary log x: exact where x is nearly 1, finite or -inf where it underflows."""
    return log_x if t == 1 else torch.expm1((1 - t) * log_x) / (1 - t)


def _entropy(q: float, t: float) -> float:
    """The divergence's terms in q alone: q log_t(q) - q^(2 - t) / (2 - t)."""
    if q == 0:
        return 0.0
    log_q = math.log(q) if t == 1 else (q ** (1 - t) - 1) / (1 - t)
    return q * log_q - float(q ** (2 - t)) / (2 - t)


def _targets(config: BiTemperedConfig, *, num_classes: int) -> tuple[float, float]:
    """q of the label and of each other class."""
    return 1 - config.smoothing, config.smoothing / max(1, num_classes - 1)
