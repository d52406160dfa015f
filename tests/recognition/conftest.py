"""Small real photos and bundles that the tests of this room share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imaging.storage import StoragePolicy
from recognition.backbones import Model, make_model
from recognition.bundle import MemberConfig, save_member
from recognition.member import LoadedMember
from recognition.preprocessing import Preprocessing

BACKBONE = "test_resnet"
CLASS_NAMES = ("apple", "bread", "cheese", "dates")


def draw(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """A photo with smooth shapes and fine detail, so that every resize and re-encoding shows."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = generator.integers(-20, 21, pixels.shape, dtype=np.int16)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def encode(image: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def member_config(
    model: Model, preprocessing: Preprocessing, *, name: str, class_names: tuple[str, ...]
) -> MemberConfig:
    return MemberConfig(
        name=name,
        backbone=BACKBONE,
        num_classes=len(class_names),
        num_features=model.head.in_features,
        class_names=class_names,
        preprocessing=preprocessing,
        initial_weights="random",
        fingerprint=f"fingerprint-{name}",
        normalize_features=model.normalize_features,
    )


def loaded(model: Model, preprocessing: Preprocessing, *, dtype: torch.dtype = torch.float32) -> LoadedMember:
    """A model as it answers, without a bundle around it."""
    class_names = tuple(map(str, range(model.head.out_features)))
    config = member_config(model, preprocessing, name="model", class_names=class_names)
    return LoadedMember.of(model, config, device="cpu", dtype=dtype)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models gain nothing from threads, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing(input_size=32, resize=36, storage=StoragePolicy(max_side=128))


@pytest.fixture
def make_member(tmp_path: Path, preprocessing: Preprocessing) -> Callable[..., Path]:
    """Write a member's bundle with random weights of a seed."""

    def make(
        name: str,
        *,
        seed: int = 0,
        class_names: tuple[str, ...] = CLASS_NAMES,
        member_preprocessing: Preprocessing = preprocessing,
        normalize_features: bool = False,
    ) -> Path:
        num_classes = len(class_names)
        model = make_model(BACKBONE, num_classes=num_classes, initial_weights="random", seed=seed)
        model.normalize_features = normalize_features
        config = member_config(model, member_preprocessing, name=name, class_names=class_names)
        path = tmp_path / "bundles" / name
        save_member(path, model=model, config=config)
        return path

    return make
