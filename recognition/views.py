"""Views: the deterministic variants of a photo whose features are averaged at test time.

A view is a place of the crop, a size to which the photo is resized first, a mirroring and a turn. Report B
found that the photo and its mirror image beat all eight flips and rotations, report C took ten crops, report
A five sizes. params.yaml is checked against the names here, so this module imports nothing that takes time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

POSITIONS = {
    "center": (0.5, 0.5),
    "top_left": (0.0, 0.0),
    "top_right": (0.0, 1.0),
    "bottom_left": (1.0, 0.0),
    "bottom_right": (1.0, 1.0),
}
"""Where the crop lies: the share of the spare rows above it and of the spare columns left of it."""

TEN_CROPS = "ten_crops"
SCALES = "scales"
D4 = "d4"
FLIP = "flip"

_SCALES_INPUT_SIZE = 331
_SCALES_RESIZES = (384, 412, 424, 436, 464)
_NAME = re.compile(
    rf"(?P<position>{'|'.join(POSITIONS)})(?:_(?P<resize>[1-9][0-9]*))?(?:_rot(?P<degrees>90|180|270))?"
    rf"(?P<flip>_{FLIP})?"
)


class Crop(NamedTuple):
    """A square that is cut out of a photo where photos are decoded."""

    position: str
    """One of POSITIONS."""
    resize: int
    """Side in pixels to which the photo is resized before."""


class View(NamedTuple):
    """A crop as the backbone sees it, made of the crop's pixels on the backbone's device."""

    crop: Crop
    mirrored: bool
    """Left becomes right, before the turn."""
    turns: int = 0
    """Quarter turns anticlockwise."""


def check_views(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names; ValueError with the known ones where one is unknown or there is none."""
    for name in names:
        if name not in (FLIP, TEN_CROPS, SCALES, D4) and not _NAME.fullmatch(name):
            raise ValueError(f"Expected a view, {_KNOWN}; received {name!r}.")
    if not names:
        raise ValueError(f"Expected at least one view, {_KNOWN}; received none.")
    return tuple(names)


def resolve_views(names: Sequence[str], *, input_size: int, resize: int) -> tuple[View, ...]:
    """Return the views that names stand for, in their order, each once, for one member's sizes in pixels.

    `ten_crops` is report C's: the centre and the four corners, each with its mirror image. `scales` is report
    A's: the centre of the photo at 384, 412, 424, 436 and 464 pixels for an input of 331, in proportion for
    other inputs. `d4` is the eight flips and rotations of the centre that report B tried, the dihedral group
    of the square. ValueError for an unknown name, and for a crop larger than its photo.
    """
    views = tuple(
        dict.fromkeys(
            view
            for name in check_views(names)
            for view in _expand(name, input_size=input_size, resize=resize)
        )
    )
    smallest = min(view.crop.resize for view in views)
    if smallest < input_size:
        raise ValueError(
            f"Expected views of photos resized to the input size of {input_size} pixels or more, received "
            f"{smallest} in {', '.join(names)}. An ensemble's views go to each member: choose sizes that fit "
            "the largest input."
        )
    return views


def distinct_crops(views: Sequence[View]) -> tuple[Crop, ...]:
    """Return the crops of views, each once, in their order."""
    return tuple(dict.fromkeys(view.crop for view in views))


def _expand(name: str, *, input_size: int, resize: int) -> Iterator[View]:
    if name == TEN_CROPS:
        for position in POSITIONS:
            for mirrored in (False, True):
                yield View(Crop(position, resize), mirrored)
    elif name == SCALES:
        for side in _SCALES_RESIZES:
            yield View(Crop("center", round(input_size * side / _SCALES_INPUT_SIZE)), mirrored=False)
    elif name == D4:
        for mirrored in (False, True):
            for turns in range(4):
                yield View(Crop("center", resize), mirrored, turns)
    elif name == FLIP:
        yield View(Crop("center", resize), mirrored=True)
    elif match := _NAME.fullmatch(name):
        own_resize = int(match["resize"]) if match["resize"] else resize
        turns = int(match["degrees"] or 0) // 90
        yield View(Crop(match["position"], own_resize), mirrored=match["flip"] is not None, turns=turns)


_KNOWN = (
    f"one of {', '.join(POSITIONS)}, each alone or with _<pixels> to resize the photo to first, _rot90, "
    f"_rot180 or _rot270 to turn it and _{FLIP} to mirror it (as in top_left, center_288, "
    f"center_288_rot90_{FLIP}), {FLIP} for center_{FLIP}, or the short forms {D4}, {TEN_CROPS} and {SCALES}"
)
