"""Recipes small enough to run in seconds: few synthetic images in AliProducts' layout, an epoch, 32 pixels.

What a recipe does stays as it is: its phases and their graph, samplers, objectives, losses, lists and views.
bench.rows runs every row of docs/recipes.md like this, the tests a recipe each.
"""

import json
import re
import shlex
from pathlib import Path

from catalog.sources.synthetic import SyntheticConfig, draw_photo

DRAWN = SyntheticConfig(num_skus=6, skus_per_brand=3, width=72, height=84)
NUM_TRAIN, NUM_VAL, NUM_TEST = (20, 16, 12, 9, 7, 6), 3, 6
INPUT_SIZE, RESIZE = 32, 40
FULL_INPUT_SIZE = 331
"""The input for which docs/recipes.md names sizes of views."""

OVERRIDES = (
    "data=aliproducts",
    "size=study",
    "data.split.holdout_share=0.2",
    f"size.input_size={INPUT_SIZE}",
    f"size.resize={RESIZE}",
    "size.batch_size=16",
    "size.epochs=1",
    "size.record_epochs=1",
    "size.fine_tune_epochs=1",
    "size.accuracy_epochs=1",
    "size.first_milestone=0.4",
    "size.second_milestone=0.6",
    "size.third_milestone=0.8",
    "size.fine_tune_milestone=0.5",
    "size.warmup_epochs=0",
    "size.cutout=8",
    "size.keep=5",
    "size.balanced_per_class=8",
    "size.dcl_batch_size=8",
    "size.lio_batch_size=8",
)


def make_photos(folder: Path) -> None:
    """Write train, val and an unlabelled test of six classes in two groups, in AliProducts' layout."""
    classes = [f"{sku:05}" for sku in range(DRAWN.num_skus)]
    for split, counts in (("train", NUM_TRAIN), ("val", (NUM_VAL,) * len(classes))):
        images = []
        for sku, (class_id, count) in enumerate(zip(classes, counts, strict=True)):
            (folder / split / class_id).mkdir(parents=True)
            for number in range(count):
                seed = number + (1000 if split == "val" else 0)
                photo = draw_photo(DRAWN, sku=sku, seed=seed)
                (folder / split / class_id / f"{seed}.jpg").write_bytes(photo)
                images.append({"class_id": class_id, "image_id": f"{seed}.jpg"})
        (folder / f"{split}.json").write_text(json.dumps({"images": images}), encoding="utf-8")
    (folder / "test").mkdir()
    for number in range(NUM_TEST):
        photo = draw_photo(DRAWN, sku=number % len(classes), seed=2000 + number)
        (folder / "test" / f"{number}.jpg").write_bytes(photo)
    test = {"images": [{"image_id": f"{number}.jpg"} for number in range(NUM_TEST)]}
    (folder / "test.json").write_text(json.dumps(test), encoding="utf-8")
    tree = {"first": classes[:3], "second": classes[3:]}
    (folder / "product_tree.json").write_text(json.dumps(tree), encoding="utf-8")


def shrink(setting: str) -> list[str]:
    """The overrides of a row of docs/recipes.md at this size: its pixels go down with the input's."""
    kept = [part for part in shlex.split(setting) if not re.search(r"\.(input_size|resize)=", part)]
    scaled = [
        re.sub(r"center_(\d+)", lambda found: f"center_{_scale(int(found[1]))}", part)
        if part.startswith("recipe.ensemble.views=")
        else part
        for part in kept
    ]
    return [*OVERRIDES, *scaled]


def _scale(pixels: int) -> int:
    return max(INPUT_SIZE, round(pixels * INPUT_SIZE / FULL_INPUT_SIZE))
