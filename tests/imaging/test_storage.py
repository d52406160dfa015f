from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imaging.decode import decode, open_photo
from imaging.limits import PhotoError
from imaging.storage import StoragePolicy, to_stored


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_small_photo_keeps_its_bytes(encode, picture, name):
    data = encode(picture, name)
    stored = to_stored(data, policy=StoragePolicy(max_side=90))
    assert stored.data is data
    assert (stored.width, stored.height) == (70, 90)


@pytest.mark.parametrize("size", [(1000, 400), (400, 1000)])
def test_a_large_photo_is_shrunk_to_the_longer_side(encode, picture, size):
    stored = to_stored(encode(picture.resize(size), "JPEG"), policy=StoragePolicy(max_side=500))
    header = open_photo(stored.data)
    assert header.format == "JPEG"
    expected = (500, 200) if size[0] > size[1] else (200, 500)
    assert (stored.width, stored.height) == (header.width, header.height) == expected


def test_shrinking_averages_fine_stripes_instead_of_skipping_them(encode):
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(
        to_stored(encode(Image.fromarray(stripes), "PNG"), policy=StoragePolicy(max_side=64)).data
    )
    assert 115 < pixels[8:-8, 8:-8].min() <= pixels[8:-8, 8:-8].max() < 140


@pytest.mark.parametrize("name", ["GIF", "BMP", "TIFF"])
def test_other_formats_become_jpeg(encode, picture, name):
    assert open_photo(to_stored(encode(picture, name)).data).format == "JPEG"


def test_a_small_picture_in_a_fat_file_is_encoded_again(encode, picture):
    data = encode(picture, "PNG") + bytes(10_000)
    stored = to_stored(data, policy=StoragePolicy(max_bytes=10_000))
    assert len(stored.data) < 10_000
    assert open_photo(stored.data).format == "JPEG"


def test_a_shrunk_photo_is_upright_and_says_so_no_more(encode, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = to_stored(encode(picture, "JPEG", exif=exif), policy=StoragePolicy(max_side=45))
    assert (stored.width, stored.height) == (45, 35)
    assert open_photo(stored.data).orientation == 1


def test_an_animated_webp_becomes_its_first_frame(encode):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    stored = to_stored(data)
    assert open_photo(stored.data).format == "JPEG"
    assert decode(stored.data)[8, 8, 0] > 240


@pytest.mark.parametrize("size", [(70, 90), (900, 700)])
def test_what_is_stored_is_stored_again_unchanged(encode, picture, size):
    stored = to_stored(encode(picture.resize(size), "JPEG"))
    again = to_stored(stored.data)
    assert again.data is stored.data
    assert (again.width, again.height) == (stored.width, stored.height)


def test_a_truncated_photo_is_refused_even_when_it_would_be_kept(encode, picture):
    data = encode(picture, "JPEG")
    with pytest.raises(PhotoError):
        to_stored(data[:-200])


def test_a_policy_without_sense_is_refused():
    with pytest.raises(ValueError, match=r"quality\s+Input should be greater than or equal to 1"):
        StoragePolicy(quality=0)


@pytest.mark.parametrize(
    ("name", "size"), [("JPEG", (400, 300)), ("JPEG", (2000, 1500)), ("PNG", (400, 300))]
)
def test_the_preview_shows_the_upright_photo_with_at_least_64_pixels(encode, picture, name, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = to_stored(encode(picture.resize(size), name, exif=exif))
    assert (stored.source_width, stored.source_height) == (size[1], size[0])
    height, width, _ = stored.preview.shape
    assert 64 <= width <= 0.76 * height
