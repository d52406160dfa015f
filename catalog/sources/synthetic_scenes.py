"""Photograph a drawn package: put it somewhere, turn it, light it, blur it, and compress it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from catalog.sources.synthetic_packages import SPRITE_SIZE, draw_package
from catalog.sources.synthetic_products import Package

BACKGROUNDS = ("plain", "gradient", "shelf", "table", "clutter")


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """How much photos of one product differ from each other."""

    width: int
    height: int
    scale_min: float
    scale_max: float
    rotation_degrees: float
    perspective: float
    clutter: float
    light: float
    blur: float
    quality_min: int
    quality_max: int


def take_photo(
    package: Package, *, camera: CameraConfig, neighbours: Sequence[Package], rng: np.random.Generator
) -> bytes:
    """Draw one photo of a package as JPEG bytes; `neighbours` may stand beside it on a shelf."""
    kind = (
        BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
        if rng.random() < camera.clutter
        else BACKGROUNDS[rng.integers(2)]
    )
    scene = _draw_background(kind, camera, rng)
    scale = rng.uniform(camera.scale_min, camera.scale_max)
    if kind == "shelf":
        for side, package_beside in zip((-1, 1), neighbours, strict=False):
            _place(scene, package_beside, camera, rng, scale=scale, beside=side)
    _place(scene, package, camera, rng, scale=scale, beside=0)
    if rng.random() < 0.25 * camera.clutter:
        _occlude(scene, rng)
    pixels = _light(np.asarray(scene, dtype=np.float32), camera, rng)
    return _compress(Image.fromarray(pixels), camera, rng)


def _place(
    scene: Image.Image,
    package: Package,
    camera: CameraConfig,
    rng: np.random.Generator,
    *,
    scale: float,
    beside: int,
) -> None:
    """Paste a package with a random turn, tilt and shift; neighbours stand mostly outside the middle."""
    width, height = scene.size
    factor = scale * height / SPRITE_SIZE[1]
    angle = np.radians(rng.uniform(-1, 1) * camera.rotation_degrees * (0.3 if beside else 1.0))
    half_width, half_height = 0.5 * factor * SPRITE_SIZE[0], 0.5 * factor * SPRITE_SIZE[1]
    room_x, room_y = max(0.0, 0.5 * width - 0.75 * half_width), max(0.0, 0.5 * height - half_height)
    x = 0.5 * width + (beside * 1.5 * half_width if beside else rng.uniform(-0.6, 0.6) * room_x)
    y = 0.5 * height + rng.uniform(-0.8, 0.8) * room_y
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [half_width, half_height]
    corners = corners * (1 + rng.uniform(-1, 1, (4, 2)) * camera.perspective)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = corners @ turn + [x, y]
    coefficients = _perspective(corners)
    sprite = draw_package(package).transform(
        scene.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    )
    scene.paste(sprite, (0, 0), sprite)


def _perspective(corners: npt.NDArray[np.float64]) -> list[float]:
    """Pillow's eight coefficients, which map the scene's corners back to those of the drawn package."""
    width, height = SPRITE_SIZE
    targets = [(0, 0), (width, 0), (width, height), (0, height)]
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, targets, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values, dtype=np.float64))]


def _draw_background(kind: str, camera: CameraConfig, rng: np.random.Generator) -> Image.Image:
    width, height = camera.width, camera.height
    color = rng.uniform(60, 235, 3) * 0.4 + rng.uniform(70, 225) * 0.6
    if kind == "plain":
        return Image.new("RGB", (width, height), _rgb(color))
    other = np.clip(color + rng.uniform(-90, 90), 10, 245)
    if kind in ("gradient", "table"):
        ramp = np.linspace(0, 1, height)[:, None, None]
        pixels = np.broadcast_to(color * (1 - ramp) + other * ramp, (height, width, 3))
        scene = Image.fromarray(pixels.astype(np.uint8))
    else:
        scene = Image.new("RGB", (width, height), _rgb(color * 0.7))
    draw = ImageDraw.Draw(scene)
    if kind == "table":
        _draw_planks(draw, scene.size, color=other, rng=rng)
    elif kind == "shelf":
        _draw_shelf(draw, scene.size, color=other, rng=rng)
    elif kind == "clutter":
        _draw_clutter(draw, scene.size, rng=rng)
        scene = scene.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 3)))
    return scene


def _draw_planks(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    *,
    color: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    width, height = size
    top = int(height * rng.uniform(0.3, 0.75))
    wood = color * [0.9, 0.7, 0.5]
    for y in range(top, height, max(8, height // 14)):
        draw.rectangle((0, y, width, y + height // 14), fill=_rgb(wood * rng.uniform(0.8, 1.15)))
        draw.line((0, y, width, y), fill=_rgb(wood * 0.5), width=1)


def _draw_shelf(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    *,
    color: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    width, height = size
    for y in (int(height * rng.uniform(-0.02, 0.08)), int(height * rng.uniform(0.86, 0.97))):
        draw.rectangle((0, y, width, y + height // 12), fill=_rgb(color))
        draw.line((0, y, width, y), fill=(245, 245, 245), width=2)
        for x in range(int(rng.integers(0, 30)), width, 60):
            draw.rectangle((x, y + 3, x + 26, y + height // 14), fill=(250, 246, 214))
            draw.line((x + 4, y + 8, x + 20, y + 8), fill=(40, 40, 40), width=3)


def _draw_clutter(draw: ImageDraw.ImageDraw, size: tuple[int, int], *, rng: np.random.Generator) -> None:
    width, height = size
    for _ in range(int(rng.integers(8, 18))):
        x, y = rng.uniform(-0.1, 1) * width, rng.uniform(-0.1, 1) * height
        right, bottom = x + rng.uniform(0.1, 0.5) * width, y + rng.uniform(0.1, 0.5) * height
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, right, bottom), fill=_rgb(rng.uniform(20, 240, 3)))


def _occlude(scene: Image.Image, rng: np.random.Generator) -> None:
    """A thumb or a price tag over an edge of the picture."""
    width, height = scene.size
    draw = ImageDraw.Draw(scene)
    x = width * (rng.uniform(-0.12, 0.06) if rng.random() < 0.5 else rng.uniform(0.78, 0.96))
    y = height * rng.uniform(0.2, 0.9)
    if rng.random() < 0.5:
        skin = _rgb(np.array([224, 172, 138]) * rng.uniform(0.45, 1.1))
        draw.ellipse((x, y, x + 0.2 * width, y + 0.28 * height), fill=skin)
    else:
        draw.rectangle((x, y, x + 0.22 * width, y + 0.09 * height), fill=(252, 236, 90))
        draw.line(
            (x + 4, y + 0.045 * height, x + 0.17 * width, y + 0.045 * height), fill=(30, 30, 30), width=3
        )


def _light(
    pixels: npt.NDArray[np.float32], camera: CameraConfig, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Exposure, colour of the light, a falloff across the picture, and the sensor's noise."""
    height, width, _ = pixels.shape
    gain = np.exp(rng.uniform(-1, 1) * camera.light) * (1 + rng.uniform(-0.25, 0.25, 3) * camera.light)
    slope_x, slope_y = rng.uniform(-0.6, 0.6, 2) * camera.light
    ramp_x = np.linspace(-slope_x, slope_x, width, dtype=np.float32)[None, :, None]
    ramp_y = np.linspace(1 - slope_y, 1 + slope_y, height, dtype=np.float32)[:, None, None]
    lit = pixels * gain.astype(np.float32) * (ramp_x + ramp_y)
    noise = rng.standard_normal((height, width), dtype=np.float32) * np.float32(
        rng.uniform(0, 14) * camera.light
    )
    exposed: npt.NDArray[np.uint8] = np.clip(lit + noise[:, :, None], 0, 255).astype(np.uint8)
    return exposed


def _compress(photo: Image.Image, camera: CameraConfig, rng: np.random.Generator) -> bytes:
    radius = rng.uniform(0, camera.blur)
    if radius > 0.3:
        photo = photo.filter(ImageFilter.BoxBlur(radius))
    buffer = BytesIO()
    photo.save(buffer, "JPEG", quality=int(rng.integers(camera.quality_min, camera.quality_max + 1)))
    return buffer.getvalue()


def _rgb(color: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = np.clip(color, 0, 255).astype(int)
    return int(red), int(green), int(blue)
