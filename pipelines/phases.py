"""Stage `phases`: each phase's complete, checked configuration, from the defaults and its own values.

DVC sees only what a stage names. Were `train` to name the defaults among its parameters, changing one would
train all phases again, those that override it, too; so this stage writes data/phases/<name>.json, and a phase
depends on its own file. See docs/decisions/013-recipes-as-differences.md.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imaging.atomic_write import write_text
from pipelines import paths
from pipelines.params import load_params
from pipelines.params_recipe import RecipeParams
from pipelines.resolution import has_path, says_it_itself
from pipelines.stage import run_stage
from training.config import PhaseConfig


def save_phase(root: Path, name: str, *, config: PhaseConfig) -> None:
    """Write a configuration that the stage `train` reads back equal."""
    text = json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False)
    write_text(root / paths.phase_config(name), text + "\n")


def describe_phase(recipe: RecipeParams, name: str) -> list[str]:
    """A line for each value of a phase, with where it is from: the phase, the defaults or the library."""
    if name not in recipe.phases:
        raise ValueError(f"Expected one of the phases {', '.join(recipe.phases)}, received {name!r}.")
    wiring = recipe.phases[name]
    said = {"list": wiring.list, "init": wiring.init, "teacher": wiring.teacher}
    lines = [(key, value, "phase") for key, value in said.items()]
    given = recipe.model_dump(include={"defaults", "phases"})
    for path, value in _leaves(recipe.configs[name].model_dump(mode="json")):
        key = ".".join(path)
        own = says_it_itself(given, phase=name, path=path)
        place = (
            ("phase" if own else "defaults")
            if has_path(given["phases"][name] if own else given["defaults"], path)
            else "library"
        )
        lines.append((key, value, f"weights {recipe.first_weights(name)}" if key == "backbone" else place))
    widths = [max(len(str(line[column])) for line in lines) for column in (0, 1)]
    return [f"{key:{widths[0]}}  {value!s:{widths[1]}}  {place}" for key, value, place in lines]


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def main() -> None:
    """Write data/phases/<name>.json for each phase of the recipe."""
    recipe = load_params().recipe
    folder = Path(paths.phase_config("any")).parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, config in recipe.configs.items():
        save_phase(Path(), name, config=config)


if __name__ == "__main__":
    run_stage(main)
