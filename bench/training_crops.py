"""From a JPEG's bytes to a 224-pixel canvas: how fast each decoder and resizer is, how true its pixels are.

Called by bench.photo_store. Two ways, each as training and evaluation have them:

- canvas: the whole photo to 256 x 256, antialiased, then the centre 224: evaluation, serving and `flip`.
- crop: timm's random resized crop (35 to 100 % of the area) and a mirror half of the time:
  `resized_crop`. Every decoder gets the same boxes.

Each decoder has a process of its own, as in a loader that uses it, and a new one each round: in one process
what one leaves to the memory allocator speeds up another (Pillow by a third), and processes differ by luck.
One thread, processor time (a busy neighbour's share does not count), interleaved rounds, medians. The
differences are in grey levels, to Pillow's full decode and antialiased resize of the same box. In a scaled
decode (draft, ours) a random box snaps to whole decoded pixels: it is moved by up to half of one, which is
most of their difference in `crop`. `canvas` has no such box and shows the decoder alone.
"""

import io
import multiprocessing
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from recognition.preprocessing import Preprocessing
from training.augmentation import make_augmentation
from training.config import AugmentationConfig

CONFIG = AugmentationConfig(name="resized_crop")
PREPROCESSING = Preprocessing()
SIDE, RESIZE = PREPROCESSING.input_size, PREPROCESSING.resize
MARGIN = (RESIZE - SIDE) // 2
ENLARGED = 1200
REQUIRED = {"as they are": 2.0, f"{ENLARGED} pixels": 3.3}
BASELINE, OURS = "Pillow", "ours"

Box = tuple[int, int, int, int]
"""Top, left, height, width."""
MakeCanvas = Callable[[bytes], Tensor]


@dataclass(frozen=True)
class Contender:
    """One decoder and resizer, in both ways; each returns uint8 [3, 224, 224]."""

    name: str
    canvas: MakeCanvas
    crop: MakeCanvas


def _draw(width: int, height: int) -> Box:
    """timm's draw of a box, which looks at the size only."""
    outline = torch.empty((height, width), device="meta")
    box: Box = RandomResizedCropAndInterpolation.get_params(outline, CONFIG.scale, CONFIG.ratio)
    return box


def _mirror(canvas: Tensor) -> Tensor:
    return canvas.flip(-1) if random.random() < 0.5 else canvas


def _to_tensor(image: Image.Image) -> Tensor:
    canvas: Tensor = F.pil_to_tensor(image)
    return canvas


def _pillow_resize(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BILINEAR)


def _centre(image: Image.Image) -> Image.Image:
    return image.crop((MARGIN, MARGIN, MARGIN + SIDE, MARGIN + SIDE))


def _pillow_canvas(data: bytes) -> Tensor:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return _to_tensor(_centre(_pillow_resize(image, RESIZE)))


def _pillow_crop(data: bytes) -> Tensor:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    top, left, height, width = _draw(*image.size)
    cut = image.crop((left, top, left + width, top + height))
    return _mirror(_to_tensor(_pillow_resize(cut, SIDE)))


def _draft_canvas(data: bytes) -> Tensor:
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (RESIZE, RESIZE))
    return _to_tensor(_centre(_pillow_resize(image.convert("RGB"), RESIZE)))


def _draft_crop(data: bytes) -> Tensor:
    image = Image.open(io.BytesIO(data))
    full = image.size
    top, left, height, width = _draw(*full)
    needed = min(1, SIDE / min(height, width))
    image.draft("RGB", (int(full[0] * needed), int(full[1] * needed)))
    scale = image.width / full[0]
    left, top, right, bottom = (round(e * scale) for e in (left, top, left + width, top + height))
    return _mirror(_to_tensor(_pillow_resize(image.convert("RGB").crop((left, top, right, bottom)), SIDE)))


def _torchvision_decode(data: bytes) -> Tensor:
    pixels: Tensor = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
    return pixels


def _torchvision_canvas(data: bytes) -> Tensor:
    resized = F.resize(_torchvision_decode(data), [RESIZE, RESIZE], antialias=True)
    canvas: Tensor = F.center_crop(resized, [SIDE, SIDE])
    return canvas


def _torchvision_crop(data: bytes) -> Tensor:
    pixels = _torchvision_decode(data)
    box = _draw(pixels.shape[2], pixels.shape[1])
    return _mirror(F.resized_crop(pixels, *box, [SIDE, SIDE], antialias=True))


