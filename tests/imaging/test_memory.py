"""What decoding may take in memory, and that saving it changes no pixel."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from imaging import rows
from imaging.decode import decode, open_photo
from imaging.limits import Limits, PhotoError
from imaging.memory import jpeg_coefficient_bytes
from imaging.storage import to_stored

KINDS = {
    "PNG RGB": ("RGB", "PNG", {}),
    "PNG with a transparent colour": ("RGB", "PNG", {"transparency": (9, 30, 39)}),
    "PNG RGBA": ("RGBA", "PNG", {}),
    "PNG grey with alpha": ("LA", "PNG", {}),
    "PNG palette": ("P", "PNG", {}),
    "PNG 16 bit": ("I;16", "PNG", {}),
    "CMYK JPEG": ("CMYK", "JPEG", {}),
    "JPEG": ("RGB", "JPEG", {}),
    "WEBP": ("RGBA", "WEBP", {}),
    "GIF": ("P", "GIF", {"transparency": 4}),
    "TIFF": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "BMP": ("RGB", "BMP", {}),
}


@pytest.fixture
def in_thin_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of a few rows, also for small photos."""
    monkeypatch.setattr(rows, "STRIP_PIXELS", 210)
    monkeypatch.setattr("imaging.decode.LARGE_PIXELS", 0)


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    image = picture.convert("L").convert("LA") if mode == "LA" else picture.convert(mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(picture.getchannel("R"))
    return image


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_strips_give_the_pixels_of_the_whole_photo(encode, picture, request, name, orientation):
    mode, format, options = KINDS[name]
    exif = Image.Exif()
    exif[0x0112] = orientation
    if format in ("PNG", "JPEG", "WEBP", "TIFF"):
        options = {**options, "exif": exif}
    data = encode(_convert(picture, mode), format, **options)
    photo = open_photo(data)
    whole = decode(data)
    expected = np.asarray(Image.fromarray(whole).resize((31, 47), Image.Resampling.LANCZOS))
    request.getfixturevalue("in_thin_strips")
    np.testing.assert_array_equal(decode(data), whole)
    if photo.format != "JPEG":  # those come at a smaller scale
        np.testing.assert_array_equal(photo.shrink(width=31, height=47), expected)
    assert photo.shrink(width=31, height=47).shape == (47, 31, 3)


@pytest.mark.parametrize("filter", range(5))
def test_every_filter_of_a_png_reaches_over_the_border_of_a_strip(in_thin_strips, png, filter):
    noise = np.random.default_rng(filter).integers(0, 256, (90, 70 * 3), dtype=np.uint8)
    filtered = b"".join(bytes([filter]) + row.tobytes() for row in noise)
    data = png(70, 90, bits=8, color_type=2, rows=filtered)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(BytesIO(data))))


def test_a_png_in_many_chunks_is_read_through(in_thin_strips, encode, picture):
    data = encode(picture.resize((280, 360)), "PNG", compress_level=0)
    assert data.count(b"IDAT") > 3
    np.testing.assert_array_equal(decode(data), np.asarray(picture.resize((280, 360))))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_large_png_that_lacks_its_end_is_corrupt(in_thin_strips, encode, share):
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), "PNG")
    with pytest.raises(PhotoError, match="truncated") as refusal:
        decode(data[: int(share * len(data))])
    assert refusal.value.reason == "corrupt"


def test_a_refusal_keeps_no_picture_alive(encode, picture):
    data = encode(picture, "PNG")
    with pytest.raises(PhotoError, match="truncated") as refusal:
        decode(data[: len(data) // 2])
    trace = refusal.value.__traceback__.tb_next  # the first is this test
    held = []
    while trace is not None:
        held += list(trace.tb_frame.f_locals.values())
        trace = trace.tb_next
    assert not any(isinstance(value, Image.Image) for value in held)
    assert refusal.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0),
        ({"progressive": True, "subsampling": 0}, 2 * 3 * 72 * 96),  # 70 x 90 in blocks of 8
        ({"progressive": True, "subsampling": 2}, 2 * (80 * 96 + 2 * 40 * 48)),  # in blocks of 16
    ],
)
def test_the_coefficients_of_a_progressive_jpeg_are_counted(encode, picture, options, expected):
    assert jpeg_coefficient_bytes(encode(picture, "JPEG", **options)) == expected


