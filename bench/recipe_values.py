"""Which values of a recipe are not the library's, and where is each from?

    python -m bench.recipe_values

rewrites the tables under "Values and their sources" in docs/recipes.md: a line for each value of a recipe at
full size that differs from the default of its configuration class, or has none. Sources are written by hand
there, in the last column, and kept; a value that is new gets `?`, on which a test fails. Where a phase starts
and what teaches it is the graph of the recipe and left out.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from aisle.composition import compose
from imaging.config import Config
from pipelines.params import Params
from pipelines.params_recipe import RecipeParams

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/recipes.md"
HEADING = "## Values and their sources\n"
COLUMNS = "| key | value | where | source |\n|---|---|---|---|\n"
UNKNOWN = "?"


class Value(NamedTuple):
    """A line of a table without its source."""

    key: str
    value: str
    where: str


def differing(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of a configuration that are not the defaults of its class.

    Where a key's `name` chooses another class than the default, the name is one, and the others are compared
    with the chosen class's own.
    """
    for key, field in type(config).model_fields.items():
        value, default = getattr(config, key), field.get_default(call_default_factory=True)
        if isinstance(value, Config):
            if type(value) is not type(default):
                yield f"{key}.name", value.name  # type: ignore[attr-defined]
            yield from ((f"{key}.{inner}", found) for inner, found in differing(value))
        elif value != default:
            yield key, value


def values_of(recipe: RecipeParams) -> list[Value]:
    """The lines of a recipe's table; equal values of several phases, lists or refinements are one."""
    found: dict[tuple[str, str], list[str]] = {}
    tables: dict[str, Mapping[str, Any]] = {"phases": recipe.configs, "lists": recipe.lists}
    tables |= {"refinements": recipe.refinements, "predictions": recipe.predictions}
    for kind, configs in tables.items():
        for name, config in configs.items():
            chosen = [("rule", config.rule)] if hasattr(config, "rule") else []
            if kind == "phases":
                chosen = [("list", recipe.phases[name].list)]
            for key, value in [*chosen, *differing(config)]:
                found.setdefault((f"{kind}.{key}", show(value)), []).append(name)
    names = {kind: list(configs) for kind, configs in tables.items()}
    lines = [
        Value(key, value, "all" if where == names[key.split(".")[0]] else ", ".join(where))
        for (key, value), where in found.items()
    ]
    return [
        *lines,
        *(Value(f"ensemble.{key}", show(value), "all") for key, value in differing(recipe.ensemble)),
    ]


def show(value: Any) -> str:
    """A value as the table has it; lists by their names, not their paths."""
    if isinstance(value, str):
        return PurePosixPath(value).stem if value.startswith("data/lists/") else value
    if isinstance(value, Sequence):
        return ", ".join(map(show, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {show(inner)}" for key, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if value is None else str(value)


def recipe_names() -> list[str]:
    """The recipes of conf/, the four reports' first."""
    reports = ["bsce", "loss_guided", "winner", "rebalanced"]
    found = sorted(path.stem for path in (ROOT / "conf/recipe").glob("*.yaml"))
    return [*reports, *(name for name in found if name not in reports)]


def make_section(sources: dict[tuple[str, str, str], str]) -> str:
    """All tables, with the source of each (recipe, key, value)."""
    parts = []
    for name in recipe_names():
        composed = compose(ROOT, overrides=[f"recipe={name}", "data=aliproducts", "size=paper"])
        rows = values_of(Params.model_validate(composed).recipe)
        lines = [
            f"| `{row.key}` | {row.value} | {row.where} | "
            f"{sources.get((name, row.key, row.value), UNKNOWN)} |\n"
            for row in rows
        ]
        parts.append(f"\n### {name}\n\n{COLUMNS}{''.join(lines)}")
    return "".join(parts)


def read_sources(section: str) -> dict[tuple[str, str, str], str]:
    """The source of each (recipe, key, value) that the tables have."""
    sources = {}
    for part in re.split(r"^### ", section, flags=re.MULTILINE)[1:]:
        name = part.split("\n", 1)[0]
        for key, value, source in re.findall(
            r"^\| `(.+?)` \| (.*?) \| .*? ?\| (.*?) \|$", part, re.MULTILINE
        ):
            sources[name, key, value] = source
    return sources


def split_document(text: str) -> tuple[str, str, str]:
    """What stands before the first table, the tables, and what stands behind them."""
    before, heading, rest = text.partition(HEADING)
    words, mark, tables = rest.partition("\n### ")
    tables, more, after = tables.partition("\n## ")
    return f"{before}{heading}{words}", f"{mark}{tables}", f"{more}{after}"


def main() -> None:
    """Rewrite the tables."""
    before, section, after = split_document(DOCUMENT.read_text(encoding="utf-8"))
    made = make_section(read_sources(section))
    DOCUMENT.write_text(f"{before}{made}{after}", encoding="utf-8")
    print(f"{made.count(f'| {UNKNOWN} |')} values without a source in {DOCUMENT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
