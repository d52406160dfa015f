"""One small model of each family of backbones, at a size that is not its own, from a job to an answer."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from timm.models import register_model
from torch import nn

from catalog.photo_store import PhotoStore
from recognition.backbones import make_model
from recognition.bundle import load_member, load_weights_from
from recognition.member import LoadedMember
from recognition.recognizer import Recognizer
from recognition.timm_body import check_input_size, make_body
from tests.training.conftest import CLASS_NAMES, MakeJob
from training.job import run_job

SHALLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "shallow_dinov2": ("vit_small_patch14_dinov2", {"depth": 1}),
    "shallow_siglip2": ("vit_base_patch16_siglip_256", {"depth": 1, "embed_dim": 192, "num_heads": 3}),
    "shallow_swin": ("swin_tiny_patch4_window7_224", {"depths": (2, 1, 1, 1), "embed_dim": 48}),
    "shallow_dinov3": ("vit_small_patch16_dinov3", {"depth": 1}),
    "shallow_pe": ("vit_pe_core_tiny_patch16_384", {"depth": 1}),
    "shallow_xcit": ("xcit_nano_12_p16_224", {"depth": 1, "cls_attn_layers": 1}),
    "shallow_naflex": ("naflexvit_base_patch16_gap", {"depth": 1, "embed_dim": 192, "num_heads": 3}),
}
"""Families whose smallest model is large: timm's own entry with fewer blocks."""

FAMILIES = {
    "shallow_dinov2": 70,
    "shallow_dinov3": 64,
    "shallow_pe": 64,
    "shallow_siglip2": 64,
    "vit_tiny_patch16_224": 64,
    "shallow_swin": 64,
    "convnext_atto": 64,
    "fastvit_t8": 64,
    "efficientnet_b0": 64,
    "resnet10t": 64,
    "shallow_naflex": 64,
}
"""The input size to train at; the models' own are 224 to 518 pixels."""


def _shallow(name: str, entry: str, options: dict[str, Any]) -> Callable[..., nn.Module]:
    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        model: nn.Module = timm.create_model(entry, pretrained=pretrained, **{**options, **kwargs})
        return model

    build.__name__ = name
    return build


for _name, (_entry, _options) in SHALLOW.items():
    setattr(sys.modules[__name__], _name, register_model(_shallow(_name, _entry, _options)))


def photo() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(5).integers(0, 256, (90, 110, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("backbone", "size"), FAMILIES.items())
def test_a_family_trains_embeds_bundles_and_answers_at_another_size(
    make_job: MakeJob, backbone: str, size: int
) -> None:
    job_dir = make_job(
        num_photos=4, num_val=2, epochs=1, batch_size=4, backbone=backbone, input_size=size, resize=size + 6
    )
    bundle = run_job(job_dir).bundle_dir
    model, config = load_member(bundle)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    store = PhotoStore(job_dir / "photos")
    rows = store.rows_of(pq.read_table(job_dir / "list.parquet")["photo_id"])
    member = LoadedMember.of(model, config, device="cpu", dtype=torch.float32)
    features = member.embed(store, rows, views=("center", "flip"), batch_size=3)
    assert features.shape == (4, config.num_features)
    assert np.isfinite(features).all()
    assert np.ptp(features, axis=0).max() > 0  # photos differ in what is seen of them
    recognizer = Recognizer(bundle, precision="float32")
    (answer,) = recognizer.predict([photo()], top_k=4)
    assert {item.name for item in answer.predictions} == set(CLASS_NAMES)
    assert sum(item.probability for item in answer.predictions) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("backbone", "size", "said"),
    [
        ("shallow_dinov2", 100, r"backbone shallow_dinov2 .* received 100 .* fit: 98 and 112\."),
        ("vit_tiny_patch16_224", 60, r"received 60 .* fit: 48 and 64\."),
        ("shallow_swin", 66, r"received 66 .* fit: 64 and 68\."),
        ("convnext_atto", 16, r"received 16 .* fit: 32\."),
        ("shallow_xcit", 40, r"received 40 .* fit: 32 and 48\."),  # cannot even be built
    ],
)
def test_a_size_that_a_backbone_cannot_take_is_refused_with_the_nearest(
    backbone: str, size: int, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"^input_size: expected a size that .*{said}$"):
        check_input_size(make_body(backbone, input_size=size), backbone=backbone, input_size=size)


def test_a_job_at_a_size_that_its_backbone_cannot_take_ends_before_training(make_job: MakeJob) -> None:
    with pytest.raises(ValueError, match=r"received 40 .* fit: 32 and 48"):
        run_job(make_job(backbone="test_vit", input_size=40, resize=40))


@pytest.mark.parametrize(("backbone", "sizes"), [("shallow_dinov2", (70, 98)), ("shallow_swin", (64, 224))])
def test_weights_of_a_phase_at_one_size_begin_a_phase_at_another(
    make_job: MakeJob, backbone: str, sizes: tuple[int, int]
) -> None:
    """As report C's DCL does, at twice the pixels of the phase that it starts from."""
    small, large = sizes
    settings = {"num_photos": 4, "num_val": 2, "epochs": 1, "batch_size": 4, "backbone": backbone}
    bundle = run_job(make_job("first", **settings, input_size=small, resize=small)).bundle_dir
    model = make_model(backbone, num_classes=4, initial_weights="random", input_size=large, seed=1)
    loaded = load_weights_from(model, bundle)
    before = load_member(bundle)[0].state_dict()
    same = [name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])]
    resampled = set(before) - set(same)
    assert loaded.head_taken
    assert all("pos" in name for name in resampled)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, large, large)).isfinite().all()


def test_a_model_at_its_own_size_computes_what_timms_does() -> None:
    x = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    theirs = timm.create_model("test_vit", num_classes=0).eval()
    ours = make_body("test_vit", input_size=160, seed=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))
