"""Photos that are drawn: the embedded data set, on which every step of Aisle runs without a download.

It has what makes product recognition hard, in known amounts: SKUs that differ in one detail, a long tail,
varied photographs, and wrong labels in train. The truth of each label is known, so refinement can be scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from catalog.sources import SetAside, SourceOptions, SourcePhoto
from catalog.sources.synthetic_products import MAX_BRANDS, Sku, make_skus
from catalog.sources.synthetic_products import MAX_SKUS_PER_BRAND as _PER_BRAND
from catalog.sources.synthetic_scenes import CameraConfig, take_photo

_SPLIT_CODES = {"train": 10, "val": 11, "test": 12}
_UNSEEN = 13
_DRAWING = 1  # to raise with every change of the drawing's code, so that stored photos are drawn again
_NUM_TRUSTED = 2  # the first photos of a SKU keep their label, so that every class has a true photo


class SyntheticConfig(SourceOptions):
    """How many products are drawn, how often each is photographed, and how hard the photos are."""

    num_skus: int = 40
    """Number of SKUs, which are the classes."""
    skus_per_brand: int = 4
    """SKUs of one brand, which differ in one detail only; 1 to 8."""
    photos_head: int = 120
    """Training photos of the most frequent SKU; the others fall off exponentially."""
    photos_tail: int = 15
    """Training photos of the rarest SKU."""
    photos_val: int = 5
    """Validation photos of every SKU."""
    photos_test: int = 10
    """Test photos of every SKU."""
    wrong_label_share: float = 0.2
    """Share of the training photos whose label is wrong; validation and test have none."""
    wrong_within_brand: float = 0.7
    """Share of the wrong labels that name another SKU of the same brand; the others name any SKU."""
    width: int = 160
    """Width of a photo in pixels."""
    height: int = 200
    """Height of a photo in pixels."""
    scale_min: float = 0.6
    """Smallest height of a package, as a share of the photo's."""
    scale_max: float = 0.95
    """Largest height of a package, as a share of the photo's."""
    rotation_degrees: float = 12.0
    """Largest turn of a package to either side."""
    perspective: float = 0.06
    """Largest shift of a package's corner, as a share of half its side."""
    clutter: float = 0.6
    """0: plain walls only; 1: shelves, tables, other products and things in front in most photos."""
    light: float = 0.35
    """Spread of exposure, colour of light, falloff and noise; 0 for a perfect studio."""
    blur: float = 1.0
    """Largest blur radius in pixels."""
    quality_min: int = 45
    """Lowest JPEG quality."""
    quality_max: int = 92
    """Highest JPEG quality."""
    seed: int = 0
    """Fixes products, photos and wrong labels."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        checks = {
            f"1 <= skus_per_brand <= {_PER_BRAND}": 1 <= self.skus_per_brand <= _PER_BRAND,
            f"2 <= num_skus <= {MAX_BRANDS} x skus_per_brand": (
                2 <= self.num_skus <= MAX_BRANDS * self.skus_per_brand
            ),
            "1 <= photos_tail <= photos_head": 1 <= self.photos_tail <= self.photos_head,
            "photos_val >= 0 and photos_test >= 0": min(self.photos_val, self.photos_test) >= 0,
            "0 <= wrong_label_share < 1": 0 <= self.wrong_label_share < 1,
            "0 <= wrong_within_brand <= 1": 0 <= self.wrong_within_brand <= 1,
            "width >= 32 and height >= 32": min(self.width, self.height) >= 32,
            "0 < scale_min <= scale_max <= 2": 0 < self.scale_min <= self.scale_max <= 2,
            "0 <= perspective <= 0.3": 0 <= self.perspective <= 0.3,
            "0 <= clutter <= 1 and 0 <= light <= 1": 0 <= self.clutter <= 1 and 0 <= self.light <= 1,
            "blur >= 0 and rotation_degrees >= 0": min(self.blur, self.rotation_degrees) >= 0,
            "1 <= quality_min <= quality_max <= 100": 1 <= self.quality_min <= self.quality_max <= 100,
            "seed >= 0": self.seed >= 0,
        }
        broken = [rule for rule, holds in checks.items() if not holds]
        if broken:
            raise ValueError(f"Expected a synthetic source with {'; '.join(broken)}, received {self}.")
        return self


@dataclass(frozen=True, kw_only=True)
class DrawnPhoto(SourcePhoto):
    """A photo that is drawn when it is read."""

    config: SyntheticConfig
    sku: int
    key: int
    """Tells the photos of one SKU apart."""
    domain: int
    """Keeps train, val, test and unseen photos apart."""

    def read(self) -> bytes:
        """The photo as JPEG bytes, always the same."""
        return _draw(self.config, sku=self.sku, key=self.key, domain=self.domain)

    def stamp(self) -> str:
        """A digest of everything that the drawing depends on."""
        return hashlib.sha256(
            f"{_config_digest(self.config)} {self.sku} {self.key} {self.domain}".encode()
        ).hexdigest()[:32]


class SyntheticSource:
    """The drawn photos of all splits; each split's photos are shuffled, so an id says nothing of the SKU."""

    layout = "synthetic"

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config
        skus = _assortment(config)
        self.class_names = [sku.name for sku in skus]
        self.coarse_of = {sku.name: sku.brand for sku in skus}
        self._train_counts = count_train_photos(config)

    def set_aside(self) -> Iterator[SetAside]:
        """Nothing: every photo is handed out."""
        return iter(())

    def __len__(self) -> int:
        config = self.config
        return int(self._train_counts.sum()) + config.num_skus * (config.photos_val + config.photos_test)

    def photos(self) -> Iterator[SourcePhoto]:
        """The photos of train, val and test."""
        ones = np.ones(self.config.num_skus, dtype=np.int64)
        yield from self._split_photos("train", self._train_counts)
        yield from self._split_photos("val", ones * self.config.photos_val)
        yield from self._split_photos("test", ones * self.config.photos_test)

    def _split_photos(self, split: str, counts: npt.NDArray[np.int64]) -> Iterator[SourcePhoto]:
        domain = _SPLIT_CODES[split]
        rng = np.random.default_rng([self.config.seed, 2, domain])
        skus = np.repeat(np.arange(len(counts)), counts)
        keys = np.concatenate([np.arange(count) for count in counts])
        labels = self._mislabel(skus, keys, rng) if split == "train" else skus
        for position, index in enumerate(rng.permutation(len(skus))):
            label, truth = self.class_names[labels[index]], self.class_names[skus[index]]
            yield DrawnPhoto(
                photo_id=f"{split}/{position:06d}.jpg",
                label=label,
                split=split,
                coarse_label=self.coarse_of[label],
                true_label=truth,
                config=self.config,
                sku=int(skus[index]),
                key=int(keys[index]),
                domain=domain,
            )

    def _mislabel(
        self, skus: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], rng: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        """Labels with exactly the configured share of wrong ones, as far as untrusted photos reach.

        A wrong label names a SKU as often as the SKU is photographed, so every class is about equally impure;
        equal chances would make the rarest classes mostly wrong.
        """
        labels = skus.copy()
        candidates = rng.permutation(np.flatnonzero(keys >= _NUM_TRUSTED))
        num_wrong = round(self.config.wrong_label_share * len(skus))
        brands = np.array([self.coarse_of[name] for name in self.class_names])
        for photo in candidates[:num_wrong]:
            sku = skus[photo]
            others = np.flatnonzero(np.arange(len(brands)) != sku)
            twins = others[brands[others] == brands[sku]]
            within_brand = rng.random() < self.config.wrong_within_brand and len(twins)
            choices = twins if within_brand else others
            frequency = self._train_counts[choices]
            labels[photo] = rng.choice(choices, p=frequency / frequency.sum())
        return labels


