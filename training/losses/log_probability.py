"""log p of the label, from which most losses follow: its forward and backward share one buffer.

A loss that reads the logits z [B, K] through log p_y alone has the gradient dL/dz = g (onehot - p), where
g = dL/d log p_y [B]. So each loss is a line of ordinary torch on [B] numbers, and K appears only here: the
forward leaves p in one [B, K] buffer, and the backward scales it into the gradient. Torch's cross entropy
fills three of that size: log p, the gradient with respect to it, and that with respect to z.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from training.row_slices import row_slices


def log_probability(logits: Tensor, labels: Tensor, *, offset: Tensor | None = None) -> Tensor:
    """Return log p_y [B], p = softmax(logits + offset), of logits [B, K] and labels int64 [B].

    offset [K] may be -inf for classes that take no part. The logits stay as they are. There is one backward
    pass, which uses up the buffer: a second one raises RuntimeError. TypeError for logits below float32.
    """
    log_p: Tensor = _LabelLogProbability.apply(logits, labels, offset, False)[0]
    return log_p


def log_probability_and_mean(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p_y [B] and the mean over all classes of log p_j [B], for label smoothing."""
    log_p, mean_log_p = _LabelLogProbability.apply(logits, labels, None, True)
    return log_p, mean_log_p


def other_probability(log_p: Tensor) -> Tensor:
    """Return 1 - p [B] of log p [B], exact at both ends, and so is its gradient -p.

    Autograd would take the gradient from the result, as expm1(log p) + 1, of which float32 keeps no digit
    below p = 1e-7: a loss of 1 - p then stands still where the model is most wrong.
    """
    others: Tensor = _OtherProbability.apply(log_p)
    return others


def require_float32(logits: Tensor) -> None:
    """Raise TypeError for logits in a format that rounds sums over thousands of classes (float64 is fine)."""
    if logits.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"Expected float32 logits [B, K] in a loss, received {logits.dtype}. Compute the head outside "
            "autocast, as recognition.backbones.Model.logits does."
        )


class _LabelLogProbability(Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, offset: Tensor | None, with_mean: bool
    ) -> tuple[Tensor, Tensor | None]:
        require_float32(logits)
        softmax = torch.empty_like(logits, memory_format=torch.contiguous_format)
        log_p = logits.new_empty(len(logits), 1)
        mean = logits.new_empty(len(logits), 1) if with_mean else None
        for rows in [slice(None)] if offset is None else row_slices(logits):
            shifted = logits[rows] if offset is None else logits[rows] + offset
            torch.softmax(shifted, dim=1, out=softmax[rows])
            log_p[rows] = _log_p(shifted, softmax[rows], labels[rows, None])
            if mean is not None:
                log_total = shifted.gather(1, labels[rows, None]) - log_p[rows]
                mean[rows] = shifted.mean(dim=1, keepdim=True) - log_total
        # saved, so that autograd itself refuses a second backward pass: the first changes the saved version
        ctx.save_for_backward(softmax, labels)
        return log_p.squeeze(1), None if mean is None else mean.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_label: Tensor, grad_mean: Tensor | None) -> tuple[Tensor, None, None, None]:
        buffer, labels = ctx.saved_tensors
        grad = grad_label if grad_mean is None else grad_label + grad_mean
        buffer.mul_(-grad[:, None])
        if grad_mean is not None:
            buffer.add_(grad_mean[:, None] / buffer.shape[1])
        buffer.scatter_add_(1, labels[:, None], grad_label[:, None])
        return buffer, None, None, None


class _OtherProbability(Function):
    @staticmethod
    def forward(ctx: Any, log_p: Tensor) -> Tensor:
        ctx.save_for_backward(log_p)
        return -torch.expm1(log_p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        log_p: Tensor = ctx.saved_tensors[0]
        return -grad * log_p.exp()


def _log_p(logits: Tensor, softmax: Tensor, labels: Tensor) -> Tensor:
    """Return log p_y [B, 1] of labels [B, 1], also where p_y is too small for its format.

    A CPU takes the longer way for those rows only, two passes over [B, K] less; a GPU would have to wait to
    learn which they are.
    """
    if logits.device.type != "cpu":
        return log_p_beside_largest(logits, softmax, labels)
    p = softmax.gather(1, labels)
    log_p, small = p.log(), (p.squeeze(1) < torch.finfo(p.dtype).tiny).nonzero().squeeze(1)
    if len(small):
        log_p[small] = log_p_beside_largest(logits[small], softmax[small], labels[small])
    return log_p


def log_p_beside_largest(logits: Tensor, softmax: Tensor, labels: Tensor) -> Tensor:
    """Return log p_y = z_y - max z + log(max p), [B, 1], of logits z and their softmax p [B, K]."""
    below = logits.gather(1, labels) - logits.amax(dim=1, keepdim=True)
    return below + softmax.amax(dim=1, keepdim=True).log()
