"""The invented assortment: brands, and SKUs of one brand that differ in a single detail.

Fine-grained recognition is hard because the shelf is full of near twins. Here a brand fixes everything that a
package shows, except one detail that names its SKUs: the flavour stripe, the printed size, a badge or the
colour of the cap.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace

import numpy as np

Color = tuple[int, int, int]

_STARTS = "Nor Al Bel Cas Del Fen Gra Hel Jun Kor Lum Mar Oli Pra Quin Ros Sol Tav Ver Wil Zan Bri Cor Dal"
_ENDS = "vik ba dora ton mira ello via nello wick tana field ora co stad leaf rio mont sana berg way"
SHAPES = ("box", "carton", "bottle", "jar", "can", "pouch")
EMBLEMS = ("ellipse", "panel", "ribbon", "shield")
MOTIFS = ("discs", "leaves", "drops", "wheat", "berries", "waves")
LAYOUTS = ("plain", "halves", "diagonal", "hill", "frame")
_CAPPED = ("carton", "bottle", "jar")

_PRODUCTS = {  # product: packages it is sold in, then its flavours' theme
    "Crackers": (("box", "pouch"), "savoury"),
    "Chips": (("pouch", "can"), "savoury"),
    "Soup": (("can", "carton", "pouch"), "savoury"),
    "Pasta Sauce": (("jar", "can"), "savoury"),
    "Cookies": (("box", "pouch"), "sweet"),
    "Cereal": (("box",), "sweet"),
    "Juice": (("carton", "bottle"), "sweet"),
    "Jam": (("jar",), "sweet"),
    "Tea": (("box", "pouch"), "sweet"),
    "Yoghurt": (("carton", "bottle", "jar"), "sweet"),
    "Shampoo": (("bottle",), "scent"),
    "Detergent": (("bottle", "box"), "scent"),
}
_FLAVOURS: dict[str, tuple[tuple[str, Color], ...]] = {
    "savoury": (
        ("Paprika", (206, 44, 30)),
        ("Sea Salt", (48, 112, 196)),
        ("Herbs", (52, 140, 58)),
        ("Onion", (128, 60, 150)),
        ("Cheese", (240, 190, 30)),
        ("Pepper", (40, 40, 44)),
        ("Chili", (236, 110, 24)),
        ("Garlic", (226, 222, 206)),
    ),
    "sweet": (
        ("Strawberry", (216, 40, 70)),
        ("Blueberry", (62, 76, 176)),
        ("Apple", (110, 176, 52)),
        ("Orange", (244, 136, 20)),
        ("Lemon", (246, 216, 40)),
        ("Cherry", (130, 16, 44)),
        ("Vanilla", (238, 226, 188)),
        ("Cocoa", (96, 58, 34)),
    ),
    "scent": (
        ("Rose", (230, 110, 150)),
        ("Ocean", (30, 120, 190)),
        ("Aloe", (70, 160, 90)),
        ("Lavender", (146, 112, 196)),
        ("Citrus", (244, 200, 40)),
        ("Cotton", (228, 232, 238)),
        ("Amber", (206, 120, 40)),
        ("Charcoal", (52, 54, 60)),
    ),
}
_SIZES = ("200g", "500g", "1kg", "350g", "750g", "2kg", "100g", "1.5kg")
_BADGES: tuple[tuple[str, str, Color], ...] = (
    ("Classic", "", (0, 0, 0)),
    ("Bio", "BIO", (40, 150, 60)),
    ("Zero", "0%", (40, 100, 210)),
    ("New Recipe", "NEW", (222, 40, 40)),
    ("Kids", "KIDS", (232, 90, 170)),
    ("Extra", "XL", (244, 150, 20)),
    ("Protein", "PRO", (100, 50, 150)),
    ("Vegan", "VEG", (20, 90, 50)),
)
_CAPS: tuple[tuple[str, Color], ...] = (
    ("Royal", (204, 36, 40)),
    ("Light", (70, 160, 224)),
    ("Natural", (214, 186, 120)),
    ("Mild", (60, 156, 70)),
    ("Intense", (40, 40, 46)),
    ("Family", (124, 66, 156)),
    ("Summer", (248, 206, 40)),
    ("Pure", (236, 236, 236)),
)
DETAILS = ("flavour", "size", "badge", "cap")
MAX_SKUS_PER_BRAND = len(_SIZES)
MAX_BRANDS = len(_STARTS.split()) * len(_ENDS.split())


@dataclass(frozen=True, kw_only=True)
class Package:
    """Everything that a package shows."""

    shape: str
    layout: str
    base: Color
    second: Color
    ink: Color
    emblem: str
    emblem_color: Color
    brand_text: str
    product_text: str
    motif: str
    motif_color: Color
    flavour_text: str
    flavour_color: Color
    size_text: str
    badge_text: str
    badge_color: Color
    cap_color: Color


@dataclass(frozen=True, kw_only=True)
class Sku:
    """A sellable product: its readable name, its brand, and its package."""

    name: str
    brand: str
    package: Package


def make_skus(num_skus: int, *, skus_per_brand: int, seed: int) -> list[Sku]:
    """Invent an assortment, brand by brand; equal arguments give equal products."""
    rng = np.random.default_rng([seed, 1])
    names = [start + end for start in _STARTS.split() for end in _ENDS.split()]
    brands = rng.permutation(len(names))
    skus: list[Sku] = []
    for brand_index in range(-(-num_skus // skus_per_brand)):
        brand = names[brands[brand_index]]
        detail = DETAILS[brand_index % len(DETAILS)]
        skus.extend(_make_brand(brand, detail=detail, num_skus=skus_per_brand, rng=rng))
    return skus[:num_skus]


def _make_brand(brand: str, *, detail: str, num_skus: int, rng: np.random.Generator) -> list[Sku]:
    products = [p for p, (shapes, _) in _PRODUCTS.items() if detail != "cap" or set(shapes) & set(_CAPPED)]
    product = products[rng.integers(len(products))]
    shapes, theme = _PRODUCTS[product]
    shapes = tuple(shape for shape in shapes if detail != "cap" or shape in _CAPPED)
    flavours = _FLAVOURS[theme]
    flavour, flavour_color = flavours[rng.integers(len(flavours))]
    size = _SIZES[rng.integers(len(_SIZES))]
    package = _design(brand, product=product, shape=shapes[rng.integers(len(shapes))], rng=rng)
    package = replace(package, flavour_text=flavour, flavour_color=flavour_color, size_text=size)
    order = rng.permutation(MAX_SKUS_PER_BRAND)[:num_skus]
    skus = []
    for choice in order:
        word = {"flavour": flavours[choice][0], "size": flavour, "badge": _BADGES[choice][0]}
        name_size = _SIZES[choice] if detail == "size" else size
        name = f"{brand} {product} {word.get(detail, _CAPS[choice][0])} {name_size}"
        skus.append(
            Sku(name=name, brand=brand, package=_vary(package, detail=detail, choice=choice, theme=theme))
        )
    return skus


def _vary(package: Package, *, detail: str, choice: int, theme: str) -> Package:
    """The brand's package with the one detail that makes the SKU."""
    if detail == "flavour":
        text, color = _FLAVOURS[theme][choice]
        return replace(package, flavour_text=text, flavour_color=color)
    if detail == "size":
        return replace(package, size_text=_SIZES[choice])
    if detail == "badge":
        _, text, color = _BADGES[choice]
        return replace(package, badge_text=text, badge_color=color)
    return replace(package, cap_color=_CAPS[choice][1])


