"""A real bundle that takes a tenth of a second to make: resnet10t at 32 pixels, random weights."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from imaging.storage import StoragePolicy
from recognition.backbones import Model, make_model
from recognition.bundle import MemberConfig, make_ensemble, save_member
from recognition.preprocessing import make_preprocessing
from tests.catalog.evidence_tables import with_content

CLASS_NAMES = ("apple", "banana", "cherry", "date", "elderberry", "fig")


def make_bundle(
    path: Path, *, seeds: Sequence[int] = (1, 2), class_names: Sequence[str] = CLASS_NAMES
) -> Path:
    """Write an ensemble's bundle of one member per seed; equal arguments give equal bytes."""
    members = {}
    for seed in seeds:
        name = f"member_{seed}"
        members[name] = path.parent / f"{path.name}_{name}"
        model = make_model("resnet10t", num_classes=len(class_names), initial_weights="random", seed=seed)
        _spread_answers(model)
        config = MemberConfig(
            name=name,
            backbone="resnet10t",
            num_classes=len(class_names),
            num_features=model.head.in_features,
            class_names=tuple(class_names),
            preprocessing=make_preprocessing(
                "resnet10t", input_size=32, resize=36, storage=StoragePolicy(max_side=96)
            ),
            initial_weights="random",
            fingerprint=f"fingerprint-{seed}",
        )
        save_member(members[name], model=model, config=config)
    make_ensemble(path, members=members, recipe="plain", merge="probabilities", views=("center", "flip"))
    return path


def _spread_answers(model: Model) -> None:
    """Scale and centre a fresh head, which would answer nearly the same for every photo."""
    noise = torch.rand(64, 3, 6, 8, generator=torch.Generator().manual_seed(0)).sub(0.45).div(0.225)
    with torch.inference_mode():
        features = model.eval().features(torch.nn.functional.interpolate(noise, size=(32, 32)))
    model.head.weight.data.mul_(100)
    model.head.bias.data = -(features.mean(dim=0) @ model.head.weight.data.T)


def draw_photo(seed: int, *, size: tuple[int, int] = (64, 48), kind: str = "JPEG") -> bytes:
    """A file of coloured noise, different for every seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.NEAREST).save(stream, kind)
    return stream.getvalue()


def make_predictions(
    *, right: int, photo_ids: Sequence[str] = ("p0", "p1", "p2", "p3", "p4", "p5")
) -> pl.DataFrame:
    """A predictions table: photo i has label i, and the first `right` photos are answered right.

    Another name has another content.
    """
    numbers = [int(photo_id[1:]) for photo_id in photo_ids]
    first = [number if number < right else (number + 1) % 6 for number in numbers]
    classes = [[best, *(other for other in range(6) if other != best)][:5] for best in first]
    table = pl.DataFrame(
        {
            "photo_id": list(photo_ids),
            "label": pl.Series(numbers, dtype=pl.Int32),
            "classes": pl.Series(classes, dtype=pl.List(pl.Int32)),
            "probabilities": pl.Series([[0.6, 0.1, 0.1, 0.1, 0.1]] * len(numbers), dtype=pl.List(pl.Float32)),
        }
    )
    return with_content(table)


def make_trained_on(*photo_ids: str, lists: Sequence[str] = ("full",)) -> pl.DataFrame:
    """A trained-on table of these photos, all learnt through the same lists."""
    photos = pl.DataFrame({"photo_id": photo_ids}, schema={"photo_id": pl.String})
    return with_content(photos).with_columns(lists=pl.lit(list(lists), dtype=pl.List(pl.String)))
