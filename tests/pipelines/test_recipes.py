"""Every setting that docs/recipes.md names for a row composes to an experiment that can run."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines.composition import compose
from pipelines.params import Params

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| (.+?) \|.*?\| `(recipe=[^`]+)`", (ROOT / "docs/recipes.md").read_text(), re.MULTILINE)


def test_the_table_has_the_rows_of_all_four_reports() -> None:
    assert len(ROWS) > 50
    for recipe in ("bsce", "loss_guided", "winner", "rebalanced"):
        assert any(setting.startswith(f"recipe={recipe}") for _, setting in ROWS)


@pytest.mark.parametrize("setting", [pytest.param(setting, id=row) for row, setting in ROWS])
def test_the_setting_of_a_row_can_run(setting: str) -> None:
    params = compose(ROOT, overrides=["data=aliproducts", "size=paper", *shlex.split(setting)])
    Params.model_validate(params)