def _design(brand: str, *, product: str, shape: str, rng: np.random.Generator) -> Package:
    """What all SKUs of a brand share: shape, colours, emblem, picture; the details are filled in later."""
    hue = rng.random()
    pale = rng.random() < 0.35
    base = (
        _color(hue, rng.uniform(0.1, 0.3), rng.uniform(0.85, 0.97))
        if pale
        else _color(hue, rng.uniform(0.55, 0.9), rng.uniform(0.45, 0.85))
    )
    second = _color(hue + rng.uniform(0.2, 0.8), rng.uniform(0.4, 0.9), rng.uniform(0.5, 0.95))
    dark_emblem = pale or rng.random() < 0.3
    ink = (250, 248, 240) if dark_emblem else _color(hue + rng.uniform(-0.1, 0.1), 0.85, 0.35)
    emblem_color = _color(hue + rng.uniform(0.3, 0.7), 0.8, 0.45) if dark_emblem else (250, 246, 236)
    badge = _BADGES[rng.integers(1, len(_BADGES))] if rng.random() < 0.4 else _BADGES[0]
    return Package(
        shape=shape,
        layout=_pick(LAYOUTS, rng),
        base=base,
        second=second,
        ink=ink,
        emblem=_pick(EMBLEMS, rng),
        emblem_color=emblem_color,
        brand_text=brand,
        product_text=product,
        motif=_pick(MOTIFS, rng),
        motif_color=_color(rng.random(), rng.uniform(0.5, 0.9), rng.uniform(0.6, 0.95)),
        flavour_text="",
        flavour_color=base,
        size_text="",
        badge_text=badge[1],
        badge_color=badge[2],
        cap_color=_CAPS[rng.integers(len(_CAPS))][1],
    )


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[rng.integers(len(choices))]


def _color(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
