from __future__ import annotations

import argparse
import logging
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from recognition import initial_weights
from recognition.backbones import check_backbone, data_statistics, make_model
from recognition.bundle import load_weights_from, make_ensemble
from recognition.initial_weights import WeightsError

from .conftest import BACKBONE


def point_hub_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    template = f"http://127.0.0.1:{port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and a hub at a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    point_hub_at(port, monkeypatch)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def silent_hub(offline_hub: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that takes the connection and never answers, as behind some firewalls."""
    monkeypatch.setattr(initial_weights, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        point_hub_at(server.getsockname()[1], monkeypatch)
        yield


def timm_weights(num_classes: int = 10) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    state: dict[str, torch.Tensor] = timm.create_model(BACKBONE, num_classes=num_classes).state_dict()
    return state


def test_unknown_backbone_names_near_matches() -> None:
    with pytest.raises(ValueError, match=r"received 'resnet-18'.*resnet18"):
        make_model("resnet-18", num_classes=2, initial_weights="random")


@pytest.mark.parametrize("backbone", ["hf-hub:someone/resnet18", "local-dir:resnet18", ""])
def test_backbone_that_is_no_plain_timm_name_is_refused(backbone: str) -> None:
    with pytest.raises(ValueError, match="name of a timm backbone"):
        check_backbone(backbone)


def test_unknown_weights_tag_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"resnet18\.a1_in1k"):
        check_backbone("resnet18.nope")


def test_equal_seeds_give_equal_weights_and_spare_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second, other = (
        make_model(BACKBONE, num_classes=3, initial_weights="random", seed=seed).state_dict()
        for seed in (4, 4, 5)
    )
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_forward_is_the_head_on_pooled_features() -> None:
    model = make_model(BACKBONE, num_classes=3, initial_weights="random", seed=0).eval()
    x = torch.randn(2, 3, 64, 64)
    features = model.features(x)
    assert features.shape == (2, model.head.in_features)
    torch.testing.assert_close(model(x), features @ model.head.weight.t() + model.head.bias)


def test_head_stays_float32_under_autocast() -> None:
    model = make_model(BACKBONE, num_classes=3, initial_weights="random", seed=0).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, logits = model.features(torch.ones(2, 3, 64, 64)), model(torch.ones(2, 3, 64, 64))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, torch.nn.functional.linear(features, *model.head.parameters()))


MAPS = {
    "test_resnet": (96, 2),
    "test_efficientnet": (256, 2),
    "test_convnext": (64, 2),
    "test_mambaout": (64, 2),  # makes [B, h, w, C]
    "mobilenetv3_small_050": (288, 2),  # has a convolution behind the pooling
}


