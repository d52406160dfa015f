"""A phase is the recipe's defaults and its own difference, and depends on nothing else of the recipe."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from aisle.composition import compose
from pipelines import paths, phases
from pipelines.code import digest_stage
from pipelines.params import Params, ParamsError, check_params
from pipelines.phases import describe_phase
from pipelines.resolution import resolve_phases
from pipelines.train import load_phase
from training.config.difference import merge_difference

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return compose(ROOT, overrides=["recipe=loss_guided", "size=paper"])


def refusal(composed: dict[str, Any], **recipe: Any) -> str:
    with pytest.raises(ParamsError) as error:
        check_params(composed | {"recipe": composed["recipe"] | recipe}, where="params.yaml")
    return str(error.value)


def test_a_difference_is_laid_over_the_defaults_key_by_key() -> None:
    defaults = {"epochs": 5, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}, "freeze": ["a", "b"]}
    difference = {"optimizer": {"lr": 0.2}, "freeze": ["c"], "loss": {"name": "focal"}}
    assert merge_difference(defaults, difference) == {
        "epochs": 5, "optimizer": {"name": "sgd", "lr": 0.2, "momentum": 0.5}, "freeze": ["c"],
        "loss": {"name": "focal"},
    }  # fmt: skip


def test_another_choice_keeps_no_key_of_the_defaults() -> None:
    defaults = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.5}}
    for name, merged in (("adam", {"name": "adam"}), ("sgd", defaults["optimizer"])):
        assert merge_difference(defaults, {"optimizer": {"name": name}})["optimizer"] == merged


def test_a_phase_has_the_backbone_that_its_chain_begins_at() -> None:
    wired = {"a": {"init": "w"}, "b": {"init": "a"}, "lost": {"init": "nowhere"}, "c": {"init": "d"}}
    recipe = {"defaults": {}, "weights": {"w": {"backbone": "x"}}, "phases": wired | {"d": {"init": "c"}}}
    backbones = {name: phase["backbone"] for name, phase in resolve_phases(recipe).items()}
    assert backbones == {"a": "x", "b": "x", "lost": "", "c": "", "d": ""}


@pytest.mark.parametrize("values", [{}, {"phases": 3}, {"phases": {"a": 3}, "defaults": [], "weights": None}])
def test_what_is_no_recipe_is_left_to_the_checks(composed: dict[str, Any], values: dict[str, Any]) -> None:
    assert resolve_phases(values) == {}
    assert "recipe." in refusal(composed, **{"phases": 3, "defaults": 4, **values})


def test_a_wrong_default_is_named_once_and_a_phases_own_value_where_it_is(composed: dict[str, Any]) -> None:
    recipe = copy.deepcopy(composed["recipe"])
    recipe["defaults"]["optimizer"]["lr"] = -1
    recipe["defaults"]["epoch"] = 3
    recipe["phases"]["record"]["schedule"]["warmup"] = 1
    said = refusal(composed, **recipe).splitlines()
    assert said[0] == "params.yaml cannot be run (3 problems):"
    assert sorted(line.split(":")[0].strip() for line in said[1:]) == [
        "recipe.defaults.epoch", "recipe.defaults.optimizer.lr", "recipe.phases.record.schedule.warmup",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "difference", "said"),
    [
        (
            "converge_a",
            {"init": "refined_2a", "teacher": "refined_2a"},
            "converge_a from refined_2a from refined",
        ),
        ("record", {"teacher": "pretrained"}, "record.teacher: expected init again ('converge_a')"),
        (
            "record",
            {"objective": {"name": "distillation"}, "teacher": "pretrained"},
            "weights without classes",
        ),
        ("record", {"backbone": "resnet18"}, "recipe.phases.record: expected no backbone"),
    ],
)
def test_phases_that_cannot_be_wired_are_refused(
    composed: dict[str, Any], phase: str, difference: dict[str, Any], said: str
) -> None:
    named = composed["recipe"]["phases"]
    assert said in refusal(composed, phases=named | {phase: named[phase] | difference})


@pytest.mark.parametrize("key", ["list", "init", "backbone", "configs"])
def test_what_no_two_phases_share_is_no_default(composed: dict[str, Any], key: str) -> None:
    recipe = composed["recipe"]
    said = refusal(
        composed, **({key: {}} if key == "configs" else {"defaults": {**recipe["defaults"], key: "x"}})
    )
    assert key in said.splitlines()[1]


def test_the_stage_writes_each_phase_whole_and_forgets_those_of_other_recipes(
    composed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe in (compose(ROOT, overrides=["recipe=plain"]), composed):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        phases.main()
    configs = Params.model_validate(composed).recipe.configs
    assert {path.stem for path in (tmp_path / "data/phases").iterdir()} == set(configs)
    assert {name: load_phase(name) for name in configs} == configs


def test_a_change_touches_the_files_of_the_phases_that_it_changes(
    composed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(recipe: dict[str, Any]) -> dict[str, bytes]:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(composed | {"recipe": recipe}), encoding="utf-8")
        phases.main()
        return {name: (tmp_path / paths.phase_config(name)).read_bytes() for name in recipe["phases"]}

    monkeypatch.chdir(tmp_path)
    recipe, before = copy.deepcopy(composed["recipe"]), written(composed["recipe"])
    recipe["defaults"]["epochs"] = 7  # which stages 2 and 3 override
    after = written(recipe)
    assert {name for name in before if before[name] != after[name]} == {f"converge_{seed}" for seed in "abc"}


def test_how_phases_are_resolved_is_no_code_of_training() -> None:
    trained_by, resolved_by = digest_stage(ROOT, "train"), digest_stage(ROOT, "phases")
    for module in ("pipelines.phases", "pipelines.resolution", "training.config.difference"):
        assert module in resolved_by
        assert module not in trained_by


def test_a_phase_is_shown_with_where_each_value_is_from(composed: dict[str, Any]) -> None:
    recipe = Params.model_validate(composed).recipe
    shown = {line.split()[0]: line.split()[1:] for line in describe_phase(recipe, "refined_2b")}
    assert shown["list"] == ["low_loss_2", "phase"]
    assert shown["backbone"] == ["resnest101e", "weights", "pretrained"]
    assert shown["optimizer.lr"] == ["0.0001", "defaults"]
    assert shown["loss.smoothing"] == ["0.2", "phase"]
    assert shown["loss.class_weights"] == ["none", "library"]
    with pytest.raises(ValueError, match="received 'refined_z'"):
        describe_phase(recipe, "refined_z")


def test_a_phase_that_is_not_resolved_yet_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="dvc repro phases"):
        load_phase("plain")
