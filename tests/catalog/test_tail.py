from __future__ import annotations

import polars as pl
import pytest

from catalog.tail import TailConfig, cut_tail


@pytest.fixture
def splits():
    """Train: 100 photos of class 2, 90 of class 0, 80 of class 3, 5 unlabelled; val: 50 of class 1."""
    classes = [2] * 100 + [0] * 90 + [3] * 80 + [None] * 5 + [1] * 50
    return pl.DataFrame(
        {
            "photo_id": [f"{number:03d}.jpg" for number in range(len(classes))],
            "class": pl.Series(classes, dtype=pl.Int32),
            "coarse": pl.Series([None] * len(classes), dtype=pl.String),
            "split": ["train"] * 275 + ["val"] * 50,
        }
    )


def _cut(splits, *, min_per_class=1, seed=0, **config):
    return cut_tail(splits, config=TailConfig(**config), min_per_class=min_per_class, seed=seed)


def _train_counts(splits):
    train = splits.filter(pl.col("split") == "train", pl.col("class").is_not_null())
    return dict(train.group_by("class").len().iter_rows())


def test_class_sizes_fall_exponentially_from_the_largest(splits):
    assert _train_counts(_cut(splits, imbalance=100)) == {2: 100, 0: 10, 3: 1}


def test_a_class_keeps_what_it_has_where_the_curve_asks_for_more(splits):
    assert _train_counts(_cut(splits, imbalance=1.0, photos_head=85)) == {2: 85, 0: 85, 3: 80}


def test_no_class_falls_below_the_minimum(splits):
    assert _train_counts(_cut(splits, imbalance=100, min_per_class=7)) == {2: 100, 0: 10, 3: 7}


def test_photos_that_go_become_unused_and_nothing_else_changes(splits):
    cut = _cut(splits, imbalance=100)
    assert cut["split"].value_counts().sort("split").rows() == [("train", 116), ("unused", 159), ("val", 50)]
    assert cut.drop("split").equals(splits.drop("split"))
    assert splits["split"].to_list() == ["train"] * 275 + ["val"] * 50


def test_equal_classes_are_ranked_by_index():
    classes = [number for number in range(200) for _ in range(4)]
    splits = pl.DataFrame(
        {
            "photo_id": [f"{number}" for number in range(800)],
            "class": pl.Series(classes, dtype=pl.Int32),
            "split": ["train"] * 800,
        }
    ).reverse()
    counts = _train_counts(_cut(splits, imbalance=4))
    sizes = [counts[number] for number in range(200)]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (4, 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_larger_imbalance_keeps_a_subset(splits, seed):
    kept = [
        set(_cut(splits, imbalance=imbalance, seed=seed).filter(pl.col("split") == "train")["photo_id"])
        for imbalance in (2, 10, 50)
    ]
    assert kept[2] < kept[1] < kept[0]


def test_off_by_default(splits):
    assert _cut(splits) is splits


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"imbalance": 0.5}, r"imbalance\s+Input should be greater than or equal to 1"),
        ({"imbalance": float("inf")}, r"imbalance\s+Input should be a finite number"),
        ({"photos_head": 0}, r"photos_head\s+Input should be greater than or equal to 1"),
    ],
)
def test_a_tail_that_cannot_be_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        TailConfig(**config)
