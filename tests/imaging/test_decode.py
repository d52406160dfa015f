from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from imaging.decode import decode
from imaging.limits import PhotoError

LOSSLESS = ["PNG", "BMP", "TIFF", "WEBP"]


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_the_exact_pixels(encode, picture, name):
    options = {"lossless": True} if name == "WEBP" else {}
    pixels = decode(encode(picture, name, **options))
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, np.asarray(picture))


def test_a_jpeg_gives_the_pixels_that_pillow_gives(encode, picture):
    data = encode(picture, "JPEG", quality=95)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(BytesIO(data))))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_applies_it(encode, picture, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture, name, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    np.testing.assert_array_equal(decode(data), np.asarray(upright))


def test_a_palette_png_with_a_transparent_colour_lies_on_white(encode):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    pixels = decode(encode(image, "PNG", transparency=0))
    assert pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_half_transparent_black_on_white_is_grey(encode):
    pixels = decode(encode(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG"))
    assert pixels.tolist() == [[[127, 127, 127]]]


def test_grey_and_16_bit_grey_become_rgb(encode):
    assert decode(encode(Image.new("L", (1, 1), 77), "PNG")).tolist() == [[[77, 77, 77]]]
    wide = Image.fromarray(np.array([[0x1234, 0xFFFF]], dtype=np.uint16))
    assert decode(encode(wide, "PNG")).tolist() == [[[0x12] * 3, [255] * 3]]
    assert decode(encode(wide, "TIFF")).tolist() == [[[0x12] * 3, [255] * 3]]


def test_a_cmyk_jpeg_becomes_rgb(encode):
    data = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = decode(data)[8, 8]
    assert red > 245
    assert max(green, blue) < 10


def test_an_animation_gives_its_first_frame(encode):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    pixels = decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert pixels[0, 0].tolist() == [255, 0, 0]


def test_float_pixels_are_refused_instead_of_guessed(encode):
    with pytest.raises(PhotoError, match="8 bits a channel") as refusal:
        decode(encode(Image.new("F", (4, 4), 0.5), "TIFF"))
    assert refusal.value.reason == "unsupported_format"


def test_min_side_gives_the_smallest_scale_that_is_large_enough(encode):
    data = encode(Image.new("RGB", (1600, 800), "green"), "JPEG")
    assert decode(data, min_side=256).shape == (300, 600, 3)  # 3/8; 2/8 would be 200
    assert decode(data, min_side=2000).shape == (800, 1600, 3)


def test_a_scaled_decode_shows_the_same_picture(encode, picture):
    data = encode(picture.resize((1400, 1800), Image.Resampling.BICUBIC), "JPEG", quality=95)
    scaled = Image.fromarray(decode(data, min_side=350))
    assert scaled.size == (350, 450)
    full = Image.fromarray(decode(data)).resize((350, 450), Image.Resampling.BOX)
    assert np.abs(np.asarray(scaled, dtype=int) - np.asarray(full, dtype=int)).mean() < 2


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_half_a_file_is_corrupt(encode, picture, name):
    data = encode(picture, name)
    with pytest.raises(PhotoError, match="truncated or damaged") as refusal:
        decode(data[: len(data) // 2])
    assert refusal.value.reason == "corrupt"


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("min_side", [None, 1])
def test_a_jpeg_that_lacks_its_end_is_corrupt(encode, picture, options, min_side):
    data = encode(picture, "JPEG", **options)
    with pytest.raises(PhotoError) as refusal:
        decode(data[:-100], min_side=min_side)
    assert refusal.value.reason == "corrupt"


def test_stray_bytes_before_a_jpegs_end_do_no_harm(encode, picture):
    data = encode(picture, "JPEG")
    np.testing.assert_array_equal(decode(data[:-2] + b"stray" + data[-2:]), decode(data))


def test_damage_inside_a_jpeg_is_corrupt(encode, picture):
    data = bytearray(encode(picture, "JPEG"))
    middle = len(data) - 400
    data[middle : middle + 2] = b"\xff\xd9"
    with pytest.raises(PhotoError):
        decode(bytes(data))
