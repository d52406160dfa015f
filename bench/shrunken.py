"""Recipes small enough to run in seconds: few synthetic images in AliProducts' layout, an epoch, 32 pixels.

What a recipe does stays as it is: its phases and their graph, samplers, objectives, losses, lists and views.
bench.rows runs every row of docs/recipes.md like this, the tests a recipe each.
"""

import json
import re
from pathlib import Path

import yaml

from catalog.sources.synthetic import SyntheticConfig, draw_photo

CONF = Path(__file__).parent.parent / "conf"
DRAWN = SyntheticConfig(num_skus=6, skus_per_brand=3, width=72, height=84)
NUM_TRAIN, NUM_VAL, NUM_TEST = (20, 16, 12, 9, 7, 6), 3, 6
INPUT_SIZE, RESIZE = 32, 40
FULL_INPUT_SIZE = 331
"""The input for which docs/recipes.md names sizes of views."""

OVERRIDES = (
    "data=aliproducts",
    "size=study",
    "data.split.holdout_share=0.2",
    f"recipe.phases.*.input_size={INPUT_SIZE}",
    f"recipe.phases.*.resize={RESIZE}",
    "recipe.phases.*.batch_size=16",
    "recipe.phases.*.epochs=1",
    "recipe.phases.*.schedule.warmup_epochs=0",
)
OVERRIDES_OF = {
    "loss_guided": ("recipe.refinements.low_loss.keep=5", "recipe.refinements.low_loss_2.keep=5"),
    "winner": (
        "recipe.lists.balanced.per_class=8",
        "recipe.defaults.schedule.shares=[[0.4,0.1],[0.6,0.01]]",
        "recipe.defaults.augmentation.cutout=8",
        *(  # DCL cuts a photo into 7 x 7
            f"recipe.phases.dcl_{backbone}.{key}"
            for backbone in ("resnet50", "se_resnext50")
            for key in ("input_size=70", "resize=80", "batch_size=8")
        ),
        "recipe.phases.lio_resnet50.batch_size=8",
    ),
    "rebalanced": (
        "recipe.defaults.schedule.milestones=[0.4,0.6,0.8]",
        "recipe.phases.class_balanced.schedule.shares=[[0.5,0.2]]",
    ),
}
"""What else must be small, by recipe."""


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


def shrink(choice: str) -> list[str]:
    """The overrides of recipe=NAME or experiment=RECIPE/NAME at this size; views shrink with the input."""
    kind, name = choice.split("=")
    recipe = name.split("/")[0]
    overrides = [choice, *OVERRIDES, *OVERRIDES_OF.get(recipe, ())]
    if kind == "recipe":
        return overrides
    own = yaml.safe_load((CONF / kind / f"{name}.yaml").read_text(encoding="utf-8"))["recipe"]
    for phase, values in own.get("phases", {}).items():
        if "epochs" in values:  # 0 where nothing is trained
            overrides.append(f"recipe.phases.{phase}.epochs={values['epochs']}")
    views = own.get("ensemble", {}).get("views", [])
    scaled = [
        re.sub(r"center_(\d+)", lambda found: f"center_{_scale(int(found[1]))}", view) for view in views
    ]
    return [*overrides, f"recipe.ensemble.views=[{','.join(scaled)}]"] if views else overrides


def _scale(pixels: int) -> int:
    return max(INPUT_SIZE, round(pixels * INPUT_SIZE / FULL_INPUT_SIZE))
