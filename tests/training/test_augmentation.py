"""What happens to a training photo at random: as the reports cut, and as timm would have shown it."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image, ImageOps
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor

from imaging.decode import decode
from recognition.preprocessing import Preprocessing, load_stored, resize_to, resize_to_square, to_canvas
from training.augmentation import Augmentation, Cutout, RandomCrop, ResizedCrop, make_augmentation
from training.config import AugmentationConfig

SQUASHED = Preprocessing(input_size=32, resize=40)
SHAPED = Preprocessing(input_size=32, resize=40, whole_photo=False)
RESIZED_CROP = AugmentationConfig(name="resized_crop")
MEAN_COLOR = (124, 116, 104)  # 255 x (.485, .456, .406)


def smooth_jpeg(width: int, height: int) -> bytes:
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    colors = np.stack([x, y, np.sin(9 * x) * np.cos(7 * y) / 2 + 0.5], axis=2)
    return simplejpeg.encode_jpeg((255 * colors).astype(np.uint8), quality=95)


def noisy_jpeg(width: int, height: int) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, size=(height, width, 3), dtype=np.uint8)
    return simplejpeg.encode_jpeg(pixels, quality=95)


def is_mean_color(canvas: Tensor) -> Tensor:
    return (canvas == torch.tensor(MEAN_COLOR)[:, None, None]).all(dim=0)


def draw(augmentation: Augmentation, data: bytes, *, seed: int) -> Tensor:
    random.seed(seed)
    torch.manual_seed(seed)
    return augmentation(data)


def places_of(crops: list[Tensor], resized: Tensor) -> set[tuple[int, int]]:
    """Where each crop lies in the resized photo; fails where one is not in it."""
    tops, lefts = (range(size - 32 + 1) for size in resized.shape[1:])
    windows = {(t, v): resized[:, t : t + 32, v : v + 32] for t in tops for v in lefts}
    found = [[place for place, window in windows.items() if torch.equal(window, crop)] for crop in crops]
    assert all(len(places) == 1 for places in found)
    return {place for places in found for place in places}


def test_flip_mirrors_about_half_of_the_draws_and_changes_nothing_else() -> None:
    data = noisy_jpeg(50, 40)
    served = to_canvas(load_stored(data, preprocessing=SQUASHED), preprocessing=SQUASHED)
    flip = make_augmentation(AugmentationConfig(name="flip"), preprocessing=SQUASHED)
    canvases = [draw(flip, data, seed=seed) for seed in range(100)]
    mirrored = [torch.equal(canvas, served.flip(-1)) for canvas in canvases]
    same = [torch.equal(canvas, served) for canvas in canvases]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 35 <= sum(mirrored) <= 65


def test_crop_cuts_any_square_out_of_the_squashed_photo() -> None:
    data = noisy_jpeg(60, 44)
    crops = [draw(RandomCrop(SQUASHED, rotation=0), data, seed=seed) for seed in range(400)]
    places = places_of(crops, resize_to_square(decode(data), side=40))
    assert {top for top, _ in places} == {left for _, left in places} == set(range(9))


def test_crop_of_a_photo_that_keeps_its_shape_reaches_all_of_its_longer_side() -> None:
    data = noisy_jpeg(60, 44)
    crops = [draw(RandomCrop(SHAPED, rotation=0), data, seed=seed) for seed in range(400)]
    places = places_of(crops, resize_to(decode(data), height=40, width=55))  # 60 x 40 / 44 = 54.5
    assert {top for top, _ in places} == set(range(9))
    assert {left for _, left in places} == set(range(24))


def test_crop_without_spare_pixels_is_the_canvas_of_serving() -> None:
    data, tight = smooth_jpeg(300, 400), Preprocessing(input_size=32, resize=32)
    served = to_canvas(load_stored(data, preprocessing=tight), preprocessing=tight)
    assert torch.equal(RandomCrop(tight, rotation=0)(data), served)


def test_rotation_turns_the_resized_photo_about_its_centre_as_pillow_does() -> None:
    data = smooth_jpeg(60, 44)
    resized = Image.fromarray(resize_to(decode(data), height=40, width=55).permute(1, 2, 0).numpy())
    for seed in range(10):
        turned = draw(RandomCrop(SHAPED, rotation=15), data, seed=seed)
        random.seed(seed)
        top, left, degrees = random.randint(0, 8), random.randint(0, 23), random.uniform(-15, 15)
        whole = resized.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=MEAN_COLOR)
        expected = torch.from_numpy(np.array(whole)).permute(2, 0, 1)[:, top : top + 32, left : left + 32]
        assert (turned.int() - expected.int()).abs().max() <= 1


def test_rotation_fills_the_corners_with_the_mean_colour() -> None:
    tight = Preprocessing(input_size=64, resize=64)
    crop = RandomCrop(tight, rotation=45)
    crops = [is_mean_color(draw(crop, smooth_jpeg(64, 64), seed=seed)) for seed in range(30)]
    assert all(filled[[0, 0, -1, -1], [0, -1, 0, -1]].all() for filled in crops)
    assert 0.15 < max(filled.float().mean() for filled in crops) <= 0.175  # at 45 degrees 17 % are corners


def test_cutout_paints_a_square_that_may_hang_over_the_edge() -> None:
    cutout = Cutout(8, color=MEAN_COLOR)
    canvas = torch.zeros((3, 32, 32), dtype=torch.uint8)
    random.seed(1)
    areas = [int(is_mean_color(cutout(canvas)).sum()) for _ in range(4000)]
    assert (max(areas), min(areas)) == (64, 16)
    assert 55 < np.mean(areas) < 57.5  # (240 / 32)^2 = 56.25: a side shows 4 to 8 pixels, 240 over 32 places
    assert not canvas.any()


@pytest.mark.parametrize("name", ["crop", "resized_crop"])
def test_every_paint_and_colour_works_on_both_crops(name: Any) -> None:
    data = smooth_jpeg(60, 44)
    plain = make_augmentation(AugmentationConfig(name=name), preprocessing=SQUASHED)
    for change in (
        {"auto_augment": "rand-m7-mstd0.5"},
        {"color_jitter": 0.4},
        {"erasing": 1.0},
        {"cutout": 12},
    ):
        config = AugmentationConfig(name=name, **change)
        changed = make_augmentation(config, preprocessing=SQUASHED)
        canvases = [draw(changed, data, seed=seed) for seed in range(4)]
        assert all(canvas.dtype == torch.uint8 and canvas.shape == (3, 32, 32) for canvas in canvases)
        assert any(not torch.equal(c, draw(plain, data, seed=s)) for s, c in enumerate(canvases))
        if "erasing" in change or "cutout" in change:
            assert all(is_mean_color(canvas).sum() >= 0.02 * 32 * 32 for canvas in canvases)


@pytest.mark.parametrize("size", [(50, 40), (60, 90), (700, 500), (400, 901)])  # full scale, then smaller
def test_resized_crop_shows_what_timms_transform_would_show(size: tuple[int, int]) -> None:
    crop, data = ResizedCrop(RESIZED_CROP, side=32), smooth_jpeg(*size)
    timms = RandomResizedCropAndInterpolation(32, scale=RESIZED_CROP.scale, ratio=RESIZED_CROP.ratio)
    for seed in range(10):
        random.seed(seed)
        expected = np.array(timms(Image.open(io.BytesIO(data)))).transpose(2, 0, 1)
        difference = np.abs(draw(crop, data, seed=seed).numpy().astype(int) - expected)
        assert difference.max() <= (1 if min(size) < 100 else 12)  # at a smaller scale boxes snap to pixels


def test_resized_crop_of_a_turned_photo_is_drawn_on_the_upright_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file, upright = io.BytesIO(), io.BytesIO()
    Image.open(io.BytesIO(smooth_jpeg(600, 300))).save(file, "JPEG", quality=95, exif=exif)
    ImageOps.exif_transpose(Image.open(file)).save(upright, "PNG")
    crop = ResizedCrop(RESIZED_CROP, side=32)
    for seed in range(5):
        turned, expected = (draw(crop, f.getvalue(), seed=seed).int() for f in (file, upright))
        assert (turned - expected).abs().max() <= 12


def test_crops_decode_no_more_pixels_than_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decode_jpeg = simplejpeg.decode_jpeg

    def watch(*args: Any, **options: Any) -> Any:
        pixels = decode_jpeg(*args, **options)
        asked.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watch)
    whole = AugmentationConfig(name="resized_crop", scale=(1.0, 1.0), ratio=(1.0, 1.0))
    part = AugmentationConfig(name="resized_crop", scale=(0.1, 0.1), ratio=(1.0, 1.0))  # a box of 101 pixels
    for config in (whole, part, AugmentationConfig(name="crop", rotation=15)):
        make_augmentation(config, preprocessing=SQUASHED)(smooth_jpeg(320, 320))
    assert asked == [(40, 40), (160, 160), (40, 40)]  # 1/8 leaves 40 of 32 pixels; 1/4 of 101 would be 25


def test_an_unknown_auto_augment_policy_is_refused_with_examples() -> None:
    config = AugmentationConfig(name="crop", auto_augment="rnad-m7")
    with pytest.raises(ValueError, match=r"such as rand-m7-mstd0\.5.*received 'rnad-m7'"):
        make_augmentation(config, preprocessing=SQUASHED)
