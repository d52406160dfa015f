"""Stage `lists`: one list made by a rule from the splits."""

from pathlib import Path

from catalog.list_rules import make_list
from catalog.lists import save_list
from catalog.splits import load_splits
from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage


def main(name: str) -> None:
    """Write data/lists/<data>/<name>.parquet."""
    params = load_params()
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    made = make_list(splits, config=params.recipe.lists[name], seed=params.seed)
    save_list(made, Path(paths.list_file(params.data.name, name)))
    print(f"{name}: {made.height:,} photos of {made['class'].n_unique():,} classes")


if __name__ == "__main__":
    run_stage(main)
