"""What a photo says about itself before a pixel is decoded: format, size, orientation, frames.

The format is read from the first bytes, never from a file's name, and the matching Pillow plugin is called
directly: only the six formats below can ever be parsed, and our own pixel limit decides instead of Pillow's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO

import simplejpeg
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from imaging.limits import Limits, PhotoError


class _WebPImage(WebPImageFile):
    """Pillow's, without the decoder's canvases (8 bytes a pixel) beside the loaded picture."""

    def load_prepare(self) -> None:
        self._decoder = None  # the first frame is decoded, and no other is asked for
        super().load_prepare()


_OPENERS: dict[str, Callable[[BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,  # an MPO (several JPEGs in one file) opens as its first JPEG
    "PNG": PngImageFile,
    "WEBP": _WebPImage,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
FORMATS = tuple(_OPENERS)

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BMP_HEADER_SIZES = (12, 16, 40, 52, 56, 64, 108, 124)  # "BM" alone also begins many a text
_OTHER_STARTS = {
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x00\x00\x01\x00": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"<svg": "SVG",
}
_TIFF_BYTES = (1, 2, 7)  # types of tags that stay bytes: BYTE, ASCII, UNDEFINED
_MAX_TIFF_NUMBERS = 400_000  # 100 million pixels in tiles of 16 x 16
_ORIENTATION_TAG = 0x0112


def sniff_format(data: bytes) -> str | None:
    """The format that the first bytes announce, one of FORMATS, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if data.startswith(_TIFF_STARTS):
        return "TIFF"
    return None


def plain_jpeg_size(data: bytes, *, limits: Limits) -> tuple[int, int] | None:
    """Width and height of an upright grey or colour JPEG, in a tenth of the time that open_image takes.

    None for every other photo, also for a JPEG that may be turned: open_image decides about those. Raises
    PhotoError: empty, too_many_bytes, too_many_pixels.
    """
    _check_bytes(data, limits=limits)
    if sniff_format(data) != "JPEG" or _may_be_turned(data):
        return None
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colorspace not in ("YCbCr", "RGB", "Gray"):
        return None
    _check_pixels(width, height, limits=limits)
    return width, height


def open_image(data: bytes, *, limits: Limits) -> ImageFile.ImageFile:
    """Open a photo lazily, after every check that needs no pixel.

    Raises PhotoError: empty, too_many_bytes, not_a_photo, unsupported_format, corrupt, too_many_pixels.
    """
    _check_bytes(data, limits=limits)
    name = sniff_format(data)
    if name is None:
        raise _refuse_format(data)
    if name == "TIFF":
        _check_tiff_tags(data)
    try:
        image = _OPENERS[name](BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # plugins raise whatever the broken bytes lead them to
        raise corrupt(name, error) from error
    _check_pixels(*image.size, limits=limits)
    return image


def format_of(image: Image.Image) -> str:
    """The name in FORMATS of an image that open_image opened."""
    return str(image.format)


def num_frames_of(image: Image.Image) -> int:
    """The pictures in an animation; 1 where a later one is broken, as we only ever show the first."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # whatever the broken bytes lead the plugin to
        return 1


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation 1 to 8 of an image whose pixels are not loaded; unreadable EXIF counts as upright."""
    if isinstance(image, PngImageFile) and "exif" not in image.info:
        return 1  # getexif() would decode all pixels to look for an EXIF chunk behind them
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # broken EXIF in a photo that is otherwise fine
        return 1
    return int(value) if value in range(1, 9) else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height after the EXIF orientation; Pillow already gives a TIFF's upright size."""
    width, height = image.size
    if format_of(image) != "TIFF" and orientation_of(image) >= 5:
        return height, width
    return width, height


def corrupt(name: str, error: Exception) -> PhotoError:
    """The refusal of a photo whose bytes do not decode."""
    return PhotoError(
        f"The file begins like a {name} photo but does not decode ({_first_line(error)}): "
        "it is truncated or damaged, copy or send it again.",
        reason="corrupt",
    )


def _may_be_turned(data: bytes) -> bool:
    """Whether a JPEG has an APP1 segment (EXIF or XMP) before its pixels, or segments out of order."""
    at = 2  # behind the start of the image, FF D8; then segments: FF, marker, two bytes of length, content
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1 : at + 2]
        if marker == b"\xda":  # start of the pixels
            return False
        if marker == b"\xe1":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True


def _check_tiff_tags(data: bytes) -> None:
    """Refuse a first directory whose numbers Pillow would turn into gigabytes of Python objects."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")  # BigTIFF: 8 bytes where TIFF has 4 or 2
    try:
        start = struct.unpack_from(f"{order}Q" if big else f"{order}I", data, 8 if big else 4)[0]
        (num_tags,) = struct.unpack_from(f"{order}Q" if big else f"{order}H", data, start)
        for index in range(min(num_tags, 65_535)):
            at = start + (8 + 20 * index if big else 2 + 12 * index)
            _, kind, count = struct.unpack_from(f"{order}HHQ" if big else f"{order}HHI", data, at)
            if kind not in _TIFF_BYTES and count > _MAX_TIFF_NUMBERS:
                raise corrupt("TIFF", ValueError(f"a tag of {count:,} numbers"))
    except struct.error:
        return  # truncated: Pillow says so


def _check_bytes(data: bytes, *, limits: Limits) -> None:
    if not data:
        raise PhotoError("The file is empty (0 bytes): send the photo again.", reason="empty")
    if len(data) > limits.max_bytes:
        raise PhotoError(
            f"The file has {len(data):,} bytes, the limit is {limits.max_bytes:,}: send a smaller photo.",
            reason="too_many_bytes",
        )


def _check_pixels(width: int, height: int, *, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise PhotoError(
            f"The photo has {width} x {height} = {width * height:,} pixels, the limit is "
            f"{limits.max_pixels:,}: scale it down.",
            reason="too_many_pixels",
        )


def _refuse_format(data: bytes) -> PhotoError:
    supported = ", ".join(FORMATS)
    other = next((name for start, name in _OTHER_STARTS.items() if data.startswith(start)), None)
    if data[4:8] == b"ftyp":
        other = f"{data[8:12].decode('ascii', 'replace').strip()} (HEIC or AVIF family)"
    if other is not None:
        return PhotoError(
            f"The file is {other}, which is not supported: convert it to one of {supported}.",
            reason="unsupported_format",
        )
    return PhotoError(
        f"The file is not a photo, whatever its name says: expected one of {supported}, "
        f"received bytes that begin with {data[:8]!r}.",
        reason="not_a_photo",
    )


def _first_line(error: Exception) -> str:
    """The decoder's own words, without the address of the buffer that it read from."""
    text = str(error).strip().splitlines()
    if not text or "BytesIO" in text[0]:
        return "unreadable header"
    return text[0][:120]
