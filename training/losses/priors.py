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

        ValueError for a label of a class without photos: its loss would be infinite.
        """
        absent = self.offset[labels].isneginf()
        if absent.any():
            raise ValueError(
                "Expected labels of classes with photos on the phase's list, received class "
                f"{labels[absent][0].item()}, which has none. Count classes on the list that is trained on."
            )
        return -log_probability(logits, labels, offset=self.offset).mean()
