"""What a model said of each photo of a list: what refinement rules read."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from contracts.columns import CLASS, CLASS_OR_NULL, PERCEPTUAL_HASH, PHOTO_ID, SOURCE_SHA256
from contracts.table import Column, Table


def _number(name: str, meaning: str) -> Column:
    return Column(name=name, type=pa.float32(), nullable=True, meaning=meaning)


_STATISTICS = (
    _number("mean_loss", "Mean cross entropy over the times seen; null: never seen, or unlabelled."),
    _number("loss_variance", "Population variance of these losses; null as mean_loss."),
    Column(name="num_seen", type=pa.int32(), meaning="How often the photo was looked at."),
    _number("mean_margin", "Mean of the label's logit minus the largest other; null as mean_loss."),
    _number("mean_label_probability", "Mean probability of the label; null as mean_loss."),
    _number("mean_other_probability", "Mean largest probability of another class; null: never seen."),
    Column(
        name="other_class",
        type=pa.int32(),
        nullable=True,
        meaning="That class where it was most probable; null: never seen.",
    ),
)
_SEEN = replace(SOURCE_SHA256, meaning="SHA-256 of the source's bytes of the photo that was looked at.")

LOSS_LOG = Table(
    name="loss log",
    version=1,
    columns=(PHOTO_ID, CLASS, *_STATISTICS, _SEEN),
    remake="run its phase again (`dvc repro train`)",
    meaning="How well each photo of a phase's list was learnt, in the list's order.",
    location="runs/<phase>/loss_log.parquet",
    written_by="train",
    read_by=("refine", "explore"),
)

OUT_OF_FOLD = Table(
    name="out-of-fold predictions table",
    version=1,
    columns=(PHOTO_ID, CLASS_OR_NULL, *_STATISTICS, _SEEN, PERCEPTUAL_HASH),
    remake="predict the list again (`dvc repro predict`)",
    meaning="What a phase's model says of the photos of a list, most often one that it did not train on.",
    location="data/predictions/<recipe>/<name>.parquet",
    written_by="predict",
    read_by=("refine", "explore", "split, for noise of the kind confusion"),
)
