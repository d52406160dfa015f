from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from imaging.limits import PhotoError
from imaging.storage import StoragePolicy, to_stored
from recognition.preprocessing import (
    Preprocessing,
    load_canvases,
    load_stored,
    make_preprocessing,
    normalize,
    resize_to_square,
    stack_canvases,
    to_canvas,
)
from recognition.recognizer import Recognizer
from recognition.views import Crop

from .conftest import draw, encode

POLICY = StoragePolicy(max_side=128)
TURNED = Image.Exif()
TURNED[0x0112] = 6  # the camera was held upright

PHOTOS = {
    "small jpeg": encode(draw(100, 80)),
    "jpeg larger than the store keeps": encode(draw(900, 700), quality=95),
    "wide jpeg whose shorter side is tiny": encode(draw(600, 60)),
    "jpeg smaller than the canvas": encode(draw(20, 24)),
    "cmyk jpeg": encode(draw(300, 200).convert("CMYK")),
    "palette png": encode(draw(120, 90).quantize(32), "PNG"),
    "turned jpeg": encode(draw(120, 60), exif=TURNED),
    "large turned jpeg": encode(draw(600, 300), exif=TURNED),
    "transparent png": encode(draw(90, 90).convert("RGBA"), "PNG"),
    "animated gif": encode(draw(90, 90), "GIF", save_all=True, append_images=[draw(90, 90, seed=1)]),
    "bmp": encode(draw(90, 90), "BMP"),
}


@pytest.mark.parametrize("whole_photo", [True, False])
@pytest.mark.parametrize("name", PHOTOS)
def test_evaluation_and_serving_see_bit_equal_canvases(make_member, name: str, whole_photo: bool) -> None:
    preprocessing = Preprocessing(input_size=56, resize=64, whole_photo=whole_photo, storage=POLICY)
    original = PHOTOS[name]
    bundle = make_member("first", member_preprocessing=preprocessing)
    stored = to_stored(original, policy=POLICY).data  # what ingest wrote
    evaluated = to_canvas(load_stored(stored, preprocessing=preprocessing), preprocessing=preprocessing)
    (served,) = Recognizer(bundle).prepare(original)
    assert served.shape == (1, 3, 56, 56)
    assert torch.equal(served[0], evaluated)


def test_serving_without_the_store_encoding_would_differ(make_member) -> None:
    preprocessing = Preprocessing(input_size=56, resize=64, storage=POLICY)
    original = PHOTOS["jpeg larger than the store keeps"]
    direct = to_canvas(load_stored(original, preprocessing=preprocessing), preprocessing=preprocessing)
    (served,) = Recognizer(make_member("first", member_preprocessing=preprocessing)).prepare(original)
    assert not torch.equal(direct, served[0])


@pytest.mark.parametrize(("width", "height"), [(100, 80), (80, 100), (97, 61)])
def test_squashing_canvas_equals_resize_of_everything_then_crop(width: int, height: int) -> None:
    photo = draw(width, height)
    whole = np.asarray(photo.resize((40, 40), Image.Resampling.BILINEAR)).astype(int)
    canvas = to_canvas(np.array(photo), preprocessing=Preprocessing(input_size=30, resize=40))
    difference = np.abs(canvas.permute(1, 2, 0).numpy().astype(int) - whole[5:35, 5:35])
    assert difference.max() <= 1  # grey levels, from rounding the filter's weights


def test_shorter_side_resize_keeps_proportions_and_cuts_the_centre() -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 20:40] = 200  # the middle third, exactly what a square crop shows
    preprocessing = Preprocessing(input_size=10, resize=10, whole_photo=False)
    canvas = to_canvas(pixels, preprocessing=preprocessing)
    assert canvas.shape == (3, 10, 10)
    assert canvas[:, :, 1:-1].eq(200).all()


def test_cutting_the_centre_of_an_odd_difference_keeps_it_in_the_middle() -> None:
    pixels = np.zeros((11, 20, 3), dtype=np.uint8)
    pixels[:, 4:16] = 200  # 4 columns of 20 go on either side, 12 stay
    canvas = to_canvas(pixels, preprocessing=Preprocessing(input_size=11, resize=11, whole_photo=False))
    assert canvas.eq(200).all()


