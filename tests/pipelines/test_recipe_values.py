"""docs/recipes.md says of each value of a recipe where it is from, and of no other."""

import re
from typing import Literal

import pytest

from bench.recipe_values import (
    DOCUMENT,
    differing,
    make_section,
    read_sources,
    recipe_names,
    split_document,
)
from imaging.config import Config
from training.config.optimizers import OptimizerConfig, RangerConfig, SgdConfig


@pytest.fixture(scope="module")
def section() -> str:
    return split_document(DOCUMENT.read_text(encoding="utf-8"))[1]


def test_the_tables_hold_every_value_that_is_not_the_librarys_and_no_other(section: str) -> None:
    assert make_section(read_sources(section)) == section, "run: python -m bench.recipe_values"
    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == recipe_names()


def test_every_value_has_a_source(section: str) -> None:
    sources = read_sources(section)
    assert len(sources) > 100
    unknown = {place: source for place, source in sources.items() if not re.match("report|code|ours", source)}
    assert not unknown


def test_a_recipe_that_is_nobodys_report_is_ours(section: str) -> None:
    for (recipe, _, _), source in read_sources(section).items():
        assert recipe not in ("plain", "out_of_fold") or source.startswith("ours")


class Example(Config):
    name: Literal["example"] = "example"
    given: int
    optimizer: OptimizerConfig = SgdConfig()
    epochs: int = 10


def test_a_chosen_class_is_compared_with_its_own_defaults() -> None:
    assert dict(differing(Example(given=10, epochs=10))) == {"given": 10}
    changed = Example(given=1, optimizer=RangerConfig(lr=0.5), epochs=9)
    expected = {"given": 1, "optimizer.name": "ranger", "optimizer.lr": 0.5, "epochs": 9}
    assert dict(differing(changed)) == expected
