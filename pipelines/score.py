"""How many wrong labels a list dropped, where the source knows the truth: `aisle lists score`."""

from pathlib import Path

import polars as pl

from catalog.lists import load_list
from catalog.photo_store import PHOTOS_FILE
from catalog.refinement import score_dropped
from catalog.splits import load_splits
from pipelines import paths
from pipelines.params import load_params


def score_list(root: Path, *, name: str) -> str:
    """A sentence about the list; ValueError where the source knows no truth or the list was not made."""
    params = load_params(root)
    path = root / paths.list_file(params.data.name, name)
    if not path.exists():
        made = sorted(found.stem for found in path.parent.glob("*.parquet"))
        raise ValueError(f"Expected a list named {name!r} of {params.data.name}, found {made or 'no lists'}.")
    score = score_dropped(
        load_list(path),
        splits=load_splits(root / paths.split_folder(params.data.name)),
        truth=pl.read_parquet(root / paths.photo_store(params.data.name) / PHOTOS_FILE),
    )
    num_kept = score.num_listed - score.num_dropped
    left = (score.num_wrong - score.num_wrong_dropped) / num_kept
    return (
        f"{name}: dropped {score.num_wrong_dropped} of {score.num_wrong} wrong labels. "
        f"Wrong are {_percent(score.num_wrong / score.num_listed)} of all {score.num_listed} photos, "
        f"{_percent(left)} of the {num_kept} that it keeps, "
        f"{_percent(score.precision)} of the {score.num_dropped} that it dropped"
    )


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"
