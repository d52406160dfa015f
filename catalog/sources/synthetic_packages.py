"""Draw the package of a synthetic SKU once, as a picture with transparency that every photo of it reuses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from catalog.sources.synthetic_products import Color, Package

SPRITE_SIZE = (160, 200)
"""Width and height of a drawn package with its margin, in pixels."""
_DRAWN_TIMES = 3  # drawn larger and reduced, so that edges and letters are smooth
_WIDTH, _HEIGHT = SPRITE_SIZE[0] * _DRAWN_TIMES, SPRITE_SIZE[1] * _DRAWN_TIMES
_FLAT_SHAPES = ("box", "carton", "pouch")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in pixels of the large drawing."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The point at the given shares of width and height."""
        return self.left + x * self.width, self.top + y * self.height

    def part(self, left: float, top: float, right: float, bottom: float) -> Box:
        """The part between the given shares of width and height."""
        (x0, y0), (x1, y1) = self.at(left, top), self.at(right, bottom)
        return Box(left=x0, top=y0, right=x1, bottom=y1)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        return self.left, self.top, self.right, self.bottom


# Left, top, right, bottom of the body in shares of the large drawing: what is not body is cap, or margin.
_BODIES = {
    "box": (0.16, 0.06, 0.84, 0.94),
    "carton": (0.2, 0.22, 0.8, 0.95),
    "bottle": (0.24, 0.24, 0.76, 0.96),
    "jar": (0.15, 0.24, 0.85, 0.93),
    "can": (0.2, 0.08, 0.8, 0.94),
    "pouch": (0.14, 0.06, 0.86, 0.95),
}


@lru_cache(maxsize=512)
def draw_package(package: Package) -> Image.Image:
    """The package on a transparent ground with a soft shadow, RGBA of SPRITE_SIZE."""
    whole = Box(left=0, top=0, right=_WIDTH, bottom=_HEIGHT)
    body = whole.part(*_BODIES[package.shape])
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), package.base)
    draw = ImageDraw.Draw(picture)
    _draw_layout(draw, package, body)
    face = body.part(0, 0, 0.88, 1) if package.shape == "box" else body
    _draw_face(draw, package, face)
    mask = Image.new("L", (_WIDTH, _HEIGHT), 0)
    _draw_outline(ImageDraw.Draw(mask), draw, package, body)
    shaded = _shade(picture, package.shape, body)
    return _with_shadow(shaded, mask)


def _draw_outline(mask: ImageDraw.ImageDraw, draw: ImageDraw.ImageDraw, package: Package, body: Box) -> None:
    """Fill the silhouette in the mask, and paint cap, lid or gable into the picture."""
    shape, cap, metal = package.shape, package.cap_color, (196, 198, 204)
    if shape == "box":
        mask.rectangle(body.corners, fill=255)
    elif shape == "pouch":
        teeth = [body.at(i / 24, 0.012 * (i % 2)) for i in range(25)]
        teeth += [body.at(1 - 0.035 * np.sin(np.pi * i / 8), i / 8) for i in range(1, 8)]
        teeth += [body.at(1 - i / 24, 1 - 0.012 * (i % 2)) for i in range(25)]
        teeth += [body.at(0.035 * np.sin(np.pi * i / 8), 1 - i / 8) for i in range(1, 8)]
        mask.polygon(teeth, fill=255)
    elif shape == "can":
        for part in (body.part(0, 0.03, 1, 0.97), body.part(0, 0, 1, 0.08), body.part(0, 0.92, 1, 1)):
            (mask.rectangle if part.height > 0.5 * body.height else mask.ellipse)(part.corners, fill=255)
        draw.ellipse(body.part(0, 0, 1, 0.08).corners, fill=metal, outline=(120, 122, 130), width=4)
    elif shape == "jar":
        mask.rounded_rectangle(body.corners, radius=0.1 * body.width, fill=255)
        lid = body.part(0.04, -0.22, 0.96, 0.02)
        mask.rounded_rectangle(lid.corners, radius=14, fill=255)
        draw.rectangle(lid.part(-0.1, 0, 1.1, 1).corners, fill=cap)
    elif shape == "carton":
        mask.rectangle(body.corners, fill=255)
        gable = [body.at(0, 0.01), body.at(0.14, -0.2), body.at(0.86, -0.2), body.at(1, 0.01)]
        mask.polygon(gable, fill=255)
        draw.polygon(gable, fill=package.base, outline=(90, 90, 90))
        knob = body.part(0.3, -0.22, 0.7, -0.03)
        mask.rounded_rectangle(knob.corners, radius=16, fill=255)
        draw.rounded_rectangle(knob.corners, radius=16, fill=cap, outline=(70, 70, 70), width=3)
    else:
        mask.rounded_rectangle(body.corners, radius=0.16 * body.width, fill=255)
        neck = body.part(0.28, -0.16, 0.72, 0.08)
        mask.polygon([neck.at(0, 0), neck.at(1, 0), body.at(0.94, 0.1), body.at(0.06, 0.1)], fill=255)
        top = body.part(0.24, -0.29, 0.76, -0.09)
        mask.rounded_rectangle(top.corners, radius=12, fill=255)
        draw.rectangle(top.part(-0.1, 0, 1.1, 1).corners, fill=cap)


