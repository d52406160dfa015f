from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from imaging.decode import decode, open_photo
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
    assert decode(data, min_side=256).shape == (400, 800, 3)  # 1/2; 1/4 would be 200
    assert decode(data, min_side=200).shape == (200, 400, 3)
    assert decode(data, min_side=2000).shape == (800, 1600, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])  # Pillow decodes CMYK
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_is_decoded_at_the_scale_that_is_asked_for(encode, mode, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = open_photo(encode(Image.new(mode, (801, 400)), "JPEG", exif=exif))
    size = (801, 400) if orientation == 1 else (400, 801)
    assert (photo.width, photo.height) == size
    for min_scale, shape in [(0.125, (50, 101)), (0.126, (100, 201)), (0.5, (200, 401)), (3, (400, 801))]:
        pixels = photo.decode(min_scale=min_scale)
        assert pixels.shape == (*(shape if orientation == 1 else shape[::-1]), 3)
        assert pixels.flags.c_contiguous
        assert pixels.flags.writeable


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_other_formats_come_whole_at_any_scale(encode, picture, name):
    assert open_photo(encode(picture, name)).decode(min_scale=0.1).shape == (90, 70, 3)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (7, 7), (8, 1)])
def test_a_tiny_jpeg_is_never_scaled_without_being_asked(encode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = encode(Image.fromarray(pixels), "JPEG", quality=95)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(BytesIO(data))))


def test_a_scaled_decode_shows_the_same_picture(encode, picture):
    data = encode(picture.resize((1400, 1800), Image.Resampling.BICUBIC), "JPEG", quality=95)
    scaled = Image.fromarray(decode(data, min_side=350))  # 1/4
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


def test_16_bit_colour_keeps_the_upper_bits(png):
    row = np.array([[0x1234, 0xFF00, 0x8001]], dtype=">u2")
    pixels = decode(png(1, 1, bits=16, color_type=2, rows=b"\0" + row.tobytes()))
    assert pixels.tolist() == [[[0x12, 0xFF, 0x80]]]


def test_16_bit_colour_with_transparency_lies_on_white(png):
    row = np.array([[0, 0, 0, 0, 0x1234, 0x5678, 0x9ABC, 0xFFFF]], dtype=">u2")
    pixels = decode(png(2, 1, bits=16, color_type=6, rows=b"\0" + row.tobytes()))
    assert pixels.tolist() == [[[255, 255, 255], [0x12, 0x56, 0x9A]]]


def test_the_transparent_grey_of_a_16_bit_png_lies_on_white(png):
    row = np.array([[0x1234, 0x5678]], dtype=">u2")
    data = png(2, 1, bits=16, color_type=0, rows=b"\0" + row.tobytes(), transparency=b"\x12\x34")
    assert decode(data).tolist() == [[[255] * 3, [0x56] * 3]]


def test_a_palette_with_a_transparency_per_colour_lies_on_white(encode):
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 0, 0, 0, 200, 100, 50])
    image.putdata([0, 1, 2])
    pixels = decode(encode(image, "PNG", transparency=bytes([0, 128, 255])))
    assert pixels.tolist() == [[[255] * 3, [127] * 3, [200, 100, 50]]]


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF"])
def test_one_bit_pixels_become_black_and_white(encode, name):
    image = Image.new("1", (2, 1))
    image.putdata([0, 1])
    assert decode(encode(image, name)).tolist() == [[[0] * 3, [255] * 3]]


def test_grey_with_alpha_lies_on_white(encode):
    assert decode(encode(Image.new("LA", (1, 1), (77, 0)), "PNG")).tolist() == [[[255] * 3]]


def test_a_grey_jpeg_has_three_equal_channels(encode, picture):
    data = encode(picture.convert("L"), "JPEG", quality=95)
    pixels = decode(data)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 0}, {"keep_rgb": True}])
def test_jpegs_of_any_kind_give_the_pixels_that_pillow_gives(encode, picture, options):
    data = encode(picture, "JPEG", quality=95, **options)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(BytesIO(data))))


def test_bytes_after_a_jpegs_end_do_no_harm(encode, picture):
    data = encode(picture, "JPEG")
    np.testing.assert_array_equal(decode(data + b"\0" * 1000 + b"trailer"), decode(data))


@pytest.mark.parametrize("name", ["PNG", "WEBP", "TIFF"])
def test_an_animation_or_a_stack_of_pages_gives_its_first(encode, name):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    options = {"lossless": True} if name == "WEBP" else {}
    data = encode(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert open_photo(data).num_frames == 2
    assert decode(data)[8, 8].tolist() == [255, 0, 0]


def test_several_jpegs_in_one_file_give_the_first(encode):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert decode(data)[8, 8, 0] > 245
    assert open_photo(data).decode(min_scale=0.5).shape == (8, 8, 3)


def test_an_orientation_that_only_xmp_names_is_applied(encode, picture):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    data = encode(picture, "JPEG", xmp=xmp)
    assert decode(data).shape == (70, 90, 3)


def test_an_orientation_behind_other_metadata_is_applied(encode, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture, "JPEG", exif=exif)
    profile = b"\xff\xe2" + (1002).to_bytes(2, "big") + b"\xff\xda" * 500  # looks like the pixels' start
    assert decode(data[:2] + profile + data[2:]).shape == (70, 90, 3)


def test_a_jpeg_with_fill_bytes_between_its_segments_decodes(encode, picture):
    data = encode(picture, "JPEG")
    np.testing.assert_array_equal(decode(data[:2] + b"\xff\xff" + data[2:]), decode(data))
