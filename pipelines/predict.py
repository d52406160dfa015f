"""Stage `predict`: out-of-fold predictions, what a phase's model says of a list's photos, for refinement.

A held-out fold is evidence for `confident`, several members on one list for `agreement`, a list of unlabelled
photos for `pseudo`. The table has the loss log's columns, so that every rule reads both, and the photos'
perceptual hashes.
"""

from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from catalog.content import CONTENT
from catalog.lists import load_list
from catalog.photo_store import PhotoStore
from catalog.splits import load_splits
from contracts.evidence import OUT_OF_FOLD
from contracts.values import UNLABELLED
from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage
from recognition.member import LoadedMember
from recognition.memory import keep_freed_memory
from recognition.precision import choose_device
from training.answers import measure_answers

_OF_THE_LABEL = ("mean_loss", "loss_variance", "mean_margin", "mean_label_probability")


def main(name: str) -> None:
    """Write data/predictions/<recipe>/<name>.parquet."""
    keep_freed_memory()
    params = load_params()
    config, evaluation = params.recipe.predictions[name], params.evaluation
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    photos = load_list(Path(paths.list_file(params.data.name, config.list)), splits=splits)
    store = PhotoStore(paths.photo_store(params.data.name))
    labels = photos["class"].fill_null(UNLABELLED).to_numpy().astype(np.int64)
    photo_ids = photos["photo_id"].to_arrow()
    rows = store.rows_of(photo_ids, source_sha256=photos["source_sha256"].to_arrow())
    device, dtype = choose_device(evaluation.precision)
    member = LoadedMember.load(Path(paths.phase_bundle(config.phase)), device=device, dtype=dtype)
    with tqdm(desc="predict", total=len(rows), unit="photo", mininterval=1) as bar:
        log = measure_answers(
            member,
            store,
            rows,
            labels=labels,
            batch_size=evaluation.batch_size,
            num_workers=evaluation.num_workers,
            progress=bar.update,
        )
    table = pl.DataFrame(log.to_table(photo_ids=photos.to_arrow()["photo_id"], labels=labels))
    labelled = photos["class"].is_not_null()
    table = table.with_columns(
        photos["class"],
        *(photos[column] for column in CONTENT),
        *(pl.when(labelled).then(pl.col(column)).alias(column) for column in _OF_THE_LABEL),
    )
    out = Path(paths.out_of_fold_file(params.recipe.name, name))
    out.parent.mkdir(parents=True, exist_ok=True)
    OUT_OF_FOLD.write(out, table)
    right = (table["mean_margin"] > 0).sum()
    print(f"{name}: {table.height:,} photos, {right:,} of {labelled.sum():,} labelled ones as labelled")


if __name__ == "__main__":
    run_stage(main)
