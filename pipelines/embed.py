"""Stage `embed`: one member's pooled features on the evaluation split.

The out holds a copy of the member's bundle, so that the ensemble stage depends on one folder for all members;
where nothing is evaluated, it holds no photo beside it.
"""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from tqdm import tqdm

from catalog.photo_store import PhotoStore
from catalog.splits import load_splits
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.stage import run_stage
from recognition.backbones import Model
from recognition.bundle import MemberConfig, load_member
from recognition.feature_bank import Features, extract_features, save_feature_bank
from recognition.loader import make_inference_loader
from recognition.memory import keep_freed_memory
from recognition.precision import resolve_precision


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


def embed(name: str, params: Params, *, model: Model, config: MemberConfig, photos: pl.DataFrame) -> Features:
    """Pooled features float32 [N, D] of stored photos, with the ensemble's views."""
    store = PhotoStore(paths.photo_store(params.data.name))
    loader = make_inference_loader(
        store,
        store.rows_of(photos["photo_id"].to_arrow(), source_sha256=photos["source_sha256"].to_arrow()),
        preprocessing=config.preprocessing,
        views=params.recipe.ensemble.views,
        batch_size=params.evaluation.batch_size,
        num_workers=params.evaluation.num_workers,
    )
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    return extract_features(
        model,
        tqdm(loader, desc=f"embed {name}", unit="batch", mininterval=1),
        views=params.recipe.ensemble.views,
        preprocessing=config.preprocessing,
        device=device,
        dtype=resolve_precision(params.evaluation.precision, device),
    )


def main(name: str) -> None:
    """Write data/features/<recipe>/<name>/."""
    keep_freed_memory()
    params = load_params()
    bundle = Path(paths.phase_bundle(name))
    model, config = load_member(bundle)
    photos = load_evaluation_photos(params)
    if photos.is_empty():
        features = np.empty((0, config.num_features), dtype=np.float32)
    else:
        features = embed(name, params, model=model, config=config, photos=photos)
    save_feature_bank(
        Path(paths.feature_bank(params.recipe.name, name)),
        features=features,
        photo_ids=photos["photo_id"].to_list(),
        classes=photos["class"].to_numpy().astype(np.int64),
        bundle_dir=bundle,
    )


if __name__ == "__main__":
    run_stage(main)
