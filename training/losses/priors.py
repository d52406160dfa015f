"""Losses that tell the softmax how frequent each class is, so that the model need not learn it."""

from __future__ import annotations

from torch import Tensor, nn

from training.losses.log_probability import log_probability


class PriorCrossEntropy(nn.Module):
    """Mean over the batch of -log softmax(z + tau log(n / N))_y: logit adjustment.

    Menon et al. 2021, equation 10. At tau 1 it is balanced softmax (Ren et al. 2020, equation 3), where
    p_k ~ n_k exp z_k. A class without photos has the prior 0 and no part in the softmax: its logits get no
    gradient.
    """

    offset: Tensor

    def __init__(self, *, tau: float, class_counts: Tensor) -> None:
        super().__init__()
        counts = class_counts.double()
        self.register_buffer("offset", (tau * (counts / counts.sum()).log()).float(), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of float32 logits [B, K] and labels int64 [B].

        It is infinite for a label of a class that the counts lack. Labels and counts are of one list, and
        asking would make a GPU wait at every step.
        """
        return -log_probability(logits, labels, offset=self.offset).mean()