def test_a_canvas_costs_the_same_however_long_the_photo_is() -> None:
    pixels = np.zeros((2, 100_000, 3), dtype=np.uint8)  # 12,800,000 pixels if resized before it is cut
    pixels[:, 49_999:50_001] = 200
    canvas = to_canvas(pixels, preprocessing=Preprocessing(input_size=256, resize=256, whole_photo=False))
    assert canvas.eq(200).all()


@pytest.mark.parametrize(("width", "height"), [(348, 348), (613, 240), (97, 61)])
def test_the_resize_is_pillows_to_one_grey_level(width: int, height: int) -> None:
    photo = draw(width, height)
    expected = np.array(photo.resize((50, 50), Image.Resampling.BILINEAR), dtype=int)
    resized = resize_to_square(np.array(photo), side=50).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(resized - expected).max() <= 1


_RESIZE = """
import numpy, sys, torch
from recognition.preprocessing import resize_to_square
assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
photo = numpy.random.default_rng(0).integers(0, 256, (301, 267, 3), dtype=numpy.uint8)
sys.stdout.buffer.write(b"".join(resize_to_square(photo, side=side).numpy().tobytes() for side in (96, 300)))
"""


def test_a_processor_without_vector_instructions_gives_the_same_canvas() -> None:
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    command = [sys.executable, "-c", _RESIZE]
    plain = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    photo = np.random.default_rng(0).integers(0, 256, (301, 267, 3), dtype=np.uint8)
    here = [resize_to_square(photo, side=side).numpy().tobytes() for side in (96, 300)]
    assert plain == b"".join(here)


def test_stacked_canvases_are_a_batch_in_channels_last() -> None:
    canvases = [resize_to_square(np.full((4, 4, 3), value, dtype=np.uint8), side=5) for value in (7, 9)]
    batch = stack_canvases(canvases)
    assert batch.shape == (2, 3, 5, 5)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert [photo.unique().tolist() for photo in batch] == [[7], [9]]


def test_squashed_canvas_shows_the_whole_photo() -> None:
    pixels = np.zeros((20, 60, 3), dtype=np.uint8)
    pixels[:, 30:] = 200
    canvas = to_canvas(pixels, preprocessing=Preprocessing(input_size=10, resize=10))
    assert canvas[0, 5, :4].eq(0).all()
    assert canvas[0, 5, 6:].eq(200).all()


def test_resize_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 254  # sampling without a filter would give 0 or 254
    canvas = to_canvas(stripes, preprocessing=Preprocessing(input_size=8, resize=8))
    assert (canvas[:, 2:-2, 2:-2].int() - 127).abs().max() <= 1


def test_normalize_gives_hand_computed_values() -> None:
    preprocessing = Preprocessing(input_size=1, resize=1, mean=(0.0, 0.5, 1.0), std=(1.0, 0.25, 0.5))
    batch = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    values = normalize(batch, preprocessing)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.flatten(), torch.tensor([0.0, 2.0, -1.6]))
    assert batch.flatten().tolist() == [0, 255, 51]


def test_preprocessing_survives_its_dictionary() -> None:
    preprocessing = Preprocessing(input_size=56, resize=64, whole_photo=False, storage=POLICY)
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


def test_unknown_preprocessing_key_is_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        Preprocessing.from_dict({**Preprocessing().to_dict(), "colour": 1})


def test_canvas_larger_than_the_resized_photo_is_refused() -> None:
    with pytest.raises(ValueError, match="input_size=64, resize=56"):
        Preprocessing(input_size=64, resize=56)


def test_statistics_are_those_of_the_backbone() -> None:
    made = make_preprocessing("test_resnet", input_size=56, resize=64)
    assert made.mean == (0.5, 0.5, 0.5)
    assert make_preprocessing("resnet18", input_size=56, resize=64).mean == (0.485, 0.456, 0.406)


def test_text_file_is_refused_as_a_photo() -> None:
    with pytest.raises(PhotoError) as caught:
        load_canvases(b"not a photo at all", preprocessing=Preprocessing(), crops=[Crop("center", 256)])
    assert caught.value.reason == "not_a_photo"
