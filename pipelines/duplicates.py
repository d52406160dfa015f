"""Stage `duplicates`: which photos are copies of each other, once for all splits and lists."""

from pathlib import Path

import polars as pl

from catalog.duplicates import find_exact, find_near, save_duplicates
from catalog.photo_store import PHOTOS_FILE
from contracts.photos import PHOTOS
from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage


def main() -> None:
    """Write data/duplicates/<data>/."""
    params = load_params()
    store = Path(paths.photo_store(params.data.name))
    photos = pl.DataFrame(PHOTOS.read(store / PHOTOS_FILE, ["photo_id", "sha256", "perceptual_hash"]))
    exact = find_exact(photos)
    near = find_near(photos, max_distance=params.data.duplicates.max_distance)
    save_duplicates(Path(paths.duplicates_folder(params.data.name)), exact=exact, near=near)
    groups = exact["group"].n_unique()
    print(f"{exact.height:,} photos in {groups:,} groups of exact copies, {near.height:,} near pairs")


if __name__ == "__main__":
    run_stage(main)
