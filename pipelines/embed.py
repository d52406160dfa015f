"""Stage `embed`: one member's pooled features on the evaluation split.

The out holds a copy of the member's bundle, so that the ensemble stage depends on one folder for all members;
where nothing is evaluated, it holds no photo beside it.
"""

from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from catalog.photo_store import PhotoStore
from catalog.splits import load_splits
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.stage import run_stage
from recognition.feature_bank import save_feature_bank
from recognition.member import LoadedMember
from recognition.memory import keep_freed_memory
from recognition.precision import choose_device


def load_evaluation_photos(params: Params) -> pl.DataFrame:
    """The labelled photos of the evaluation split: photo_id, class, source_sha256; ValueError for none.

    None of them where `evaluation.split` is null.
    """
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    if params.evaluation.split is None:
        return splits.select("photo_id", "class", "source_sha256").clear()
    photos = splits.filter(pl.col("split") == params.evaluation.split, pl.col("class").is_not_null())
    if photos.is_empty():
        raise ValueError(
            f"Expected labelled photos in the evaluation split {params.evaluation.split!r} of "
            f"{params.data.name}, found none: choose another evaluation_split in conf/data/."
        )
    return photos.select("photo_id", "class", "source_sha256")


def main(name: str) -> None:
    """Write data/features/<recipe>/<name>/."""
    keep_freed_memory()
    params = load_params()
    evaluation, bundle = params.evaluation, Path(paths.phase_bundle(name))
    device, dtype = choose_device(evaluation.precision)
    member = LoadedMember.load(bundle, device=device, dtype=dtype)
    photos = load_evaluation_photos(params)
    store = PhotoStore(paths.photo_store(params.data.name))
    rows = store.rows_of(photos["photo_id"].to_arrow(), source_sha256=photos["source_sha256"].to_arrow())
    with tqdm(desc=f"embed {name}", total=len(rows), unit="photo", mininterval=1) as bar:
        features = member.embed(
            store,
            rows,
            views=params.recipe.ensemble.views,
            batch_size=evaluation.batch_size,
            num_workers=evaluation.num_workers,
            progress=bar.update,
        )
    save_feature_bank(
        Path(paths.feature_bank(params.recipe.name, name)),
        features=features,
        photo_ids=photos["photo_id"].to_list(),
        classes=photos["class"].to_numpy().astype(np.int64),
        bundle_dir=bundle,
    )


if __name__ == "__main__":
    run_stage(main)
