"""Stage `explore`: one report of photos, lists and refinement rounds, for DVC's plots and for MLflow."""

import shutil
from pathlib import Path

import polars as pl

from catalog.duplicates import load_duplicates
from catalog.explore.report import PLOTS_DIR, REPORT_FILE, explore
from catalog.explore.rounds import Round
from catalog.lists import load_list
from catalog.photo_store import PHOTOS_FILE, PhotoStore
from catalog.quarantine import load_quarantine
from catalog.refinement.evidence import RefinementByScore, load_scores
from catalog.splits import load_class_names, load_splits, load_truth
from contracts.photos import PHOTOS
from pipelines import paths
from pipelines.params import Params, load_params
from pipelines.recording import log_exploration
from pipelines.stage import run_stage


def load_rounds(params: Params, *, splits: pl.DataFrame) -> list[Round]:
    """The refinements whose rule judges each photo by a number, with the list before and after."""
    return [
        Round(
            name=name,
            before=load_list(Path(rule.base), splits=splits),
            after=load_list(Path(paths.list_file(params.data.name, name))),
            evidence=load_scores(Path(rule.evidence), members=rule.members),
        )
        for name, rule in params.recipe.refinements.items()
        if isinstance(rule, RefinementByScore)
    ]


def main() -> None:
    """Write data/exploration/<recipe>/: report.html and plots/."""
    params = load_params()
    data, recipe = params.data.name, params.recipe
    store, splits = Path(paths.photo_store(data)), Path(paths.split_folder(data))
    table = load_splits(splits)
    class_names, coarse_names = load_class_names(splits)
    exact, near = load_duplicates(Path(paths.duplicates_folder(data)))
    names = (*recipe.lists, *recipe.refinements)
    folder = Path(paths.exploration_folder(recipe.name))
    shutil.rmtree(folder, ignore_errors=True)
    report = explore(
        folder,
        title=f"{data}, recipe {recipe.name}",
        store=PhotoStore(store),
        photos=pl.DataFrame(PHOTOS.read(store / PHOTOS_FILE)),
        quarantine=load_quarantine(store),
        splits=table,
        class_names=class_names,
        coarse_names=coarse_names,
        exact=exact,
        near=near,
        lists={name: load_list(Path(paths.list_file(data, name))) for name in names},
        rounds=load_rounds(params, splits=table),
        truth=load_truth(splits),
    )
    log_exploration(params, folder / REPORT_FILE, folder / PLOTS_DIR)
    print(f"{report}: open it in a browser, or with the artifacts of the pipeline's run in MLflow")


if __name__ == "__main__":
    run_stage(main)
