"""What a trained model answers for photos, in the loss log's terms: evidence that refinement reads.

A module of its own, so that an edit here re-runs the stage `predict` and trains nothing again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from recognition.loader import Reader
from recognition.member import LoadedMember, Progress
from training.loss_log import LossLog, measure


@torch.inference_mode()
def measure_answers(
    member: LoadedMember,
    reader: Reader,
    rows: npt.NDArray[np.int64],
    *,
    labels: npt.NDArray[np.int64],
    batch_size: int,
    num_workers: int = 0,
    progress: Progress | None = None,
) -> LossLog:
    """Measure one answer for each of rows [N] of a photo store; labels [N] are classes, -1 for unlabelled.

    An unlabelled photo is measured against its least likely class: the largest other class is then the
    model's answer.
    """
    log = LossLog(len(rows))
    for logits, positions in member.answer(
        reader, rows, batch_size=batch_size, num_workers=num_workers, progress=progress
    ):
        given = torch.from_numpy(labels[positions.numpy()]).to(logits.device)
        targets = torch.where(given >= 0, given, logits.argmin(dim=1))
        log.record(measure(logits, targets), positions=positions)
    return log
