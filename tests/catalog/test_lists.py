"""Lists made by rules, and what is asked of lists, on counts worked by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter

from catalog.list_rules import Balanced, Fold, Full, HeadLimit, ListRule, Unlabelled, make_list
from catalog.lists import diff, load_list, save_list, summarize
from recognition.metrics import frequency_groups
from tests.catalog.evidence_tables import make_rows, told, with_content


@pytest.fixture
def splits():
    """Train: 40 photos of class 0, 3 of class 1, one unlabelled; one photo of class 1 in val."""
    classes = [0] * 40 + [1] * 3 + [None, 1]
    table = pl.DataFrame(
        {
            "photo_id": [f"{number:02d}.jpg" for number in range(45)],
            "class": pl.Series(classes, dtype=pl.Int32),
            "coarse": pl.Series([None] * 45, dtype=pl.String),
            "split": ["train"] * 44 + ["val"],
        }
    )
    return with_content(table)


def _counts(rows):
    return dict(rows.group_by("class").len().iter_rows())


def test_full_takes_every_labelled_photo_of_train(splits):
    rows = make_list(splits, config=Full(), seed=0)
    assert rows["photo_id"].to_list() == [f"{number:02d}.jpg" for number in range(43)]
    assert rows["why"].unique().to_list() == ["full: split train"]


@pytest.mark.parametrize("make", [Balanced, HeadLimit])
def test_a_cap_takes_all_where_a_class_has_fewer(splits, make):
    rows, rule = make_list(splits, config=make(per_class=5), seed=0), make().rule
    assert _counts(rows) == {0: 5, 1: 3}
    assert rows["photo_id"].is_sorted()
    assert set(rows.filter(pl.col("class") == 1)["why"]) == {f"{rule}: draw {n} of 3" for n in (1, 2, 3)}
    assert set(rows.filter(pl.col("class") == 0)["why"]) == {f"{rule}: draw {n} of 5" for n in range(1, 6)}


@pytest.mark.parametrize(("rule", "expected"), [(Balanced(), {0: 30, 1: 3}), (HeadLimit(), {0: 40, 1: 3})])
def test_caps_default_to_the_numbers_of_their_reports(splits, rule, expected):
    assert rule.per_class in (30, 250)
    assert _counts(make_list(splits, config=rule, seed=0)) == expected


def test_equal_seeds_draw_equally_and_others_do_not(splits):
    config = Balanced(per_class=5)
    first, again, other = (make_list(splits, config=config, seed=seed) for seed in (4, 4, 5))
    assert first.equals(again)
    assert first["photo_id"].to_list() != other["photo_id"].to_list()


def test_a_smaller_list_is_part_of_a_larger_one(splits):
    small, large = (make_list(splits, config=Balanced(per_class=n), seed=0) for n in (5, 20))
    assert set(small["photo_id"]) < set(large["photo_id"])


def test_a_list_may_come_from_another_split(splits):
    rows = make_list(splits, config=Full(split="val"), seed=0)
    assert rows["photo_id"].to_list() == ["44.jpg"]


def test_folds_are_disjoint_cover_everything_and_their_other_sides_are_the_rest(splits):
    folds = [make_list(splits, config=Fold(num_folds=3, fold=f, held_out=True), seed=0) for f in range(3)]
    rest = make_list(splits, config=Fold(num_folds=3, fold=1, held_out=False), seed=0)
    ids = [set(fold["photo_id"]) for fold in folds]
    assert sum(len(part) for part in ids) == len(set.union(*ids)) == 43
    assert min(len(part) for part in ids) > 5
    assert set(rest["photo_id"]) == ids[0] | ids[2]
    assert {folds[1]["why"][0], rest["why"][0]} == {"fold: held out 1 of 3", "fold: all but 1 of 3"}


def test_a_new_photo_moves_no_old_one_to_another_fold(splits):
    config = Fold(num_folds=3, fold=1, held_out=True)
    before = make_list(splits[:20], config=config, seed=0)
    after = make_list(splits, config=config, seed=0)
    assert after["photo_id"][: len(before)].to_list() == before["photo_id"].to_list()


def test_unlabelled_photos_have_no_class(splits):
    rows = make_list(splits, config=Unlabelled(split="train"), seed=0)
    assert told(rows) == [("43.jpg", None, "unlabelled: split train")]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Balanced(per_class=0),
            r"per_class\s+Input should be greater than or equal to 1 ",
        ),
        (lambda: Full(split="training"), r"split\s+Input should be 'train', 'val', .*'training'"),
        (lambda: Full(split="holdout"), "found no labelled photo in split 'holdout'"),
        (lambda: Unlabelled(), "found no unlabelled photo in split 'test'"),
        (lambda: Fold(num_folds=3, fold=3, held_out=True), "received 3 and 3"),
    ],
)
def test_a_list_that_cannot_be_made_says_why(splits, make, words):
    with pytest.raises(ValueError, match=words):
        make_list(splits, config=make(), seed=0)


def test_every_key_of_every_rule_is_explained():
    for definition in TypeAdapter(ListRule).json_schema()["$defs"].values():
        assert all("description" in key for key in definition["properties"].values()), definition["title"]
        assert not definition["additionalProperties"]


def test_a_list_survives_its_file(splits, tmp_path):
    rows = make_list(splits, config=Full(), seed=0)
    save_list(rows, tmp_path / "lists" / "all.parquet")
    assert load_list(tmp_path / "lists" / "all.parquet").equals(rows)


def test_a_table_that_is_no_list_is_refused(splits, tmp_path):
    splits.write_parquet(tmp_path / "splits.parquet")
    with pytest.raises(ValueError, match=r"splits\.parquet: expected a list with columns"):
        load_list(tmp_path / "splits.parquet")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (make_rows(("a", 0, ""), ("b", None, "")), "class for every photo or for none, received 1 of 2"),
        (make_rows(("a", 0, ""), ("b", 0, ""), ("a", 1, "")), "each photo once, received 1 .* first 'a'"),
    ],
)
def test_rows_that_contradict_each_other_are_not_saved(tmp_path, rows, words):
    with pytest.raises(ValueError, match=words):
        save_list(rows, tmp_path / "x.parquet")


def _splits(*photos: tuple[str, int | None, str]) -> pl.DataFrame:
    schema = {"photo_id": pl.String, "class": pl.Int32, "split": pl.String}
    return pl.DataFrame(photos, schema=schema, orient="row")


TRAIN = _splits(
    *((f"a{n}", 0, "train") for n in range(4)),
    *((f"b{n}", 1, "train") for n in range(3)),
    *((f"c{n}", 2, "train") for n in range(2)),
    ("d0", 3, "train"),
    ("a9", 0, "val"),
    ("u", None, "test"),
)


def test_a_summary_counts_a_list_against_the_split():
    rows = make_rows(
        ("a0", 0, "low_loss: rank 1 of 4"),
        ("a1", 0, "low_loss: rank 2 of 4"),
        ("c0", 2, "low_loss: median, rank 1 of 2"),
        ("a9", 0, "full: split val; not in x"),
    )
    found = summarize(rows, splits=TRAIN)
    assert (found.num_photos, found.num_classes, found.num_classes_before, found.share) == (4, 2, 4, 0.3)
    assert found.by_split == {"train": 3, "val": 1}
    assert (found.smallest, found.largest) == ((2, 1), (0, 3))
    assert found.reasons == {
        "low_loss: rank # of #": 2,
        "low_loss: median, rank # of #": 1,
        "full: split val; not in x": 1,
    }


def test_thirds_are_of_the_classes_by_training_photos():
    third = summarize(make_rows(("a0", 0, ""), ("c0", 2, ""), ("d0", 3, "")), splits=TRAIN).thirds
    shown = [(t.name, t.num_classes, t.num_classes_kept, t.num_before, t.num_after) for t in third]
    assert shown == [("head", 2, 1, 7, 1), ("medium", 1, 1, 2, 1), ("tail", 1, 1, 1, 1)]


def test_thirds_are_those_that_errors_are_reported_for():
    sizes = np.array([3, 9, 1, 4, 4, 7, 2, 5])
    photos = [(f"{c}-{n}", c, "train") for c, size in enumerate(sizes) for n in range(size)]
    third = summarize(make_rows(("1-0", 1, "")), splits=_splits(*photos)).thirds
    groups = frequency_groups(sizes)
    for group in third:
        assert group.num_before == sizes[groups == group.name].sum()
        assert group.num_classes == (groups == group.name).sum()


def test_a_list_of_unlabelled_photos_has_no_classes():
    found = summarize(make_rows(("u", None, "unlabelled: split test")), splits=TRAIN)
    assert (found.num_unlabelled, found.num_classes, found.smallest, found.share) == (1, 0, None, 0.0)


def test_a_difference_says_what_came_went_and_changed():
    before = make_rows(("a", 0, "x"), ("b", 0, "x"), ("c", 1, "x"), ("d", 1, "x"), ("e", 2, "x"))
    after = make_rows(("f", 2, "y"), ("d", 1, "y"), ("c", 0, "x"), ("a", 0, "x"), ("e", 2, "x"))
    found = diff(before, after)
    assert (found.num_before, found.num_after, found.num_same) == (5, 5, 2)
    assert found.came.rows() == [("f", 2, "y")]
    assert found.went.rows() == [("b", 0, "x")]
    assert found.relabelled.rows() == [("c", 1, 0)]
    assert found.reasons_changed.rows() == [("d", 1, "x", "y")]
    # class, before, after, came, went: b went from 0 and c came to it
    assert found.classes.rows() == [(0, 2, 2, 1, 1), (1, 2, 1, 0, 1), (2, 1, 2, 1, 0)]


def test_equal_lists_have_no_difference():
    rows = make_rows(("a", 0, "x"), ("u", None, "x"))
    found = diff(rows, rows)
    assert found.num_same == 2
    assert all(table.is_empty() for table in (found.came, found.went, found.relabelled, found.classes))
