"""What is said and written down when a loss or weight is not finite, so that the photos can be looked at."""

from __future__ import annotations

import json
from pathlib import Path

from training.config import PhaseConfig
from training.job_inputs import PhotoList
from training.step import StepRecord

NAMED_PHOTOS = 10
REPORT = "not_finite.json"


def report_not_finite(
    record: StepRecord,
    *,
    what: str,
    epoch: int,
    training_list: PhotoList,
    phase: PhaseConfig,
    path: Path | None,
) -> str:
    """Return the sentence, and write step, epoch, loss and all photo ids of the batch to path, if given.

    record: the step that shows it. what: the sentence's beginning. epoch: counted from 1.
    """
    photo_ids = [str(training_list.photo_ids[position]) for position in record.positions.tolist()]
    step = record.step + 1
    if path is not None:
        report = {"step": step, "epoch": epoch, "loss": str(record.loss), "photo_ids": photo_ids}
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    more = f" and {len(photo_ids) - NAMED_PHOTOS} more ({REPORT})" if len(photo_ids) > NAMED_PHOTOS else ""
    return (
        f"{what} in epoch {epoch}, step {step}, on the photos "
        f"{', '.join(photo_ids[:NAMED_PHOTOS])}{more} of list.parquet. Lower optimizer.lr "
        f"({phase.optimizer.lr:g}), set clip_norm, lengthen schedule.warmup_epochs or set precision to "
        "float32; the last checkpoint is kept."
    )
