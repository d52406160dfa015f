from __future__ import annotations

import polars as pl
import pytest

from catalog.list_rules import ListConfig, make_list
from catalog.lists import load_list, save_list


@pytest.fixture
def splits():
    """Train: 40 photos of class 0, 3 of class 1, one unlabelled; one photo of class 1 in val."""
    classes = [0] * 40 + [1] * 3 + [None, 1]
    return pl.DataFrame(
        {
            "photo_id": [f"{number:02d}.jpg" for number in range(45)],
            "class": pl.Series(classes, dtype=pl.Int32),
            "coarse": pl.Series([None] * 45, dtype=pl.String),
            "split": ["train"] * 44 + ["val"],
        }
    )


def _counts(rows):
    return dict(rows.group_by("class").len().iter_rows())


def test_full_takes_every_labelled_photo_of_train(splits):
    rows = make_list(splits, config=ListConfig(), seed=0)
    assert rows["photo_id"].to_list() == [f"{number:02d}.jpg" for number in range(43)]
    assert rows["why"].unique().to_list() == ["full: split train"]


@pytest.mark.parametrize("rule", ["balanced", "head_limit"])
def test_a_cap_takes_all_where_a_class_has_fewer(splits, rule):
    rows = make_list(splits, config=ListConfig(rule=rule, per_class=5), seed=0)
    assert _counts(rows) == {0: 5, 1: 3}
    assert rows["photo_id"].is_sorted()
    assert set(rows.filter(pl.col("class") == 1)["why"]) == {f"{rule}: draw {n} of 3" for n in (1, 2, 3)}
    assert set(rows.filter(pl.col("class") == 0)["why"]) == {f"{rule}: draw {n} of 5" for n in range(1, 6)}


@pytest.mark.parametrize(("rule", "expected"), [("balanced", {0: 30, 1: 3}), ("head_limit", {0: 40, 1: 3})])
def test_caps_default_to_the_numbers_of_their_reports(splits, rule, expected):
    assert _counts(make_list(splits, config=ListConfig(rule=rule), seed=0)) == expected


def test_equal_seeds_draw_equally_and_others_do_not(splits):
    config = ListConfig(rule="balanced", per_class=5)
    first, again, other = (make_list(splits, config=config, seed=seed) for seed in (4, 4, 5))
    assert first.equals(again)
    assert first["photo_id"].to_list() != other["photo_id"].to_list()


def test_a_smaller_list_is_part_of_a_larger_one(splits):
    small, large = (
        make_list(splits, config=ListConfig(rule="balanced", per_class=n), seed=0) for n in (5, 20)
    )
    assert set(small["photo_id"]) < set(large["photo_id"])


def test_a_list_may_come_from_another_split(splits):
    rows = make_list(splits, config=ListConfig(split="val"), seed=0)
    assert rows["photo_id"].to_list() == ["44.jpg"]


def test_an_unknown_rule_is_refused_with_the_nearest_one(splits):
    with pytest.raises(ValueError, match=r"'balance', did you mean 'balanced'\?"):
        make_list(splits, config=ListConfig(rule="balance"), seed=0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ListConfig(per_class=3), "'full' takes all photos"),
        (ListConfig(rule="balanced", per_class=0), "per_class >= 1"),
        (ListConfig(split="training"), "Unknown split 'training'"),
        (ListConfig(split="holdout"), "found no labelled photo in split 'holdout'"),
    ],
)
def test_a_list_that_cannot_be_made_says_why(splits, config, words):
    with pytest.raises(ValueError, match=words):
        make_list(splits, config=config, seed=0)


def test_a_list_survives_its_file(splits, tmp_path):
    rows = make_list(splits, config=ListConfig(), seed=0)
    save_list(rows, tmp_path / "lists" / "all.parquet")
    assert load_list(tmp_path / "lists" / "all.parquet").equals(rows)


def test_a_table_that_is_no_list_is_refused(splits, tmp_path):
    splits.write_parquet(tmp_path / "splits.parquet")
    with pytest.raises(ValueError, match=r"splits\.parquet: expected a list with columns"):
        load_list(tmp_path / "splits.parquet")