def _opencv(name: str, interpolation: int) -> Contender:
    def shrink(pixels: Any, side: int) -> Any:
        return cv2.resize(pixels, (side, side), interpolation=interpolation)

    def to_tensor(pixels: Any) -> Tensor:
        return torch.from_numpy(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)

    def canvas(data: bytes) -> Tensor:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        return to_tensor(shrink(pixels, RESIZE)[MARGIN : MARGIN + SIDE, MARGIN : MARGIN + SIDE])

    def crop(data: bytes) -> Tensor:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        top, left, height, width = _draw(pixels.shape[1], pixels.shape[0])
        return _mirror(to_tensor(shrink(pixels[top : top + height, left : left + width], SIDE)))

    return Contender(name, canvas, crop)


CONTENDERS = (
    Contender(BASELINE, _pillow_canvas, _pillow_crop),
    Contender("Pillow draft()", _draft_canvas, _draft_crop),
    Contender("torchvision", _torchvision_canvas, _torchvision_crop),
    _opencv("OpenCV linear", cv2.INTER_LINEAR),
    _opencv("OpenCV area", cv2.INTER_AREA),
    # what a training job builds
    Contender(
        OURS,
        make_augmentation(AugmentationConfig(name="none"), preprocessing=PREPROCESSING),
        make_augmentation(CONFIG, preprocessing=PREPROCESSING),
    ),
)


def enlarge(data: bytes) -> bytes:
    """The photo at a longer side of 1200 pixels, as a phone would have taken it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = ENLARGED / max(image.size)
    file = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure_speed(photos: Sequence[bytes], *, way: str, rounds: int) -> dict[str, float]:
    """Photos a second of processor time by contender, median of the rounds."""
    context = multiprocessing.get_context("forkserver")  # forks of a process that has decoded nothing
    context.set_forkserver_preload([__name__])
    speeds: dict[str, list[float]] = {contender.name: [] for contender in CONTENDERS}
    for seed in range(rounds):
        for name, measured in speeds.items():
            with context.Pool(1, _start, (photos, name, way)) as process:
                measured.append(process.apply(_make_all, (seed,)))
    return {name: statistics.median(measured) for name, measured in speeds.items()}


_photos: Sequence[bytes]
_make: MakeCanvas


def _start(photos: Sequence[bytes], name: str, way: str) -> None:
    """Pool initialiser: one contender, its photos, and a warm-up that does not count."""
    global _photos, _make
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.filterwarnings("ignore", message=".*decode_jpeg.*")  # torchvision announces its end each time
    _photos, _make = photos, getattr(next(found for found in CONTENDERS if found.name == name), way)
    for data in photos[:20]:
        _make(data)


def _make_all(seed: int) -> float:
    """Photos a second of processor time, with the boxes of a seed."""
    random.seed(seed)
    start = time.process_time()
    for data in _photos:
        _make(data)
    return len(_photos) / (time.process_time() - start)


def measure_fidelity(photos: Sequence[bytes], *, way: str) -> dict[str, tuple[float, int]]:
    """Mean and largest difference to Pillow's canvas in grey levels, by contender."""
    differences: dict[str, list[tuple[float, int]]] = {contender.name: [] for contender in CONTENDERS}
    for seed, data in enumerate(photos):
        canvases = {}
        for contender in CONTENDERS:
            random.seed(seed)
            canvases[contender.name] = getattr(contender, way)(data).to(torch.int16)
        for name, canvas in canvases.items():
            difference = (canvas - canvases[BASELINE]).abs()
            differences[name].append((difference.float().mean().item(), int(difference.max())))
    return {
        name: (statistics.mean(mean for mean, _ in found), max(largest for _, largest in found))
        for name, found in differences.items()
    }


def check_crops(photos: Sequence[bytes], console: Console, *, rounds: int) -> bool:
    """Measure and print both ways on the photos as they are and enlarged; True where both promises hold."""
    warnings.filterwarnings("ignore", message=".*decode_jpeg.*")
    large = [enlarge(data) for data in tqdm(photos[: -(-len(photos) // 4)], "enlarge", disable=None)]
    held = True
    for (size, required), data in zip(REQUIRED.items(), (photos, large), strict=True):
        for way in ("canvas", "crop"):
            speeds = measure_speed(data, way=way, rounds=rounds)
            differences = measure_fidelity(data, way=way)
            table = Table(title=f"{way}, {len(data)} photos {size}")
            for heading in ("", "photos/s a core", "times Pillow", "mean difference", "largest"):
                table.add_column(heading, justify="right" if heading else "left")
            for name, speed in speeds.items():
                mean, largest = differences[name]
                ratio = f"{speed / speeds[BASELINE]:.2f}"
                table.add_row(name, f"{speed:,.0f}", ratio, f"{mean:.2f}", str(largest))
            console.print(table)
            ratio_of_ours = speeds[OURS] / speeds[BASELINE]
            holds = ratio_of_ours >= required
            held &= holds
            console.print(
                f"{way}, {size}: ours {ratio_of_ours:.2f} times Pillow (at least {required}): "
                f"{'holds' if holds else 'DOES NOT HOLD'}\n"
            )
    return held
