"""Report C's accuracy loss. As printed, with an argmax, it has no gradient; two readings of it have one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from training.losses.log_probability import log_probability, other_probability, require_float32


class ExpectedError(nn.Module):
    """1 - mean p_y over the batch, the expected error of answers drawn from p (reading "probability")."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        return other_probability(log_probability(logits, labels)).mean()


class PrecisionLoss(nn.Module):
    """1 - mean over the classes in the batch of their soft precision (reading "precision").

    Counting probabilities instead of answers, class k is predicted sum_i p_ik times and rightly so
    sum over y_i = k of p_ik times; its precision is the second divided by the first. Classes that no photo of
    the batch has are left out: theirs is 0 whatever the model says.
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B]."""
        classes, index = torch.unique(labels, return_inverse=True)
        probabilities: Tensor = _ChosenProbabilities.apply(logits, classes)
        label_p = probabilities.gather(1, index[:, None]).squeeze(1)
        right = label_p.new_zeros(len(classes)).index_add(0, index, label_p)
        predicted = probabilities.sum(dim=0).clamp(min=torch.finfo(label_p.dtype).tiny)
        return 1 - (right / predicted).mean()


class _ChosenProbabilities(Function):
    """Columns `classes` [C] of the softmax of logits [B, K], as [B, C]; one [B, K] buffer for both passes.

    With G = dL/dp [B, C] the gradient is p_j (G_j - sum_c G_c p_c), where G_j = 0 for columns not chosen.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor) -> Tensor:
        require_float32(logits)
        softmax = logits.softmax(dim=1)
        chosen = softmax.index_select(1, classes)
        ctx.save_for_backward(softmax, classes, chosen)
        return chosen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        buffer, classes, chosen = ctx.saved_tensors
        pull = grad * chosen
        buffer.mul_(-pull.sum(dim=1, keepdim=True))
        buffer.index_add_(1, classes, pull)
        return buffer, None
