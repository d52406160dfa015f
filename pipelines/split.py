"""Stage `split`: every photo of the store to train, val, test or holdout, and the classes in their order."""

from pathlib import Path

import polars as pl

from catalog.photo_store import PHOTOS_FILE, load_store_info
from catalog.splits import make_splits, save_splits
from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage


def main() -> None:
    """Write data/splits/<data>/."""
    params = load_params()
    store = Path(paths.photo_store(params.data.name))
    info = load_store_info(store)
    splits = make_splits(
        pl.read_parquet(store / PHOTOS_FILE),
        class_names=info.class_names,
        config=params.data.split,
        seed=params.seed,
    )
    out = Path(paths.split_folder(params.data.name))
    save_splits(splits, out, class_names=info.class_names, coarse_of=info.coarse_of)
    for name, count in splits.group_by("split").len().sort("split").iter_rows():
        print(f"{name:8} {count:,} photos")


if __name__ == "__main__":
    run_stage(main)