@pytest.mark.parametrize("backbone", MAPS)
def test_pooled_feature_maps_are_the_backbones_own_features(backbone: str) -> None:
    model = make_model(backbone, num_classes=3, initial_weights="random", seed=0).eval()
    channels, side = MAPS[backbone]
    x = torch.randn(2, 3, 32 * side, 32 * side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = model.feature_maps(x)
        assert maps.shape == (2, channels, side, side)
        assert model.num_map_channels == channels
        assert torch.equal(model.pool(maps), model.backbone(x))
        assert torch.equal(model.features(x), model.backbone(x))
        assert torch.equal(model.logits(model.pool(maps)), model(x))
    assert model.pool(maps).shape == (2, model.head.in_features)


def test_feature_maps_lie_where_the_photo_does() -> None:
    model = make_model("test_mambaout", num_classes=3, initial_weights="random", seed=0).eval()
    x = torch.zeros(1, 3, 160, 96)
    bright = x.clone()
    bright[..., 100:, :] = 2
    with torch.inference_mode():
        difference = (model.feature_maps(bright) - model.feature_maps(x)).abs().sum(dim=1)[0]
    assert difference.shape == (5, 3)
    assert difference[0].sum() < 1e-3 * difference[4].sum()


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit3"])
def test_backbone_without_feature_maps_is_named(backbone: str) -> None:
    model = make_model(backbone, num_classes=3, initial_weights="random", seed=0)
    with pytest.raises(ValueError, match=rf"of backbone {backbone}, received a tensor of shape \(1, "):
        model.feature_maps(torch.zeros(1, 3, 160, 160))


def test_normalised_features_give_logits_of_directions_only() -> None:
    model = make_model(BACKBONE, num_classes=2, initial_weights="random", seed=0).eval()
    model.normalize_features = True
    model.head.weight.data = torch.eye(2, 96)
    model.head.bias.data = torch.tensor([0.0, 1.0])
    features = torch.zeros(1, 96)
    features[0, :2] = torch.tensor([3.0, -4.0])
    torch.testing.assert_close(model.logits(features), torch.tensor([[0.6, 0.2]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model.logits(features.bfloat16()), torch.tensor([[0.6, 0.2]]))


def test_backbones_are_known_with_the_statistics_of_their_weights() -> None:
    assert data_statistics("iresnet101") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data_statistics("pnasnet5large") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_unreachable_hub_stops_within_a_minute_with_one_line(offline_hub: Path) -> None:
    start = time.monotonic()
    with pytest.raises(WeightsError) as caught:
        make_model(BACKBONE, num_classes=2, initial_weights="pretrained")
    assert time.monotonic() - start < 60
    assert str(caught.value).startswith(f"Pretrained weights of {BACKBONE} could not be downloaded (")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("silent_hub")
def test_silent_hub_stops_within_a_minute() -> None:
    start = time.monotonic()
    with pytest.raises(WeightsError, match="could not be downloaded"):
        make_model(BACKBONE, num_classes=2, initial_weights="pretrained")
    assert time.monotonic() - start < 60


def test_unreachable_hub_may_give_random_weights_with_one_warning(
    offline_hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="recognition"):
        model = make_model(
            BACKBONE, num_classes=2, initial_weights="pretrained", missing_weights="random", seed=3
        )
    expected = make_model(BACKBONE, num_classes=2, initial_weights="random", seed=3)
    assert torch.equal(model.head.weight, expected.head.weight)
    assert len(caplog.records) == 1
    assert caplog.records[0].message.endswith("Starting from random weights.")


def test_weights_in_the_hub_cache_need_no_network(offline_hub: Path) -> None:
    repository = offline_hub / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    weights = timm_weights(num_classes=1000)
    save_file(weights, repository / "snapshots" / "abc" / "model.safetensors")
    model = make_model(BACKBONE, num_classes=2, initial_weights="pretrained")
    assert torch.equal(model.backbone.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])
    assert model.head.out_features == 2


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_file_gives_pretrained_weights(tmp_path: Path, suffix: str) -> None:
    path, weights = tmp_path / f"weights{suffix}", timm_weights()
    if suffix == ".pth":
        torch.save({"state_dict": weights}, path)
    else:
        save_file(weights, path)
    model = make_model(BACKBONE, num_classes=10, initial_weights="pretrained", weights_path=path, seed=0)
    assert torch.equal(model.backbone.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])
    fresh = make_model(BACKBONE, num_classes=10, initial_weights="random", seed=0)
    assert torch.equal(model.head.weight, fresh.head.weight)  # never the file's classifier


def test_missing_local_file_stops_or_gives_random_weights(tmp_path: Path) -> None:
    path = tmp_path / "absent.safetensors"
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        make_model(BACKBONE, num_classes=2, initial_weights="pretrained", weights_path=path)
    make_model(
        BACKBONE, num_classes=2, initial_weights="pretrained", weights_path=path, missing_weights="random"
    )


class _Exploit:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_file_is_read_without_executing_it(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(_Exploit(tmp_path / "executed"), protocol=2))
    model = make_model(BACKBONE, num_classes=2, initial_weights="random")
    with pytest.raises(WeightsError, match="not a readable weights file"):
        load_weights_from(model, path)
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("test_efficientnet").state_dict(), tmp_path / "other.safetensors")
    model = make_model(BACKBONE, num_classes=2, initial_weights="random")
    with pytest.raises(ValueError, match=r"conv1\.0\.weight \(expected .* received nothing"):
        load_weights_from(model, tmp_path / "other.safetensors")


