from __future__ import annotations

import polars as pl
import pytest

from catalog.copies_across import CopiesAcrossSplitsError, check_copies, find_copies_across
from catalog.duplicates import find_exact, find_near
from catalog.splits import SplitConfig


def _find(rows, *, max_distance=4):
    """Copies across the splits of photos (photo_id, split, sha256, perceptual_hash)."""
    schema = {"photo_id": pl.String, "split": pl.String, "sha256": pl.String, "perceptual_hash": pl.UInt64}
    photos = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.lit(0, dtype=pl.Int32).alias("class")
    )
    near = find_near(photos, max_distance=max_distance)
    return find_copies_across(
        photos.select("photo_id", "class", "split"), exact=find_exact(photos), near=near
    )


LEAKS = [
    ("a", "train", "1", 0),
    ("b", "train", "1", 0),
    ("c", "test", "1", 0),
    ("d", "val", "2", 0b11),
    ("e", "test", "3", 1 << 40),
    ("f", "unused", "3", 1 << 40),
]


def test_each_photo_is_listed_with_its_nearest_copy_in_each_earlier_split():
    assert _find(LEAKS).rows() == [
        ("c", "test", "a", "train", "exact", 0),
        ("d", "val", "a", "train", "near", 2),
        ("e", "test", "a", "train", "near", 1),
        ("c", "test", "d", "val", "near", 2),
        ("e", "test", "d", "val", "near", 3),
    ]


def test_a_copy_is_found_though_only_first_photos_are_paired():
    copies = _find(
        [("a", "test", "1", 0), ("b", "train", "2", 0), ("c", "test", "3", 1), ("d", "val", "4", 1)]
    )
    assert copies.rows() == [
        ("d", "val", "b", "train", "near", 1),
        ("a", "test", "b", "train", "near", 0),
        ("c", "test", "b", "train", "near", 1),
        ("a", "test", "d", "val", "near", 1),
        ("c", "test", "d", "val", "near", 0),
    ]


def test_the_nearest_copy_is_shown_whatever_its_id():
    copies = _find([("a", "train", "1", 0b11), ("b", "train", "2", 0b1), ("c", "test", "3", 0)])
    assert copies.rows() == [("c", "test", "b", "train", "near", 1)]


def test_many_blank_photos_are_as_many_rows_as_photos():
    rows = [(f"{n:04d}", "train" if n % 2 else "test", f"sha {n}", 0) for n in range(4000)]
    assert len(_find(rows)) == 2000


def test_copies_within_a_split_and_unlabelled_photos_do_not_count():
    splits = pl.DataFrame(
        {
            "photo_id": ["a", "b", "c"],
            "class": pl.Series([0, 0, None], dtype=pl.Int32),
            "split": ["train", "train", "test"],
        }
    )
    exact = pl.DataFrame({"group": [0, 0, 0], "photo_id": ["a", "b", "c"]})
    near = pl.DataFrame(schema={"photo_id": pl.String, "other_id": pl.String, "distance": pl.Int32})
    assert find_copies_across(splits, exact=exact, near=near).is_empty()


def test_an_exact_copy_of_a_train_photo_is_an_error_that_says_what_to_do():
    with pytest.raises(CopiesAcrossSplitsError, match=r"1 of test in train") as error:
        check_copies(_find(LEAKS), config=SplitConfig())
    assert "c (test) and a (train)" in str(error.value)
    assert "exact_across: warn" in str(error.value)
    assert "near" not in str(error.value)


def test_a_near_copy_is_a_warning_and_may_be_ignored():
    copies = _find(LEAKS).filter(pl.col("kind") == "near")
    leak, other = check_copies(copies, config=SplitConfig())
    assert "near copies in another split: 1 of val in train, 1 of test in train" in leak
    assert "2 of test in val" in other
    assert check_copies(copies, config=SplitConfig(near_across="ignore")) == []
    with pytest.raises(CopiesAcrossSplitsError, match="near_across: warn"):
        check_copies(copies, config=SplitConfig(near_across="error"))


def test_copies_among_splits_that_measure_are_never_an_error():
    copies = _find([("a", "val", "1", 0), ("b", "test", "1", 0), ("c", "holdout", "1", 0)])
    assert len(copies) == 3
    warnings = check_copies(copies, config=SplitConfig(exact_across="error"))
    assert ["1 of val in holdout, 1 of test in holdout, 1 of test in val" in text for text in warnings] == [
        True
    ]


def test_no_copies_no_words():
    assert check_copies(_find([("a", "train", "1", 0)]), config=SplitConfig()) == []
