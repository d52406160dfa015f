from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from catalog.splits import SplitConfig, make_splits
from catalog.units import unit_keys
from tests.catalog.evidence_tables import with_content

NAMES = [f"class {number}" for number in range(6)]
CONFIG = SplitConfig(
    method="stratified", val_share=0.25, test_share=0.25, holdout_share=0.3, min_train_per_class=3
)


def _photos(rows):
    """Photos of (photo_id, group, sha256)."""
    schema = {"photo_id": pl.String, "group": pl.String, "sha256": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _keys(rows, *, copies_together=True):
    return unit_keys(_photos(rows), copies_together=copies_together).tolist()


def _split(photos, *, config=CONFIG, seed=0):
    splits = make_splits(photos, class_names=NAMES, coarse_of={}, config=config, seed=seed)
    return photos.select("photo_id", "unit").join(splits, on="photo_id", maintain_order="left")


def _draw_photos(seed, *, count=600, num_classes=6):
    """Photos of random classes in units: every third is a group, the others are copies of one photo."""
    random = np.random.default_rng(seed)
    units = random.integers(0, 200, count)
    labels = random.choice(
        num_classes, count, p=np.arange(1, num_classes + 1) / (num_classes + 1) / num_classes * 2
    )
    table = pl.DataFrame(
        {
            "photo_id": [f"{number}.jpg" for number in random.permutation(count)],
            "label": [NAMES[label] for label in labels],
            "group": [f"group {unit}" if unit % 3 == 0 else None for unit in units],
            "sha256": [f"{unit}/{random.integers(3)}" if unit % 3 == 0 else f"{unit}" for unit in units],
            "coarse_label": pl.Series([None] * count, dtype=pl.String),
            "split": pl.Series([None] * count, dtype=pl.String),
            "unit": units,
        }
    )
    return with_content(table)


def test_a_unit_is_a_group_or_the_copies_of_a_photo():
    keys = _keys([("a", "g", "1"), ("b", "g", "2"), ("c", None, "3"), ("d", None, "3"), ("e", None, "4")])
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len(set(keys)) == 3


def test_copies_tie_photos_outside_of_groups_and_whole_groups_together():
    rows = [("a", "g", "1"), ("b", "h", "1"), ("c", "h", "2"), ("d", None, "2"), ("e", "k", "3")]
    keys = _keys(rows)
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]
    assert keys[0] in _keys(rows[:1]) + _keys(rows[1:2])  # one of the two groups stays where it was


def test_without_copies_together_only_groups_hold():
    keys = _keys(
        [("a", "g", "1"), ("b", "g", "1"), ("c", None, "1"), ("d", None, "1")], copies_together=False
    )
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_a_unit_keeps_its_number_whatever_else_is_there():
    few = [("a", "g", "1"), ("b", None, "2")]
    many = [("c", "g", "5"), ("d", None, "2"), ("e", "h", "7"), ("f", None, "7")]
    assert _keys(few + many)[:2] == _keys(few)


@pytest.mark.parametrize("seed", range(5))
def test_a_unit_is_never_divided(seed):
    splits = _split(_draw_photos(seed), seed=seed)
    assert splits.group_by("unit").agg(pl.col("split").n_unique())["split"].max() == 1
    assert splits["split"].n_unique() == 4


@pytest.mark.parametrize("seed", range(5))
def test_every_class_keeps_its_minimum_though_units_move_as_a_whole(seed):
    splits = _split(_draw_photos(seed, count=150), seed=seed)
    train = dict(splits.filter(pl.col("split") == "train").group_by("class").len().iter_rows())
    have = dict(splits.group_by("class").len().iter_rows())
    assert all(train[number] >= min(3, have[number]) for number in have)


@pytest.mark.parametrize("seed", range(10))
def test_new_photos_and_groups_move_only_old_ones_that_the_minimum_held_in_train(seed):
    photos = _draw_photos(seed)
    old = photos[: 20 + 50 * seed]
    before, after = _split(old, seed=seed), _split(photos, seed=seed)
    moved = before.join(after, on="photo_id").filter(pl.col("split") != pl.col("split_right"))
    assert set(moved["split"]) <= {"train"}
    free = SplitConfig(method="stratified", val_share=0.25, test_share=0.25, holdout_share=0.3)
    one_class = photos.with_columns(label=pl.lit(NAMES[0]))
    before, after = _split(one_class[:500], config=free), _split(one_class, config=free)
    assert before["split"].to_list() == after["split"].to_list()[:500]


def test_given_splits_take_their_holdout_by_unit():
    photos = _draw_photos(0).with_columns(split=pl.lit("train"))
    splits = _split(photos, config=SplitConfig(holdout_share=0.3))
    assert splits.group_by("unit").agg(pl.col("split").n_unique())["split"].max() == 1
    assert (splits["split"] == "holdout").mean() == pytest.approx(0.3, abs=0.08)


def test_unlabelled_photos_go_to_test_whatever_their_group():
    photos = _draw_photos(1).with_columns(label=pl.when(pl.int_range(pl.len()) % 4 > 0).then(pl.col("label")))
    splits = _split(photos)
    assert set(splits.filter(pl.col("class").is_null())["split"]) == {"test"}
    labelled = splits.filter(pl.col("class").is_not_null())
    assert labelled.group_by("unit").agg(pl.col("split").n_unique())["split"].max() == 1
