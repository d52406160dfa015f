"""Margins: the label's logit is made smaller while training, so that classes end up further apart.

A margin changes one logit of a photo's K, so nothing is copied on the way forward: the label's logit is
replaced in the logits' own memory and put back once the loss has read it. The gradient is copied once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.config.heads import ArcFaceConfig, ASoftmaxConfig, HeadConfig

Margin = Callable[[Tensor, int], Tensor]
"""Turns the cosines between photos and their labels' weights [B] and the step into lower ones [B]."""


def make_margin(config: HeadConfig) -> Margin | None:
    """Return the margin that the head trains with; None where it has none."""
    if isinstance(config, ArcFaceConfig):
        return lambda cosine, step: arcface(cosine, margin=config.margin)
    if isinstance(config, ASoftmaxConfig):
        return lambda cosine, step: annealed_a_softmax(cosine, config=config, step=step)
    return None


def arcface(cosine: Tensor, *, margin: float) -> Tensor:
    """Return cos(angle + margin) of cosines (Deng et al. 2019, equation 3).

    Where the sum would pass pi and the cosine rise again, cosine - margin sin(margin) goes on falling, as in
    the authors' code.
    """
    sine = (1 - cosine.square()).clamp(min=torch.finfo(cosine.dtype).eps).sqrt()  # no infinite slope at 1
    widened = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), widened, cosine - margin * math.sin(margin))


def a_softmax(cosine: Tensor, *, margin: int) -> Tensor:
    """Return psi = (-1)^k cos(margin angle) - 2k of cosines, k pi <= margin angle <= (k + 1) pi.

    The psi of Liu et al. 2017, equation 7, which falls from 1 to 1 - 2 margin over half a turn. The cosine of
    the multiple is Chebyshev's polynomial of the cosine, so that the slope is finite everywhere.
    """
    turns = (margin * cosine.detach().clamp(-1, 1).acos() / math.pi).floor().clamp(max=margin - 1)
    before, multiple = torch.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, multiple = multiple, 2 * cosine * multiple - before
    return (1 - 2 * turns.remainder(2)) * multiple - 2 * turns


def annealed_a_softmax(cosine: Tensor, *, config: ASoftmaxConfig, step: int) -> Tensor:
    """Return (weight cosine + psi) / (1 + weight), the method's own annealing (Liu et al. 2017, appendix).

    weight = lambda_start / (1 + lambda_decay step), not below lambda_end.
    """
    weight = max(config.lambda_end, config.lambda_start / (1 + config.lambda_decay * step))
    return (weight * cosine + a_softmax(cosine, margin=config.margin)) / (1 + weight)


def loss_with_margin(
    loss: Callable[[Tensor, Tensor], Tensor],
    logits: Tensor,
    labels: Tensor,
    *,
    lengths: Tensor,
    margin: Margin,
    step: int,
) -> Tensor:
    """Return the loss, a scalar, of logits [B, K] whose label's entry follows the margin.

    lengths: what logits are divided by to be cosines, [B]. The logits hold their own values again afterwards,
    so a loss must keep for its gradient what it made of them, not the logits; torch stops one that does.
    """
    index = labels[:, None]
    own = logits.detach().gather(1, index)
    lowered, *slopes = _lowered(own.squeeze(1), lengths.detach(), margin=margin, step=step)
    total = loss(_ReplaceLabelLogit.apply(logits, lengths, index, lowered, *slopes), labels)
    logits.detach().scatter_(1, index, own)
    return total


def _lowered(own: Tensor, lengths: Tensor, *, margin: Margin, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the margin's logits [B], and their slopes by the labels' own logits and by the lengths."""
    with torch.enable_grad():
        own, lengths = own.requires_grad_(), lengths.requires_grad_()
        lowered = lengths * margin((own / lengths).clamp(-1, 1), step)
        by_own, by_length = torch.autograd.grad(lowered.sum(), (own, lengths))
    return lowered.detach(), by_own, by_length


class _ReplaceLabelLogit(torch.autograd.Function):
    """Writes the margin's logit over the label's and returns the same memory."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        lengths: Tensor,
        index: Tensor,
        lowered: Tensor,
        by_own: Tensor,
        by_length: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(index, by_own, by_length)
        return logits.detach().scatter_(1, index, lowered[:, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        index, by_own, by_length = ctx.saved_tensors
        of_label = gradient.gather(1, index).squeeze(1)
        of_logits = gradient.scatter(1, index, (of_label * by_own)[:, None])
        return of_logits, of_label * by_length, None, None, None, None
