"""Views as pixels: what is cut out of a photo, from the store's bytes to averaged features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from imaging.decode import OpenPhoto
from recognition.backbones import make_model
from recognition.loader import make_inference_loader
from recognition.member import extract_features, pooled_features
from recognition.precision import cast_for_inference
from recognition.preprocessing import (
    Preprocessing,
    load_canvases,
    load_stored,
    normalize,
    resize_to_square,
    to_canvas,
)
from recognition.views import POSITIONS, Crop, distinct_crops

from .conftest import BACKBONE, draw, encode, loaded

PHOTO = encode(draw(140, 100))
SQUASHED = Preprocessing(input_size=32, resize=40)
SCALED = Preprocessing(input_size=24, resize=32, whole_photo=False)
ALL = ("ten_crops", "scales", "top_left_50")


def crops_of(preprocessing: Preprocessing, *views: str) -> tuple[Crop, ...]:
    return distinct_crops(preprocessing.views(views))


def test_five_crops_are_torchvisions_of_the_squashed_photo() -> None:
    whole = resize_to_square(load_stored(PHOTO, preprocessing=SQUASHED), side=40)
    top_left, top_right, bottom_left, bottom_right, center = transforms.five_crop(whole, [32, 32])
    crops = load_canvases(PHOTO, preprocessing=SQUASHED, crops=[Crop(name, 40) for name in POSITIONS])
    assert crops.dtype == torch.uint8
    assert torch.equal(crops, torch.stack([center, top_left, top_right, bottom_left, bottom_right]))


@pytest.mark.parametrize(("width", "height"), [(128, 64), (64, 160), (64, 64)])
def test_corners_of_a_photo_that_is_not_squashed_are_those_of_the_whole_photo(
    width: int, height: int
) -> None:
    photo = draw(width, height)
    whole = photo.resize((width // 2, height // 2), Image.Resampling.BILINEAR)  # shorter side to 32
    expected = transforms.five_crop(transforms.pil_to_tensor(whole), [24, 24])[:4]
    corners = [Crop(name, 32) for name in list(POSITIONS)[1:]]
    received = load_canvases(encode(photo, "PNG"), preprocessing=SCALED, crops=corners)
    assert (received.int() - torch.stack(expected).int()).abs().max() <= 1  # grey levels


@pytest.mark.parametrize("preprocessing", [SQUASHED, SCALED])
@pytest.mark.parametrize("size", [(500, 350), (101, 70), (30, 25)])
def test_a_crop_is_the_same_alone_and_among_others(preprocessing: Preprocessing, size) -> None:
    data, crops = encode(draw(*size)), crops_of(preprocessing, *ALL)
    together = load_canvases(data, preprocessing=preprocessing, crops=crops)
    for canvas, crop in zip(together, crops, strict=True):
        assert torch.equal(canvas, load_canvases(data, preprocessing=preprocessing, crops=[crop])[0]), crop
    center = to_canvas(load_stored(data, preprocessing=preprocessing), preprocessing=preprocessing)
    assert torch.equal(together[0], center)


def test_a_photo_is_decoded_once_for_each_scale_of_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    scales, decode = [], OpenPhoto.decode

    def count(photo: OpenPhoto, *, min_scale: float = 1.0):
        scales.append(min_scale)
        return decode(photo, min_scale=min_scale)

    monkeypatch.setattr(OpenPhoto, "decode", count)
    data = encode(draw(400, 400))
    load_canvases(data, preprocessing=SQUASHED, crops=crops_of(SQUASHED, "ten_crops"))
    assert scales == [0.1]
    scales.clear()
    load_canvases(data, preprocessing=SQUASHED, crops=crops_of(SQUASHED, "center", "center_45", "center_90"))
    assert scales == [0.1, 0.225]  # at 1/8 it has 50 pixels a side, at 1/4 it has 100
    scales.clear()
    load_canvases(encode(draw(30, 30)), preprocessing=SQUASHED, crops=crops_of(SQUASHED, "center", "scales"))
    assert len(scales) == 1  # whole already


def test_a_loader_and_serving_give_the_same_crops_in_the_views_order() -> None:
    class Store:
        def read(self, row: int) -> bytes:
            return encode(draw(90 + row, 70))

    loader = make_inference_loader(Store(), range(3), preprocessing=SQUASHED, views=ALL, batch_size=2)
    batch, _ = next(iter(loader))
    crops = crops_of(SQUASHED, *ALL)
    assert batch.shape == (2, len(crops), 3, 32, 32)
    for row in range(2):
        assert torch.equal(batch[row], load_canvases(Store().read(row), preprocessing=SQUASHED, crops=crops))


def test_features_are_the_mean_over_all_crops_and_their_mirror_images() -> None:
    canvases = load_canvases(PHOTO, preprocessing=SQUASHED, crops=crops_of(SQUASHED, "ten_crops"))[None]
    model = make_model(BACKBONE, num_classes=2, initial_weights="random", seed=0).eval()
    pixels = normalize(canvases[0], SQUASHED)
    with torch.inference_mode():
        expected = (model.features(pixels) + model.features(pixels.flip(-1))).mean(0, keepdim=True) / 2
    features = extract_features(
        loaded(model, SQUASHED), [(canvases, torch.tensor([0]))], views=("ten_crops",)
    )
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_mirrored_corner_is_mirrored_and_not_the_other_corner() -> None:
    model = make_model(BACKBONE, num_classes=2, initial_weights="random", seed=0).eval()
    corner = load_canvases(PHOTO, preprocessing=SQUASHED, crops=[Crop("top_left", 40)])
    pooled = pooled_features(
        cast_for_inference(model.backbone, device="cpu", dtype=torch.float32),
        corner[None],
        views=("top_left_flip",),
        preprocessing=SQUASHED,
        device="cpu",
        dtype=torch.float32,
    )
    with torch.inference_mode():
        expected = model.features(normalize(corner, SQUASHED).flip(-1))
    torch.testing.assert_close(pooled, expected, rtol=1e-4, atol=1e-5)


def test_canvases_of_other_views_are_refused() -> None:
    canvases = torch.zeros(2, 1, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"\[B, 5, 3, S, S\] for the views ten_crops, received \(2, 1, 3"):
        pooled_features(
            torch.nn.Identity(),
            canvases,
            views=("ten_crops",),
            preprocessing=SQUASHED,
            device="cpu",
            dtype=torch.float32,
        )
