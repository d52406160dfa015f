"""The stage `weights` and what params.yaml may say of it."""

import logging
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from aisle.composition import compose
from pipelines.params import Params, ParamsError, check_params
from pipelines.params_recipe import WeightsParams
from pipelines.weights import warn_of_licences, write_weights
from recognition.bundle import load_member_config, load_weights_config
from recognition.initial_weights import WeightsError
from tests.tracking.tiny_bundle import make_bundle

ROOT = Path(__file__).parents[2]
NOTHING = "conf/nothing.yaml"


def entry(**values: Any) -> WeightsParams:
    return WeightsParams(**{"backbone": "test_resnet", "path": NOTHING, **values})


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return compose(ROOT, overrides=["recipe=plain", "data=synthetic", "size=tiny"])


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_auto_takes_a_package_where_the_cache_is_empty(tmp_path: Path, offline: None) -> None:
    write_weights(tmp_path / "b", name="p", entry=entry(backbone="tf_efficientnet_lite0"))
    config = load_weights_config(tmp_path / "b")
    assert config.initial_weights.source.startswith("package efficientnet-lite0")
    assert "classifier.weight" not in load_file(tmp_path / "b/weights.safetensors")


def test_a_file_gives_its_weights_name_and_hash_and_no_path(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", num_classes=7).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    mine = entry(source="file", path=str(tmp_path / "mine.safetensors"), licence="mit")
    write_weights(tmp_path / "b", name="p", entry=mine)
    config = load_weights_config(tmp_path / "b")
    assert config.initial_weights.source == "file mine.safetensors"
    assert config.initial_weights.licence == "mit"
    assert str(tmp_path) not in (tmp_path / "b/config.json").read_text()
    taken = load_file(tmp_path / "b/weights.safetensors")
    assert torch.equal(taken["conv1.0.weight"], state["conv1.0.weight"])


def test_unavailable_weights_stop_or_become_random_with_a_warning(
    tmp_path: Path, offline: None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(WeightsError, match="could not be downloaded"):
        write_weights(tmp_path / "b", name="p", entry=entry())
    write_weights(tmp_path / "b", name="p", entry=entry(missing="random"))
    assert caplog.messages[-1].endswith("Starting from random weights.")
    assert load_weights_config(tmp_path / "b").initial_weights.source == "random"
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["config.json"]


def test_a_bundle_is_copied_whole_with_its_classes(tmp_path: Path) -> None:
    ensemble = make_bundle(tmp_path / "e", seeds=(1,))
    write_weights(tmp_path / "b", name="p", entry=entry(source="file", path=str(ensemble)))
    assert load_member_config(tmp_path / "b/members/member_1").class_names[0] == "apple"


def test_an_unlisted_licence_is_named_with_its_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_weights(tmp_path / "b", name="p", entry=entry(backbone="tf_efficientnet_lite0"))
    with caplog.at_level(logging.WARNING):
        warn_of_licences("Phase plain", tmp_path / "b", allowed=["apache-2.0"])
        assert not caplog.messages
        warn_of_licences("Phase plain", tmp_path / "b", allowed=["mit"])
    assert "Phase plain began from tf_efficientnet_lite0.in1k" in caplog.messages[0]
    assert "apache-2.0" in caplog.messages[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "file"}, "expected a file or bundle"),
        ({"source": "registry"}, "version: expected one beside source: registry"),
        ({"source": "registry", "version": "m"}, "<model>/<version>"),
        ({"version": "m/1"}, "version: expected none beside source: auto"),
        ({"source": "hub", "path": "a.pth"}, "path: expected conf/nothing.yaml beside source: hub"),
    ],
)
def test_an_entry_that_cannot_be_met_is_refused(change: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        entry(**change)


def refusal(params: dict[str, Any]) -> str:
    with pytest.raises(ParamsError) as caught:
        check_params(params, where="params.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"init": NOTHING}, "recipe.phases.plain.init: expected one of ['pretrained']"),
        ({"init": "plain"}, "recipe.phases.plain.init: expected one of"),
        ({"backbone": "resnet18"}, "recipe.phases.plain: expected no backbone, received one"),
        ({"teacher": "other"}, "recipe.phases.plain.teacher: expected one of"),
        ({"objective": {"name": "distillation"}}, "weights without classes"),
    ],
)
def test_a_phase_starts_from_something_that_exists(
    plain: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    phase = plain["recipe"]["phases"]["plain"] | change
    if phase["init"] != "pretrained":
        phase |= {"teacher": phase["init"]}
    recipe = plain["recipe"] | {"phases": {"plain": phase}}
    assert words in refusal(plain | {"recipe": recipe})


def test_a_phase_and_weights_never_share_a_name(plain: dict[str, Any]) -> None:
    weights = plain["recipe"]["weights"]
    recipe = plain["recipe"] | {"weights": {**weights, "plain": weights["pretrained"]}}
    assert "both would write runs/plain/bundle" in refusal(plain | {"recipe": recipe})


def test_every_size_says_where_weights_come_from(plain: dict[str, Any]) -> None:
    assert Params.model_validate(plain).recipe.weights["pretrained"].source == "auto"
    study = compose(ROOT, overrides=["recipe=plain", "size=study"])
    assert Params.model_validate(study).recipe.weights["pretrained"].source == "random"
