"""Stage `ensemble`: the members' bundles as one."""

from pathlib import Path

from pipelines import paths
from pipelines.params import load_params
from pipelines.stage import run_stage
from recognition.bundle import make_ensemble


def main() -> None:
    """Write data/ensembles/<recipe>/."""
    recipe = load_params().recipe
    members = {name: Path(paths.feature_bank(recipe.name, name)) / "bundle" for name in recipe.members}
    make_ensemble(
        Path(paths.ensemble_bundle(recipe.name)),
        members=members,
        recipe=recipe.name,
        merge=recipe.ensemble.merge,
        views=recipe.ensemble.views,
    )
    print(
        f"{recipe.name}: {len(members)} member{'s' * (len(members) > 1)}, merged by {recipe.ensemble.merge}"
    )


if __name__ == "__main__":
    run_stage(main)
