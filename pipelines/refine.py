"""Stage `refine`: one refinement list made from a phase's loss log."""

from pathlib import Path

import polars as pl

from catalog.lists import save_list
from catalog.refinement import refine
from catalog.splits import load_class_names
from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage


def main(name: str) -> None:
    """Write data/lists/<data>/<name>.parquet."""
    params = load_params()
    config = params.recipe.refinements[name]
    class_names, _ = load_class_names(Path(paths.split_folder(params.data.name)))
    loss_log = pl.read_parquet(config.loss_log)
    made = refine(loss_log, num_classes=len(class_names), config=config)
    save_list(made, Path(paths.list_file(params.data.name, name)))
    print(f"{name}: {made.height:,} of {loss_log.height:,} photos kept, {made['class'].n_unique():,} classes")


if __name__ == "__main__":
    run_stage(main)
