"""Each recipe for real, small: from the challenge's layout through one `dvc repro` to a registered ensemble.

loss_guided goes the same way in test_whole_way.py, with what comes after it.
"""

import json
import re
from pathlib import Path

import polars as pl
import pytest
import yaml

from bench.shrunken import NUM_TEST, NUM_VAL, make_photos, shrink
from tests.project import Project, copy_checkout

pytestmark = pytest.mark.e2e

NUM_MEMBERS = {"plain": 1, "bsce": 3, "rebalanced": 1, "out_of_fold": 1, "winner": 11}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Project:
    folder = tmp_path_factory.mktemp("recipes")
    make_photos(folder / "photos")
    return copy_checkout(folder / "aisle", python_folder=python_folder)


def use(project: Project, recipe: str, *choices: str) -> None:
    photos = f"data.root={project.folder.parent / 'photos'}"
    project.run("python", "-m", "aisle", "use", *shrink(f"recipe={recipe}"), photos, *choices)


def read_metrics(project: Project, recipe: str) -> dict:
    return json.loads(
        (project.folder / f"data/evaluations/{recipe}/metrics.json").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize("recipe", NUM_MEMBERS)
def test_a_recipe_runs_from_photos_to_a_challenger(project: Project, recipe: str) -> None:
    use(project, recipe)
    said = project.run("dvc", "repro", "register")
    assert f"{recipe} registered as product-recognizer-aliproducts version" in said
    metrics = read_metrics(project, recipe)
    assert metrics["num_photos"] == NUM_VAL * 6
    assert len(metrics["members"]) == NUM_MEMBERS[recipe]
    for errors in (metrics["ensemble"], *metrics["members"].values()):
        assert 0 <= errors["mean_top1_error"] <= 1
    params = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    for phase in params["recipe"]["phases"]:
        assert (project.folder / f"runs/{phase}/bundle/weights.safetensors").is_file()


def test_a_participant_without_an_evaluation_split_gets_a_submission(
    project: Project, tmp_path: Path
) -> None:
    watch_val = ("data.evaluation_split=null", "data.validation_split=val", "data.split.holdout_share=0")
    use(project, "plain", *watch_val)
    said = project.run("dvc", "repro")
    assert "nothing is evaluated" in said
    assert "It has no errors, because evaluation.split is null" in said
    assert read_metrics(project, "plain")["ensemble"] == {}
    submission = tmp_path / "submission.csv"
    options = ("--out", f"{tmp_path / 'test.parquet'}", "--submission", f"{submission}")
    project.run("python", "-m", "aisle", "predict", "--split", "test", *options)
    assert pl.read_parquet(tmp_path / "test.parquet").height == NUM_TEST
    rows = submission.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "id,predicted"
    assert [row.split(",")[0] for row in rows[1:]] == [f"{number}.jpg" for number in range(NUM_TEST)]
    assert re.findall(r"Running stage '(.+)'", project.run("dvc", "repro")) == ["source"]
