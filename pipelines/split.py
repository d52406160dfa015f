"""Stage `split`: the photo store to train, val, test and holdout; the data are reviewed here, before anything
trains on them, and copies across splits are judged.
"""

import logging
from pathlib import Path

import polars as pl

from catalog.copies_across import COPIES_FILE, check_copies, find_copies_across
from catalog.duplicates import load_duplicates
from catalog.noise import count_confusions
from catalog.photo_store import PHOTOS_FILE, load_store_info
from catalog.quarantine import load_quarantine
from catalog.review import (
    REVIEW_FILE,
    Review,
    check_source,
    describe_review,
    make_review,
    refuse_stops,
    save_review,
)
from catalog.splits import make_splits, make_truth, save_splits
from contracts.evidence import LOSS_LOG, OUT_OF_FOLD
from contracts.photos import PHOTOS
from contracts.splits import COPIES_ACROSS
from contracts.table import find_table
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.paths import NO_FILE
from pipelines.stage import run_stage
from training.config.phase import needs_validation

logger = logging.getLogger(__name__)


def judge_copies(params: Params, splits: pl.DataFrame, *, out: Path) -> None:
    """Write the copies across splits beside them, then warn of them or stop, as data.split says."""
    exact, near = load_duplicates(Path(paths.duplicates_folder(params.data.name)))
    copies = find_copies_across(splits, exact=exact, near=near)
    COPIES_ACROSS.write(out / COPIES_FILE, copies)
    for warning in check_copies(copies, config=params.data.split):
        logger.warning(warning)


def watching_phases(params: Params) -> list[str]:
    """Phases that go by the error on validation, and so cannot do without it."""
    return [name for name, config in params.recipe.configs.items() if needs_validation(config)]


def review_store(params: Params, root: Path, *, splits: pl.DataFrame | None) -> Review:
    """Review the photo store of params.yaml's data, and its splits where they are made."""
    store = root / paths.photo_store(params.data.name)
    return make_review(
        pl.DataFrame(PHOTOS.read(store / PHOTOS_FILE)),
        load_quarantine(store),
        splits,
        class_names=load_store_info(store).class_names,
        split=params.data.split,
        config=params.data.review,
        evaluation_split=params.evaluation.split,
        validation_split=params.evaluation.validation_split,
        watched_by=watching_phases(params),
    )


def load_confusions(path: str) -> pl.DataFrame | None:
    """How often classes were taken for each other by a model, None where none is named."""
    if path == NO_FILE:
        return None
    columns = ["class", "mean_margin", "other_class"]
    found = find_table(Path(path), among=[OUT_OF_FOLD, LOSS_LOG])
    return count_confusions(pl.DataFrame(found.read(Path(path), columns)))


def main() -> None:
    """Write data/splits/<data>/: the review of the data, and the splits unless it stops here."""
    params = load_params()
    config, data = params.data.split, params.data.name
    store, out = Path(paths.photo_store(data)), Path(paths.split_folder(data))
    info, photos = load_store_info(store), pl.DataFrame(PHOTOS.read(store / PHOTOS_FILE))
    splits = None
    if not check_source(photos, load_quarantine(store), split=config, config=params.data.review):
        splits = make_splits(
            photos,
            class_names=info.class_names,
            coarse_of=info.coarse_of,
            config=config,
            seed=params.seed,
            confusion=load_confusions(config.noise.confusion_path),
        )
    review = review_store(params, Path(), splits=splits)
    save_review(review, out / REVIEW_FILE)
    print(describe_review(review, data=data, config=params.data.review), flush=True)
    refuse_stops(review, data=data)
    assert splits is not None  # where the source itself is refused, its review has stopped
    truth = make_truth(photos, class_names=info.class_names, config=config)
    save_splits(splits, out, truth=truth, class_names=info.class_names, coarse_of=info.coarse_of)
    judge_copies(params, splits, out=out)


if __name__ == "__main__":
    run_stage(main)