def test_bundle_of_another_phase_gives_all_its_weights(make_member) -> None:
    bundle = make_member("first", seed=1)
    model = make_model(BACKBONE, num_classes=4, initial_weights="random", seed=2)
    taken = load_weights_from(model, bundle)
    expected = make_model(BACKBONE, num_classes=4, initial_weights="random", seed=1).state_dict()
    assert taken.head_taken
    assert taken.num_tensors == len(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_head_of_another_size_is_re_initialised(make_member, caplog: pytest.LogCaptureFixture) -> None:
    bundle = make_member("first", seed=1, normalize_features=True)
    model = make_model(BACKBONE, num_classes=7, initial_weights="random", seed=2)
    fresh = model.head.weight.detach().clone()
    with caplog.at_level(logging.INFO, logger="recognition"):
        assert not load_weights_from(model, bundle).head_taken
    assert torch.equal(model.head.weight, fresh)
    assert not model.normalize_features
    count = len(model.backbone.state_dict())
    assert caplog.messages == [
        f"{bundle}/weights.safetensors: {count} of {count} backbone tensors taken, "
        "head re-initialised for 7 classes (the source's has 4)"
    ]


def test_head_that_is_taken_brings_what_it_wants_of_features(make_member) -> None:
    bundle = make_member("first", normalize_features=True)
    taken, refused = (make_model(BACKBONE, num_classes=4, initial_weights="random") for _ in range(2))
    load_weights_from(taken, bundle)
    load_weights_from(refused, bundle, take_head=False)
    assert taken.normalize_features
    assert not refused.normalize_features


def test_ensemble_gives_weights_where_a_member_is_named(make_member, tmp_path: Path) -> None:
    members = {"a": make_member("a", seed=1), "b": make_member("b", seed=2)}
    ensemble = tmp_path / "ensemble"
    make_ensemble(ensemble, members=members, recipe="r", merge="logits", views=("center",))
    model = make_model(BACKBONE, num_classes=4, initial_weights="random", seed=3)
    with pytest.raises(ValueError, match="one of a, b; received none"):
        load_weights_from(model, ensemble)
    load_weights_from(model, ensemble / "members" / "b")
    expected = make_model(BACKBONE, num_classes=4, initial_weights="random", seed=2)
    assert torch.equal(model.head.weight, expected.head.weight)


def test_training_checkpoint_as_the_field_saves_it_gives_its_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As timm writes them under DDP, with averaged weights, from before batch norms counted batches."""
    weights, path = timm_weights(), tmp_path / "checkpoint.pth.tar"
    older = {
        f"module.{name}": tensor for name, tensor in weights.items() if "num_batches_tracked" not in name
    }
    raw = {name: torch.zeros_like(tensor) for name, tensor in older.items()}
    settings = argparse.Namespace(model=BACKBONE, lr=0.1)
    torch.save({"epoch": 3, "args": settings, "state_dict": raw, "state_dict_ema": older}, path)
    model = make_model(BACKBONE, num_classes=10, initial_weights="random")
    with caplog.at_level(logging.INFO, logger="recognition"):
        loaded = load_weights_from(model, path)
    state = model.backbone.state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in state if name not in loaded.missing)
    assert loaded.missing == tuple(name for name in state if name.endswith("num_batches_tracked"))
    assert loaded.unused == ("fc.weight", "fc.bias")
    assert loaded.num_tensors == len(state) - len(loaded.missing)
    assert f"{loaded.num_tensors} of {len(state)} backbone tensors taken, not in it: " in caplog.messages[-1]
    assert caplog.messages[-1].endswith("not used: fc.weight, fc.bias, head re-initialised for 10 classes")


def test_legacy_model_is_read_from_a_torch_file_of_its_own_names(tmp_path: Path) -> None:
    source = timm.create_model("legacy_seresnet18", num_classes=1000)
    torch.save(source.state_dict(), tmp_path / "legacy.pth")
    model = make_model(
        "legacy_seresnet18",
        num_classes=5,
        initial_weights="pretrained",
        weights_path=tmp_path / "legacy.pth",
    )
    state = source.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.backbone.state_dict().items())


def test_file_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    weights = timm_weights()
    del weights["conv1.1.running_mean"]
    save_file(weights, tmp_path / "part.safetensors")
    model = make_model(BACKBONE, num_classes=2, initial_weights="random")
    with pytest.raises(ValueError, match=r"1 of \d+ tensors differ, first conv1\.1\.running_mean"):
        load_weights_from(model, tmp_path / "part.safetensors")