def count_train_photos(config: SyntheticConfig) -> npt.NDArray[np.int64]:
    """Training photos of each SKU `[num_skus]`: head·(tail/head)^(rank/(K-1)), ranks dealt at random."""
    ranks = np.random.default_rng([config.seed, 3]).permutation(config.num_skus)
    fall = (config.photos_tail / config.photos_head) ** (ranks / (config.num_skus - 1))
    return np.rint(config.photos_head * fall).astype(np.int64)


def draw_photo(config: SyntheticConfig, sku: int, seed: int) -> bytes:
    """A photo of a SKU (its class index) that is in no split, as JPEG bytes."""
    if not 0 <= sku < config.num_skus:
        raise ValueError(f"Expected a SKU of 0..{config.num_skus - 1}, received {sku}.")
    return _draw(config, sku=sku, key=seed, domain=_UNSEEN)


def _draw(config: SyntheticConfig, *, sku: int, key: int, domain: int) -> bytes:
    skus = _assortment(config)
    rng = np.random.default_rng([config.seed, domain, sku, key])
    neighbours = [skus[index].package for index in rng.integers(min(config.num_skus, 64), size=2)]
    return take_photo(skus[sku].package, camera=_camera(config), neighbours=neighbours, rng=rng)


@lru_cache(maxsize=4)
def _config_digest(config: SyntheticConfig) -> str:
    return hashlib.sha256(f"{_DRAWING} {config!r}".encode()).hexdigest()


@lru_cache(maxsize=4)
def _assortment(config: SyntheticConfig) -> list[Sku]:
    return make_skus(config.num_skus, skus_per_brand=config.skus_per_brand, seed=config.seed)


@lru_cache(maxsize=4)
def _camera(config: SyntheticConfig) -> CameraConfig:
    return CameraConfig(**{field.name: getattr(config, field.name) for field in fields(CameraConfig)})
