"""The stages write where dvc.yaml says that they write."""

import re
from pathlib import Path

import pytest
import yaml

from catalog.explore.report import PLOTS_DIR, REPORT_FILE
from pipelines import paths
from pipelines.code import STAGES
from pipelines.stage import stage_arguments

STAGES_OF_DVC = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def places(stage: str, kind: str) -> list[str]:
    body = STAGES_OF_DVC[stage].get("do", STAGES_OF_DVC[stage])
    names = [next(iter(place)) if isinstance(place, dict) else place for place in body.get(kind, [])]
    variables = {"data.name": "D", "recipe.name": "R", "key": "K", "item": "K", "item.phase": "P"}
    for variable, value in variables.items():
        names = [name.replace(f"${{{variable}}}", value) for name in names]
    return names


def test_every_stage_but_register_depends_on_the_digest_of_its_own_code() -> None:
    for stage in STAGES:
        assert paths.code_digest(stage) in places(stage, "deps"), stage
    assert set(STAGES_OF_DVC) - set(STAGES) == {"code", "register"}


def test_outs_lie_where_the_stages_write_them() -> None:
    assert places("source", "outs") == [paths.source_file("D")]
    assert places("ingest", "outs") == [paths.photo_store("D")]
    assert places("duplicates", "outs") == [paths.duplicates_folder("D")]
    assert places("predict", "outs") == [paths.out_of_fold_file("R", "K")]
    assert places("explore", "outs") == [f"{paths.exploration_folder('R')}/{REPORT_FILE}"]
    assert places("explore", "plots") == [f"{paths.exploration_folder('R')}/{PLOTS_DIR}"]
    assert places("phases", "outs") == [str(Path(paths.phase_config("K")).parent)]
    assert paths.phase_config("K") in places("train", "deps")
    assert places("split", "outs") == [paths.split_folder("D")]
    assert places("lists", "outs") == places("refine", "outs") == [paths.list_file("D", "K")]
    assert places("weights", "outs") == [paths.phase_bundle("K")]
    assert places("train", "outs") == [paths.phase_bundle("K"), paths.loss_log("K")]
    assert places("train", "plots") == [paths.history("K")]
    assert places("embed", "outs") == [paths.feature_bank("R", "K")]
    assert places("ensemble", "outs") == [paths.ensemble_bundle("R")]
    folder = paths.evaluation_folder("R")
    assert places("evaluate", "outs") == [str(folder / "predictions.parquet")]
    assert places("evaluate", "metrics") == [str(folder / "metrics.json")]


def test_consumers_depend_on_a_phase_by_its_bundle_never_on_its_folder() -> None:
    assert paths.phase_bundle("P") in places("predict", "deps")
    assert paths.phase_bundle("K") in places("embed", "deps")
    for stage in STAGES_OF_DVC:
        assert "runs/K" not in places(stage, "deps")
        assert "runs/P" not in places(stage, "deps")


def test_no_value_of_params_reaches_a_shell() -> None:
    bodies = [stage.get("do", stage) for stage in STAGES_OF_DVC.values()]
    assert not [body["cmd"] for body in bodies if not re.fullmatch(r"python -m [a-z_.]+", body["cmd"])]


def test_a_stage_of_many_names_finds_its_own_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["pipelines/train.py"])
    for address, names in (
        ("train@plain", ["plain"]),
        ("../dvc.yaml:train@plain", ["plain"]),
        ("split", []),
        ("train@plain; touch x", ["plain; touch x"]),
    ):
        monkeypatch.setenv("DVC_STAGE", address)
        assert stage_arguments() == names
    monkeypatch.setattr("sys.argv", ["pipelines/train.py", "other"])
    assert stage_arguments() == ["other"]


def test_every_stage_comes_after_the_check_of_params() -> None:
    assert "params.yaml" in places("code", "deps")


def test_ingest_depends_on_the_source_by_its_digest_and_its_root() -> None:
    assert STAGES_OF_DVC["source"]["always_changed"] is True
    assert STAGES_OF_DVC["source"]["outs"] == [{"data/sources/${data.name}.json": {"persist": True}}]
    assert paths.source_file("D") in places("ingest", "deps")
    assert "data.root" in STAGES_OF_DVC["ingest"]["params"]


def test_ingest_finds_its_store_as_it_left_it() -> None:
    out = STAGES_OF_DVC["ingest"]["outs"][0]
    assert out == {"data/photos/${data.name}": {"persist": True}}
