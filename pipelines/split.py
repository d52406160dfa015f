"""Stage `split`: the photo store to train, val, test and holdout; copies across them are judged here."""

import logging
from pathlib import Path

import polars as pl

from catalog.copies_across import COPIES_FILE, check_copies, find_copies_across
from catalog.duplicates import load_duplicates
from catalog.noise import count_confusions
from catalog.photo_store import PHOTOS_FILE, load_store_info
from catalog.splits import make_splits, make_truth, save_splits
from imaging.atomic_write import atomic_write
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.stage import run_stage
from training.config.phase import NO_FILE

logger = logging.getLogger(__name__)


def judge_copies(params: Params, splits: pl.DataFrame, *, out: Path) -> None:
    """Write the copies across splits beside them, then warn of them or stop, as data.split says."""
    exact, near = load_duplicates(Path(paths.duplicates_folder(params.data.name)))
    copies = find_copies_across(splits, exact=exact, near=near)
    with atomic_write(out / COPIES_FILE) as file:
        copies.write_parquet(file)
    for warning in check_copies(copies, config=params.data.split):
        logger.warning(warning)


def main() -> None:
    """Write data/splits/<data>/."""
    params = load_params()
    config, store = params.data.split, Path(paths.photo_store(params.data.name))
    info, photos = load_store_info(store), pl.read_parquet(store / PHOTOS_FILE)
    confusion_path = config.noise.confusion_path
    splits = make_splits(
        photos,
        class_names=info.class_names,
        coarse_of=info.coarse_of,
        config=config,
        seed=params.seed,
        confusion=None if confusion_path == NO_FILE else count_confusions(pl.read_parquet(confusion_path)),
    )
    out = Path(paths.split_folder(params.data.name))
    truth = make_truth(photos, class_names=info.class_names, config=config)
    save_splits(splits, out, truth=truth, class_names=info.class_names, coarse_of=info.coarse_of)
    for name, count in splits.group_by("split").len().sort("split").iter_rows():
        print(f"{name:8} {count:,} photos, {count / splits.height:.1%}")
    judge_copies(params, splits, out=out)


if __name__ == "__main__":
    run_stage(main)
