from __future__ import annotations

import logging

import pytest
import torch

from recognition import precision
from recognition.backbones import make_model
from recognition.precision import cast_for_inference, resolve_precision


def test_float32_is_always_to_be_had() -> None:
    assert resolve_precision("float32", "cpu") == torch.float32


@pytest.mark.parametrize(("has_units", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, has_units: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: has_units)
    assert resolve_precision("auto", "cpu") == expected


def test_bfloat16_without_units_falls_back_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    with caplog.at_level(logging.WARNING):
        assert resolve_precision("bfloat16", "cpu") == torch.float32
    assert [record.message for record in caplog.records] == [
        "bfloat16 was asked for but cpu has no bf16 units: computing in float32."
    ]


def test_unknown_precision_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match=r"auto, float32, bfloat16, received 'half'"):
        resolve_precision("half", "cpu")  # type: ignore[arg-type]


def test_cast_keeps_batch_norms_in_float32_and_the_original_unchanged() -> None:
    model = make_model("test_resnet", num_classes=2, initial_weights="random", seed=0).train()
    cast = cast_for_inference(model.backbone, device="cpu", dtype=torch.bfloat16)
    assert {b.dtype for n, b in cast.named_buffers() if n.endswith("running_mean")} == {torch.float32}
    assert cast.get_parameter("conv1.0.weight").dtype == torch.bfloat16
    assert not cast.training
    assert model.backbone.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_cast_backbone_stays_close_to_float32() -> None:
    model = make_model("test_resnet", num_classes=2, initial_weights="random", seed=0).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = model.features(x)
    cast = cast_for_inference(model.backbone, device="cpu", dtype=torch.bfloat16)
    received = cast(x.bfloat16()).float()
    assert (received - expected).norm() < 0.02 * expected.norm()
