"""Stage `refine`: one list made from another list and evidence about its photos."""

from pathlib import Path

from catalog.lists import load_list, save_list
from catalog.refinement import load_evidence, refine
from catalog.splits import load_class_names, load_splits
from pipelines import paths
from pipelines.params import load_params
from pipelines.paths import NO_FILE
from pipelines.stage import run_stage


def main(name: str) -> None:
    """Write data/lists/<data>/<name>.parquet."""
    params = load_params()
    rule = params.recipe.refinements[name]
    class_names, _ = load_class_names(Path(paths.split_folder(params.data.name)))
    splits = load_splits(Path(paths.split_folder(params.data.name)))
    base = None if rule.base == NO_FILE else load_list(Path(rule.base), splits=splits)
    evidence = load_evidence(rule, root=Path(), splits=splits)
    made = refine(rule, base=base, evidence=evidence, num_classes=len(class_names))
    save_list(made, Path(paths.list_file(params.data.name, name)))
    of = "" if base is None else f" of {base.height:,}"
    print(f"{name}: {made.height:,}{of} photos kept, {made['class'].n_unique():,} classes")


if __name__ == "__main__":
    run_stage(main)