def test_baseline_jpegs_of_several_scans_keep_coefficients_too(encode, picture):
    data = encode(picture, "JPEG", subsampling=0)
    start = data.index(b"\xff\xda")
    one_of_three = data[:start] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
    assert jpeg_coefficient_bytes(one_of_three) == 2 * 3 * 72 * 96


@pytest.mark.parametrize("name", ["PNG", "WEBP", "GIF", "TIFF", "JPEG"])
def test_a_photo_beyond_the_memory_limit_says_what_to_do(encode, name):
    data = encode(Image.new("RGB", (1000, 500)), name)
    limits = Limits(max_decoding_bytes=26_000_000)
    with pytest.raises(
        PhotoError, match=r"takes about \d+ MB of memory, the limit is 26 MB: scale"
    ) as refusal:
        open_photo(data, limits=limits).decode()
    assert refusal.value.reason == "too_many_pixels"


def test_a_small_tiff_of_huge_tiles_is_refused():
    """10 x 10 pixels in one tile of 20,000 x 20,000, of which libtiff would make 1.2 GB."""
    tags = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, 20_000), (323, 4, 1, 20_000), (324, 4, 1, 200), (325, 4, 1, 20)]
    with pytest.raises(PhotoError, match="limit is 400 MB") as refusal:
        decode(_tiff(tags) + zlib.compress(bytes(1000)))
    assert refusal.value.reason == "too_many_pixels"


def test_a_tiff_of_millions_of_strips_is_refused_before_pillow_lists_them():
    tags = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 10_000_000, 200)]
    with pytest.raises(PhotoError, match="10,000,000 numbers"):
        open_photo(_tiff(tags))


def test_a_jpeg_that_is_hardly_shrunk_counts_its_resizing(encode):
    photo = open_photo(
        encode(Image.new("RGB", (3000, 3000)), "JPEG"), limits=Limits(max_decoding_bytes=10**8)
    )
    assert photo.shrink(width=1500, height=1500).shape == (1500, 1500, 3)
    with pytest.raises(PhotoError, match="limit is 100 MB"):
        photo.shrink(width=2900, height=2900)


@pytest.mark.parametrize("size", [(1, 12_000_000), (6_000_000, 1)])
def test_a_photo_of_one_line_counts_its_resizing(png, size):
    rows = bytes(size[1] * (1 + size[0]))
    with pytest.raises(PhotoError, match="limit is 400 MB"):
        to_stored(png(*size, bits=8, color_type=0, rows=rows))


def _tiff(tags: list[tuple[int, int, int, int]]) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries).ljust(200, b"\0")


MEASURE = """
import json, re, sys, threading
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from bench.large_photos import KINDS
from imaging.limits import PhotoError
from imaging.storage import to_stored

def status(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def store(data):
    try:
        outcomes.append(to_stored(data).width)
    except PhotoError as error:
        outcomes.append(error.reason)

sizes = json.loads(sys.argv[2])
photos = [KINDS[kind](*size) for kind, size in sizes]
outcomes, peaks, rests = [], [], []
store(KINDS["PNG grey"](1, 1))
outcomes.clear()
for data in photos:
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    thread = threading.Thread(target=store, args=(data,))
    thread.start()
    thread.join()
    peaks.append(status("VmHWM") - before)
    rests.append(status("VmRSS") - before)
print(json.dumps([outcomes, peaks, rests]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_hundred_million_pixels_take_less_than_the_limit_and_give_it_back(pytestconfig):
    kinds = [
        ("PNG RGB", (10_000, 10_000), 512),
        ("PNG RGB interlaced", (10_000, 10_000), "too_many_pixels"),
        ("TIFF RGB tiled", (10_000, 10_000), "too_many_pixels"),
        ("TIFF RGB tiled", (8_000, 8_000), 512),
    ]
    sizes = json.dumps([(kind, size) for kind, size, _ in kinds])
    command = [sys.executable, "-c", MEASURE, str(pytestconfig.rootpath), sizes]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    outcomes, peaks, rests = json.loads(run.stdout)
    assert outcomes == [outcome for _, _, outcome in kinds]
    assert max(peaks) < Limits().max_decoding_bytes
    assert max(rests) < 64_000_000
