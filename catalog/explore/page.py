"""What a report is made of, and how it becomes one HTML file that needs nothing beside it.

A section is a title and blocks of five kinds; the sections' modules decide what to say and never touch HTML,
the template decides how it looks and never computes. Everything that came from outside (labels, photo ids,
decoder messages) passes the template's autoescape.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jinja2 import Environment, StrictUndefined

from catalog.explore.template import PAGE

Cell = str | int | float | None
Tone = Literal["plain", "dropped", "kept"]


@dataclass(frozen=True, kw_only=True)
class Text:
    """One paragraph."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """A few numbers in large type, each with what it counts."""

    tiles: Sequence[tuple[int, str]]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; an int is a count, a float a share shown in per cent, None a dash."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure, which also becomes a file of its own beside the report."""

    file: str
    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One photo of a contact sheet, and the lines below it."""

    photo_id: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Photos of one sheet row that belong together; without photos `empty` is said instead."""

    shots: Sequence[Shot]
    tone: Tone = "plain"
    empty: str = ""


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """What a row of a contact sheet shows, and its strips of photos, one for each heading of the sheet."""

    title: str
    note: str
    strips: Sequence[Strip]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A contact sheet; with a file name it is also drawn into a PNG beside the report.

    With headings, one for each strip, rows lie below each other; without, they flow side by side.
    """

    title: str
    note: str
    headings: Sequence[str]
    rows: Sequence[SheetRow]
    file: str | None = None

    @property
    def photo_ids(self) -> list[str]:
        """The photos shown, in reading order, repeats included."""
        return [shot.photo_id for row in self.rows for strip in row.strips for shot in strip.shots]


Block = Text | Tiles | Table | Plot | Sheet


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page that the navigation leads to; `anchor` is its id in the page."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def render_page(title: str, sections: Sequence[Section], *, thumbnails: Mapping[str, bytes]) -> str:
    """The report as HTML. thumbnails: JPEG bytes of every photo that a sheet shows, by photo id."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = _show
    environment.filters["png"] = lambda png: _data_url(png, kind="png")
    environment.filters["thumbnail"] = lambda photo_id: _data_url(thumbnails[photo_id], kind="jpeg")
    environment.tests["block"] = lambda block, kind: type(block).__name__ == kind
    return environment.from_string(PAGE).render(title=title, sections=sections)


def _show(cell: Cell) -> str:
    if cell is None:
        return "\N{EN DASH}"
    if isinstance(cell, float):
        return f"{100 * cell:.1f} %"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _data_url(data: bytes, *, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
