"""Training photos: the same for any number of processes, and the same as in serving without augmentation."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image, ImageOps
from timm.data.transforms import RandomResizedCropAndInterpolation

from catalog.ingest.preparation import prepare_photo
from catalog.photo_store import PhotoStore
from recognition.preprocessing import Preprocessing, load_photo, to_canvas
from tests.training.conftest import MakeJob, broken_photo, write_store
from training.augmentation import Crop, make_augmentation
from training.config import AugmentationConfig
from training.loader import LoadedPhotos, TrainingPhotos, make_training_loader
from training.samplers import EpochSampler

PREPROCESSING = Preprocessing(input_size=32, resize=40)
CROP = AugmentationConfig(name="crop", auto_augment="rand-m7-mstd0.5", color_jitter=0.4, erasing=0.5)


def training_photos(path: Path, augmentation: AugmentationConfig) -> TrainingPhotos:
    store = PhotoStore(path)
    transform = make_augmentation(augmentation, preprocessing=PREPROCESSING)
    rows = np.arange(len(store))
    return TrainingPhotos(store, rows=rows, augmentation=transform, seed=3)


def load(photos: TrainingPhotos, *, num_workers: int) -> list[LoadedPhotos]:
    sampler = EpochSampler(len(photos.rows), batch_size=6, epochs=2, seed=1)
    return list(make_training_loader(photos, sampler=sampler, num_workers=num_workers))


def test_batches_do_not_depend_on_the_number_of_processes(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos", CROP)
    alone, helped = load(photos, num_workers=0), load(photos, num_workers=2)
    assert len(alone) == len(helped) == 8
    for left, right in zip(alone, helped, strict=True):
        assert left.photos.dtype == torch.uint8
        assert torch.equal(left.photos, right.photos)
        assert torch.equal(left.positions, right.positions)


def test_a_photo_gives_the_same_tensor_in_training_and_in_serving(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, size=(90, 700, 3), dtype=np.uint8)
    upload = simplejpeg.encode_jpeg(noise)  # wider than the store keeps, so it is re-encoded
    write_store(tmp_path, [prepare_photo("a", upload, policy=PREPROCESSING.storage)])
    _, trained = training_photos(tmp_path, AugmentationConfig(name="none"))[(0, 0)]
    served = to_canvas(load_photo(upload, preprocessing=PREPROCESSING), preprocessing=PREPROCESSING)
    assert torch.equal(trained, served)


def test_flip_mirrors_about_half_of_the_draws_and_changes_nothing_else(make_job: MakeJob) -> None:
    path = make_job(num_photos=4, num_val=0) / "photos"
    plain = training_photos(path, AugmentationConfig(name="none"))
    flipped = training_photos(path, AugmentationConfig(name="flip"))
    draws = [(epoch, position) for epoch in range(25) for position in range(4)]
    mirrored = [torch.equal(flipped[draw][1], plain[draw][1].flip(-1)) for draw in draws]
    same = [torch.equal(flipped[draw][1], plain[draw][1]) for draw in draws]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 35 <= sum(mirrored) <= 65


def test_crop_changes_with_the_epoch_and_the_photo_and_with_nothing_else(make_job: MakeJob) -> None:
    photos = training_photos(make_job() / "photos", CROP)
    assert torch.equal(photos[(0, 1)][1], photos[(0, 1)][1])
    assert not torch.equal(photos[(0, 1)][1], photos[(1, 1)][1])
    assert photos[(0, 1)][1].shape == (3, 32, 32)


def smooth_jpeg(width: int, height: int) -> bytes:
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    colors = np.stack([x, y, np.sin(9 * x) * np.cos(7 * y) / 2 + 0.5], axis=2)
    return simplejpeg.encode_jpeg((255 * colors).astype(np.uint8), quality=95)


def timms_crop(data: bytes, *, side: int) -> torch.Tensor:
    """What timm's transform makes of the same draw from the whole photo."""
    crop = RandomResizedCropAndInterpolation(side, scale=CROP.scale, ratio=CROP.ratio)
    picture = np.array(crop(Image.open(io.BytesIO(data))))
    return torch.from_numpy(picture).permute(2, 0, 1)


@pytest.mark.parametrize("size", [(50, 40), (60, 90), (700, 500), (400, 901)])  # full scale, then smaller
def test_crop_shows_what_timms_transform_would_show(size: tuple[int, int]) -> None:
    crop = Crop(AugmentationConfig(name="crop"), preprocessing=PREPROCESSING)
    data = smooth_jpeg(*size)
    for seed in range(10):
        random.seed(seed)
        expected = timms_crop(data, side=32).int()
        random.seed(seed)
        difference = (crop.cut(data).int() - expected).abs()
        assert difference.max() <= (1 if min(size) < 100 else 12)  # at a smaller scale boxes snap to pixels


def test_crop_of_a_turned_photo_is_drawn_on_the_upright_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.open(io.BytesIO(smooth_jpeg(600, 300))).save(file, "JPEG", quality=95, exif=exif)
    upright = io.BytesIO()
    ImageOps.exif_transpose(Image.open(file)).save(upright, "PNG")
    crop = Crop(AugmentationConfig(name="crop"), preprocessing=PREPROCESSING)
    for seed in range(5):
        random.seed(seed)
        turned = crop.cut(file.getvalue()).int()
        random.seed(seed)
        assert (turned - crop.cut(upright.getvalue()).int()).abs().max() <= 12


def test_crop_decodes_no_more_pixels_than_its_box_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decode = simplejpeg.decode_jpeg

    def watch(*args: Any, **options: Any) -> Any:
        pixels = decode(*args, **options)
        asked.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(simplejpeg, "decode_jpeg", watch)
    whole = AugmentationConfig(name="crop", scale=(1.0, 1.0), ratio=(1.0, 1.0))
    part = AugmentationConfig(name="crop", scale=(0.1, 0.1), ratio=(1.0, 1.0))  # a box of 101 pixels
    for config in (whole, part):
        Crop(config, preprocessing=PREPROCESSING).cut(smooth_jpeg(320, 320))
    assert asked == [(40, 40), (160, 160)]  # 1/8 leaves 40 of 32 pixels; 1/4 of 101 would be 25


def test_erasing_paints_the_mean_colour(make_job: MakeJob) -> None:
    config = AugmentationConfig(name="crop", erasing=1.0)
    _, canvas = training_photos(make_job() / "photos", config)[(0, 0)]
    mean = torch.tensor([round(255 * value) for value in PREPROCESSING.mean], dtype=torch.uint8)
    assert (canvas == mean[:, None, None]).all(dim=0).sum() >= 0.02 * 32 * 32


def test_a_photo_that_does_not_decode_comes_as_its_position_and_a_sentence(tmp_path: Path) -> None:
    write_store(tmp_path, [broken_photo("a")])
    (batch, _) = load(training_photos(tmp_path, CROP), num_workers=1)
    assert batch.failure is not None
    assert batch.failure.position == 0
    assert "JPEG" in batch.failure.message


def test_an_unknown_auto_augment_policy_is_refused_with_examples() -> None:
    config = AugmentationConfig(name="crop", auto_augment="rnad-m7")
    with pytest.raises(ValueError, match=r"such as rand-m7-mstd0\.5.*received 'rnad-m7'"):
        make_augmentation(config, preprocessing=PREPROCESSING)