def _draw_layout(draw: ImageDraw.ImageDraw, package: Package, body: Box) -> None:
    """The brand's large areas of colour."""
    second = package.second
    if package.layout == "halves":
        draw.rectangle(body.part(0, 0.45, 1, 1).corners, fill=second)
    elif package.layout == "diagonal":
        draw.polygon([body.at(0, 0.7), body.at(1, 0.3), body.at(1, 1), body.at(0, 1)], fill=second)
    elif package.layout == "hill":
        draw.ellipse(body.part(-0.5, 0.45, 1.5, 1.6).corners, fill=second)
    elif package.layout == "frame":
        draw.rectangle(body.corners, fill=second)
        draw.rectangle(body.part(0.07, 0.05, 0.93, 0.95).corners, fill=package.base)


def _draw_face(draw: ImageDraw.ImageDraw, package: Package, face: Box) -> None:
    """What is printed: brand, product, picture, flavour stripe, size, badge, small print."""
    _draw_emblem(draw, package, face.part(0.06, 0.05, 0.94, 0.27))
    _text(draw, package.product_text.upper(), face.part(0.1, 0.28, 0.9, 0.36), _contrast(package.base))
    _draw_motif(draw, package, face.part(0.08, 0.37, 0.92, 0.62))
    stripe = face.part(0, 0.62, 1, 0.76)
    draw.rectangle(stripe.corners, fill=package.flavour_color)
    _text(draw, package.flavour_text, stripe.part(0.06, 0.1, 0.94, 0.9), _contrast(package.flavour_color))
    size = face.part(0.3, 0.775, 0.97, 0.965)
    draw.rounded_rectangle(size.corners, radius=0.25 * size.height, fill=(252, 250, 244))
    _text(draw, package.size_text, size.part(0.06, 0.08, 0.94, 0.9), (24, 24, 30))
    for line in range(4):
        bar = face.part(0.05, 0.8 + 0.035 * line, 0.26 - 0.04 * (line % 2), 0.815 + 0.035 * line)
        draw.rectangle(bar.corners, fill=_contrast(package.base))
    if package.badge_text:
        _draw_badge(draw, package, face)


def _draw_emblem(draw: ImageDraw.ImageDraw, package: Package, area: Box) -> None:
    color, edge = package.emblem_color, package.second
    if package.emblem == "ellipse":
        draw.ellipse(area.corners, fill=color, outline=edge, width=5)
    elif package.emblem == "panel":
        draw.rounded_rectangle(area.corners, radius=18, fill=color)
    elif package.emblem == "ribbon":
        middle = [area.at(0, 0.1), area.at(1, 0.1), area.at(0.92, 0.5), area.at(1, 0.9)]
        draw.polygon([*middle, area.at(0, 0.9), area.at(0.08, 0.5)], fill=color)
    else:
        top = [area.at(0.05, 0), area.at(0.95, 0), area.at(0.95, 0.65)]
        draw.polygon([*top, area.at(0.5, 1.1), area.at(0.05, 0.65)], fill=color, outline=edge)
    _text(draw, package.brand_text, area.part(0.12, 0.15, 0.88, 0.8), package.ink)


