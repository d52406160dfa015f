from __future__ import annotations

import pickle
import tracemalloc

import pytest
from PIL import Image

from imaging.decode import open_photo
from imaging.limits import Limits, PhotoError


def _huge_png(png, width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that really holds width x height black pixels of one bit."""
    return png(width, height, bits=1, color_type=0, rows=bytes((width // 8 + 1) * height))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_header_names_format_and_size_of_every_supported_format(encode, picture, name):
    header = open_photo(encode(picture, name))
    assert (header.format, header.width, header.height, header.orientation) == (name, 70, 90, 1)
    assert header.num_frames == 1


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_header_size_is_that_of_the_upright_photo(encode, picture, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    header = open_photo(encode(picture, name, exif=exif))
    assert (header.width, header.height) == (90, 70)


def test_broken_exif_counts_as_upright(encode, picture):
    data = encode(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert open_photo(data).orientation == 1


def test_animation_says_its_number_of_frames(encode, picture):
    frames = [picture.rotate(angle) for angle in (0, 90, 180)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert open_photo(data).num_frames == 3


def test_a_huge_png_of_few_kilobytes_is_refused_without_decoding(png):
    data = _huge_png(png, 20_000, 20_000)
    assert len(data) < 64 * 1024
    tracemalloc.start()
    with pytest.raises(PhotoError, match="400,000,000 pixels, the limit is 100,000,000") as refusal:
        open_photo(data)
    assert refusal.value.reason == "too_many_pixels"
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_our_pixel_limit_decides_not_pillows(png):
    # Pillow itself warns above 89 million pixels and raises above 179 million
    header = open_photo(_huge_png(png, 20_000, 20_000), limits=Limits(max_pixels=500_000_000))
    assert header.width == 20_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just a text, called photo.jpg", "not_a_photo"),
        (b"BMW builds cars, this is a text", "not_a_photo"),
        (b"%PDF-1.7 ...", "unsupported_format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "unsupported_format"),
        (b"\x89PNG\r\n\x1a\n", "corrupt"),
        (b"\xff\xd8\xff\xe0 no more", "corrupt"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "corrupt"),
    ],
)
def test_what_is_no_photo_is_refused_with_its_reason(data, reason):
    with pytest.raises(PhotoError) as refusal:
        open_photo(data)
    assert refusal.value.reason == reason


def test_too_many_bytes_are_refused_with_both_numbers(encode, picture):
    data = encode(picture, "BMP")
    with pytest.raises(PhotoError, match=f"{len(data):,} bytes, the limit is 1,000"):
        open_photo(data, limits=Limits(max_bytes=1000))


def test_a_refusal_survives_the_way_between_processes():
    refusal = pickle.loads(pickle.dumps(PhotoError("The file is empty.", reason="empty")))
    assert (str(refusal), refusal.reason) == ("The file is empty.", "empty")
