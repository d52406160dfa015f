"""params.yaml: what conf/ composes can be run, and what cannot be run is named key by key."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from aisle.composition import HEADER, compose, hand_edits, use
from pipelines.params import ParamsError, check_params, load_params, make_schema

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return compose(ROOT, overrides=[])


def write(folder: Path, params: dict[str, Any]) -> Path:
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return folder


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.mark.parametrize("recipe", choices("recipe"))
@pytest.mark.parametrize("size", choices("size"))
def test_every_recipe_can_be_run_at_every_size(tmp_path: Path, recipe: str, size: str) -> None:
    data = "aliproducts" if size == "paper" else "synthetic"
    params = compose(ROOT, overrides=[f"recipe={recipe}", f"size={size}", f"data={data}"])
    loaded = load_params(write(tmp_path, params))
    assert (loaded.recipe.name, loaded.size.name) == (recipe, size)


@pytest.mark.parametrize("data", choices("data"))
def test_all_data_can_be_chosen(tmp_path: Path, data: str) -> None:
    loaded = load_params(write(tmp_path, compose(ROOT, overrides=[f"data={data}"])))
    assert loaded.data.name == data


def test_an_unknown_key_is_named_with_its_place(tmp_path: Path, composed: dict[str, Any]) -> None:
    params = copy.deepcopy(composed)
    params["recipe"]["phases"]["record"]["optimizer"]["learning_rate"] = 0.1
    with pytest.raises(ParamsError, match=r"recipe\.phases\.record\.optimizer\.learning_rate: no such key"):
        load_params(write(tmp_path, params))


def test_an_unknown_choice_is_refused_with_the_choices(tmp_path: Path, composed: dict[str, Any]) -> None:
    params = copy.deepcopy(composed)
    params["recipe"]["ensemble"]["merge"] = "mean"
    with pytest.raises(ParamsError, match=r"recipe\.ensemble\.merge: .*'logits', 'probabilities' or 'vote'"):
        load_params(write(tmp_path, params))


def test_a_list_that_no_stage_makes_is_refused_with_a_near_match(
    tmp_path: Path, composed: dict[str, Any]
) -> None:
    params = copy.deepcopy(composed)
    params["recipe"]["phases"]["record"]["list"] = "ful"
    with pytest.raises(ParamsError, match=r"recipe\.phases\.record\.list: .*did you mean 'full'"):
        load_params(write(tmp_path, params))


def test_a_member_of_an_unknown_phase_is_refused(tmp_path: Path, composed: dict[str, Any]) -> None:
    params = copy.deepcopy(composed)
    params["recipe"]["members"][0] = "refined_z"
    with pytest.raises(ParamsError, match=r"recipe\.members: .*did you mean 'refined_"):
        load_params(write(tmp_path, params))


def test_errors_are_never_reported_on_the_split_that_training_watches(
    tmp_path: Path, composed: dict[str, Any]
) -> None:
    params = copy.deepcopy(composed)
    params["evaluation"]["validation_split"] = params["evaluation"]["split"]
    with pytest.raises(ParamsError, match=r"evaluation\.validation_split"):
        load_params(write(tmp_path, params))


def test_several_problems_are_all_listed(tmp_path: Path, composed: dict[str, Any]) -> None:
    params = copy.deepcopy(composed)
    params["seed"] = "often"
    del params["data"]["watch"]
    with pytest.raises(ParamsError, match=r"2 problems") as error:
        load_params(write(tmp_path, params))
    assert "data.watch: this key is missing" in str(error.value)
    assert "seed" in str(error.value)


def test_missing_params_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="aisle use"):
        load_params(tmp_path)


def test_the_committed_params_are_the_default_composition(composed: dict[str, Any]) -> None:
    shown = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, check=True)
    assert yaml.safe_load(shown.stdout) == composed


def test_the_committed_schema_is_current() -> None:
    assert (ROOT / "conf/params.schema.json").read_text(encoding="utf-8") == make_schema(), (
        "run: aisle schema"
    )


def test_the_schema_explains_a_key_in_words_and_repeats_no_name_as_a_title() -> None:
    defs = json.loads(make_schema())["$defs"]
    assert "timm" in defs["WeightsParams"]["properties"]["backbone"]["description"]
    assert "pixels" in defs["PhaseParams"]["properties"]["input_size"]["description"]
    assert make_schema().count('"title"') == 1
    assert json.loads(make_schema())["title"] == "Aisle's params.yaml"


def test_the_editors_line_of_params_names_the_schema() -> None:
    assert (ROOT / "params.yaml").read_text(encoding="utf-8").startswith(HEADER)
    assert (ROOT / HEADER.partition("$schema=")[2].strip()).exists()


def test_an_edit_by_hand_is_found_and_gone_after_use(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    params = use(tmp_path, overrides=["recipe=plain"])
    assert hand_edits(tmp_path) == []
    params["recipe"]["phases"]["plain"]["epochs"] = 99
    assert "recipe.phases.plain.epochs: conf/ says" in hand_edits(write(tmp_path, params))[0]
    use(tmp_path, overrides=["recipe=plain"])
    assert hand_edits(tmp_path) == []


def test_choices_that_cannot_be_run_leave_params_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    use(tmp_path, overrides=["recipe=plain"])
    before = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(ParamsError, match=r"What recipe=bsce seed=-1 composes cannot be run(.|\n)*seed"):
        use(tmp_path, overrides=["recipe=bsce", "seed=-1"])
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == before


def test_a_choice_that_conf_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loss_guided"):
        compose(ROOT, overrides=["recipe=loss_giuded"])


def test_a_key_of_another_rule_is_named_with_its_place(tmp_path: Path, composed: dict[str, Any]) -> None:
    params = copy.deepcopy(composed)
    params["recipe"]["refinements"]["low_loss"]["min_margin"] = 0.0
    with pytest.raises(ParamsError, match=r"recipe\.refinements\.low_loss\.min_margin: no such key"):
        load_params(write(tmp_path, params))


@pytest.mark.parametrize(
    ("kind", "name", "known"), [("lists", "full", "'head_limit'"), ("refinements", "low_loss", "'aum'")]
)
def test_an_unknown_rule_is_refused_with_the_rules(
    tmp_path: Path, composed: dict[str, Any], kind: str, name: str, known: str
) -> None:
    params = copy.deepcopy(composed)
    params["recipe"][kind][name]["rule"] = "highest"
    with pytest.raises(
        ParamsError, match=rf"recipe\.{kind}\.{name}\.rule: expected .*{known}.*received 'highest'"
    ):
        load_params(write(tmp_path, params))


def test_evidence_that_no_stage_makes_is_refused_with_a_near_match(
    tmp_path: Path, composed: dict[str, Any]
) -> None:
    params = copy.deepcopy(composed)
    params["recipe"]["refinements"]["low_loss"]["evidence"] = "runs/recrd/loss_log.parquet"
    with pytest.raises(
        ParamsError, match=r"low_loss\.evidence: .*did you mean 'runs/record/loss_log\.parquet'"
    ):
        load_params(write(tmp_path, params))


def test_an_unknown_layout_is_refused_with_a_near_match(tmp_path: Path, composed: dict[str, Any]) -> None:
    params = copy.deepcopy(composed)
    params["data"]["layout"] = "tabel"
    with pytest.raises(ParamsError, match=r"data\.layout: .*did you mean 'table'"):
        load_params(write(tmp_path, params))


WRONG_NAMES = [
    "my phase", "plain; touch pwned", "a.b", "a@b", "../up", "-x", "_x", "", "a'b", "$(x)", "caf\u00e9",
    "a\n", "a\nb", "x" * 65, "con", "LPT1", "1", "1e5", "0o7", "true", "2024-01-01",
]  # fmt: skip


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_name_that_is_no_path_key_and_command_word_is_refused(composed: dict[str, Any], name: str) -> None:
    for kind in ("lists", "predictions", "refinements", "phases", "members"):
        known = composed["recipe"][kind]
        named = [*known, name] if kind == "members" else {**known, name: {}}
        params = {**composed, "recipe": {**composed["recipe"], kind: named}}
        with pytest.raises(ParamsError) as error:
            check_params(params, where="params.yaml")
        place = f"members[{len(known)}]" if kind == "members" else kind
        assert f"recipe.{place}: expected a name" in str(error.value)
    for group in ("data", "recipe", "size"):
        params = {**composed, group: {**composed[group], "name": name}}
        with pytest.raises(ParamsError, match=rf"{group}\.name: expected a name"):
            check_params(params, where="params.yaml")


def test_names_that_differ_in_case_alone_are_refused_also_of_a_list_and_a_refinement(
    tmp_path: Path, composed: dict[str, Any]
) -> None:
    recipe, members = composed["recipe"], composed["recipe"]["members"]
    for kind, named, first in (
        ("members", [*members, "Refined_2A"], "refined_2a"),
        ("lists", {**recipe["lists"], "LOW_LOSS": recipe["lists"]["full"]}, "low_loss"),
    ):
        params = composed | {"recipe": {**recipe, kind: named}}
        with pytest.raises(ParamsError, match=rf"differ in more than case, received .*{first}"):
            load_params(write(tmp_path, params))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["recipe=winner", "size=paper", "data.storage.max_side=256"],
            r"expected 512 pixels or more, since recipe\.phases\.dcl_\w+\.resize .* received 256",
        ),
        (
            ["recipe=bsce", "size=paper", "data.storage.max_side=512"],
            r"expected 583 .* since recipe\.ensemble\.views \(scales\) for member resnest269 .* received 512",
        ),
        (
            ["recipe=plain", "data.storage.max_side=100", "recipe.ensemble.views=[center,top_left_101]"],
            r"expected 101 .*Set data\.storage\.max_side=101",
        ),
    ],
)
def test_crops_larger_than_what_the_store_keeps_are_refused_with_the_size_they_need(
    tmp_path: Path, overrides: list[str], said: str
) -> None:
    params = compose(ROOT, overrides=["data=aliproducts", *overrides])
    with pytest.raises(ParamsError, match=said):
        load_params(write(tmp_path, params))


def test_crops_as_large_as_what_the_store_keeps_can_be_run(tmp_path: Path) -> None:
    overrides = ["recipe=plain", "data.storage.max_side=100", "recipe.ensemble.views=[center_100]"]
    assert load_params(write(tmp_path, compose(ROOT, overrides=overrides))).data.storage.max_side == 100