def _draw_motif(draw: ImageDraw.ImageDraw, package: Package, area: Box) -> None:
    """A picture of the contents, the same for all SKUs of a brand."""
    color, dark = package.motif_color, _darker(package.motif_color)
    radius = 0.36 * area.height
    for index in range(5):
        x, y = area.at(0.14 + 0.18 * index, 0.5 + (0.16 if index % 2 else -0.12))
        around = (x - radius, y - radius, x + radius, y + radius)
        if package.motif == "discs":
            draw.ellipse(around, fill=color, outline=dark, width=5)
            draw.ellipse((x - 0.3 * radius, y - 0.3 * radius, x, y), fill=dark)
        elif package.motif == "leaves":
            draw.pieslice(around, 20 + 30 * index, 140 + 30 * index, fill=color, outline=dark, width=4)
        elif package.motif == "drops":
            draw.polygon([(x - 0.6 * radius, y), (x, y - 1.3 * radius), (x + 0.6 * radius, y)], fill=color)
            draw.ellipse((x - 0.66 * radius, y - 0.5 * radius, x + 0.66 * radius, y + radius), fill=color)
        elif package.motif == "wheat":
            draw.line((x, y + radius, x, y - radius), fill=dark, width=6)
            for step in range(4):
                grain = y - radius + 0.45 * step * radius
                draw.ellipse((x - 0.5 * radius, grain, x, grain + 0.4 * radius), fill=color)
                draw.ellipse((x, grain, x + 0.5 * radius, grain + 0.4 * radius), fill=color)
        elif package.motif == "berries":
            for dx, dy in ((-0.4, 0.2), (0.4, 0.2), (0.0, -0.4)):
                berry = (x + (dx - 0.45) * radius, y + (dy - 0.45) * radius)
                draw.ellipse(
                    (*berry, berry[0] + 0.9 * radius, berry[1] + 0.9 * radius), fill=color, outline=dark
                )
        else:
            draw.arc(around, 180, 360, fill=color, width=16)


def _draw_badge(draw: ImageDraw.ImageDraw, package: Package, face: Box) -> None:
    """A starburst over the picture's upper right corner."""
    x, y = face.at(0.78, 0.42)
    radius = 0.23 * face.width
    angles = np.arange(28) * np.pi / 14
    reach = np.where(np.arange(28) % 2, 0.84, 1.0) * radius
    points = [(x + r * np.cos(a), y + r * np.sin(a)) for a, r in zip(angles, reach, strict=True)]
    draw.polygon(points, fill=package.badge_color, outline=(255, 255, 255))
    inner = 0.72 * radius
    area = Box(left=x - inner, top=y - inner, right=x + inner, bottom=y + inner)
    _text(draw, package.badge_text, area, (255, 255, 255))


def _shade(picture: Image.Image, shape: str, body: Box) -> Image.Image:
    """Light on the body: a cylinder darkens to its sides, a box has a side face, a pouch has folds."""
    x = (np.arange(_WIDTH) - body.left) / body.width
    if shape in ("bottle", "can", "jar"):
        light = (
            0.55
            + 0.5 * np.sqrt(np.clip(1 - (2 * x - 0.9) ** 2, 0, 1))
            + 0.18 * np.exp(-(((x - 0.25) / 0.06) ** 2))
        )
    elif shape == "pouch":
        light = 1 + 0.09 * np.sin(9 * x) + 0.06 * np.sin(23 * x + 1)
    else:
        light = np.where(x > 0.88, 0.6, 1.0) if shape == "box" else 1.03 - 0.12 * x
    shaded = np.asarray(picture, dtype=np.float32) * light[None, :, None]
    return Image.fromarray(np.clip(shaded, 0, 255).astype(np.uint8))


def _with_shadow(picture: Image.Image, mask: Image.Image) -> Image.Image:
    small = picture.reduce(_DRAWN_TIMES)
    cover = mask.reduce(_DRAWN_TIMES)
    soft = cover.filter(ImageFilter.GaussianBlur(5)).point(lambda value: int(0.45 * value))
    shadow = Image.new("RGBA", SPRITE_SIZE, (0, 0, 0, 0))
    shadow.putalpha(soft)
    small.putalpha(cover)
    return Image.alpha_composite(shadow, small)


def _text(draw: ImageDraw.ImageDraw, text: str, area: Box, color: Color) -> None:
    """Write as large as fits, centred."""
    font = _font(int(area.height))
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, stroke_width=1)
    shrink = min(1.0, area.width / max(1, right - left), area.height / max(1, bottom - top))
    font = _font(max(6, int(shrink * area.height)))
    draw.text(area.at(0.5, 0.5), text, fill=color, font=font, anchor="mm", stroke_width=1, stroke_fill=color)


@lru_cache(maxsize=128)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _contrast(color: Color) -> Color:
    """Ink that is readable on a colour."""
    bright = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2]
    return (30, 28, 34) if bright > 140 else (252, 250, 244)


def _darker(color: Color) -> Color:
    return color[0] * 6 // 10, color[1] * 6 // 10, color[2] * 6 // 10
