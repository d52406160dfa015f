"""The photos that a report shows: small JPEGs for the page, and whole contact sheets as files.

Only the photos shown are read, however large the store. A photo that cannot be read or decoded becomes a grey
tile: a report about damage must not stop at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from catalog.explore.page import Sheet, SheetRow, Shot, Strip
from catalog.photo_store import PhotoStore
from imaging.decode import decode

SIDE = 120  # pixels of a thumbnail's longer side; the page shows 92, sharp enough on fine screens
_QUALITY = 80
_FRAMES = {"plain": "#c3ccd5", "dropped": "#c8500a", "kept": "#0b7f60"}
_MARGIN, _GAP, _LINE, _TITLE_WIDTH, _FRAME = 16, 8, 14, 170, 4
_CELL = SIDE + 2 * _FRAME


def make_thumbnails(store: PhotoStore, photo_ids: Sequence[str]) -> dict[str, bytes]:
    """JPEG bytes of each photo, its longer side SIDE pixels or its own. Raises ValueError for unknown ids."""
    wanted = sorted(set(photo_ids))
    return {
        photo_id: _encode(_shrink(store, int(row)))
        for photo_id, row in zip(wanted, store.rows_of(wanted), strict=True)
    }


def draw_sheet(sheet: Sheet, *, thumbnails: Mapping[str, bytes]) -> bytes:
    """A contact sheet as PNG: title, strips with coloured frames, and the lines below each photo."""
    widths = [
        max(1, *(len(row.strips[column].shots) for row in sheet.rows))
        for column in range(len(sheet.headings))
    ]
    starts = [_MARGIN + _TITLE_WIDTH + _GAP]
    for width in widths:
        starts.append(starts[-1] + width * (_CELL + _GAP) + 2 * _GAP)
    heights = [_row_height(row) for row in sheet.rows]
    top = 2 * _MARGIN + _LINE
    canvas = Image.new("RGB", (starts[-1], top + sum(heights) + _MARGIN), "white")
    draw = ImageDraw.Draw(canvas)
    for start, heading, width in zip(starts, sheet.headings, widths, strict=False):
        _write(draw, (start, _MARGIN), heading, width=width * (_CELL + _GAP), bold=True)
    for row, height in zip(sheet.rows, heights, strict=True):
        draw.line((_MARGIN, top, canvas.width - _MARGIN, top), fill="#d9dfe5")
        _write(draw, (_MARGIN, top + _GAP), row.title, width=_TITLE_WIDTH, bold=True)
        _write(draw, (_MARGIN, top + _GAP + _LINE + 4), row.note, width=_TITLE_WIDTH)
        for start, strip in zip(starts, row.strips, strict=False):
            _draw_strip(canvas, draw, strip, left=start, top=top + _GAP, thumbnails=thumbnails)
        top += height
    return _png(canvas)


def _row_height(row: SheetRow) -> int:
    lines = max((len(shot.lines) for strip in row.strips for shot in strip.shots), default=0)
    return _CELL + _LINE * lines + 3 * _GAP


def _draw_strip(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    strip: Strip,
    *,
    left: int,
    top: int,
    thumbnails: Mapping[str, bytes],
) -> None:
    if not strip.shots:
        _write(draw, (left, top), strip.empty, width=_CELL)
    for shot in strip.shots:
        _draw_shot(canvas, draw, shot, corner=(left, top), frame=_FRAMES[strip.tone], thumbnails=thumbnails)
        left += _CELL + _GAP


def _draw_shot(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    shot: Shot,
    *,
    corner: tuple[int, int],
    frame: str,
    thumbnails: Mapping[str, bytes],
) -> None:
    left, top = corner
    image = Image.open(BytesIO(thumbnails[shot.photo_id]))
    draw.rectangle(
        (left, top, left + _CELL - 1, top + _CELL - 1), fill="#f5f7f9", outline=frame, width=_FRAME
    )
    canvas.paste(image, (left + (_CELL - image.width) // 2, top + (_CELL - image.height) // 2))
    for number, line in enumerate(shot.lines):
        _write(draw, (left, top + _CELL + 3 + number * _LINE), line, width=_CELL)


def _write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, *, width: int, bold: bool = False
) -> None:
    """One line of text, cut with an ellipsis at `width` pixels; a box for a letter that the font lacks."""
    font, letters = _font(bold)
    text = "".join(letter if ord(letter) in letters else "□" for letter in text)
    if font.getlength(text) > width:
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        text += "…"
    draw.text(corner, text, font=font, fill="#1c2733")


@cache
def _font(bold: bool) -> tuple[ImageFont.FreeTypeFont, frozenset[int]]:
    """The font that comes with matplotlib, hence the same pixels everywhere, and the letters it has."""
    path = Path(
        matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    )
    font = ImageFont.truetype(path, 11, layout_engine=ImageFont.Layout.BASIC)
    return font, frozenset(FT2Font(str(path)).get_charmap())


def _shrink(store: PhotoStore, row: int) -> Image.Image:
    try:
        image = Image.fromarray(decode(store.read(row), min_side=SIDE))
    except ValueError:  # a damaged shard, or a photo that does not decode
        return _grey_tile()
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return image


def _grey_tile() -> Image.Image:
    tile = Image.new("RGB", (SIDE, SIDE), "#b4bcc4")
    ImageDraw.Draw(tile).line((0, 0, SIDE, SIDE, SIDE, 0, 0, SIDE), fill="#8b949d", width=2)
    return tile


def _encode(image: Image.Image) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()


def _png(image: Image.Image) -> bytes:
    out = BytesIO()
    image.quantize(256).save(
        out, "PNG", optimize=True
    )  # a third of the bytes, and a sheet is only to look at
    return out.getvalue()
