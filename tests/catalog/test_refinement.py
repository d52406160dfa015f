"""Report B's lists, by numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from catalog.content import CONTENT
from catalog.refinement import LowLoss, rank_losses, refine, score_dropped
from catalog.refinement.low_loss import keep_low_losses
from contracts.lists import LIST
from tests.catalog.evidence_tables import PATHS, make_base, make_log, told, with_content


def _refine(log, *, num_classes=3, **options):
    config = LowLoss(**PATHS, **options)
    return refine(config, base=make_base(log), evidence=log, num_classes=num_classes)


def _kept(losses, *, num_classes=3, **options) -> list[str]:
    return _refine(make_log(losses), num_classes=num_classes, **options)["photo_id"].to_list()


def test_each_class_keeps_its_lowest_losses_in_the_logs_order():
    losses = {0: [0.9, 0.1, 0.5, 0.3], 1: [0.2, 0.8]}
    rows = _refine(make_log(losses), keep=2)
    assert told(rows) == [
        ("a1", 0, "low_loss: rank 1 of 4"),
        ("a3", 0, "low_loss: rank 2 of 4"),
        ("b0", 1, "low_loss: rank 1 of 2"),
        ("b1", 1, "low_loss: rank 2 of 2"),
    ]
    assert rows.schema == pl.Schema(LIST.schema)
    assert rows.select(*CONTENT).equals(make_log(losses).select(*CONTENT)[[1, 3, 4, 5]])


def test_a_class_with_fewer_photos_keeps_what_it_has():
    assert _kept({0: [0.4, 0.2], 2: [5.0]}, keep=5) == ["a0", "a1", "c0"]


def test_equal_losses_break_by_photo_id_not_by_position():
    log = make_log({0: [0.5, 0.5, 0.5, 0.1]})[[2, 1, 3, 0]]
    rows = _refine(log, num_classes=1, keep=2, max_mean_loss=9)
    assert sorted(rows["photo_id"]) == ["a0", "a3"]


def test_the_cut_comes_first_but_never_below_what_a_class_keeps():
    # class 0 has one photo above the cut and enough others; class 1 lies above it as a whole
    losses = {0: [0.1, 0.2, 0.3, 9.0], 1: [7.0, 8.0, 9.0]}
    assert _kept(losses, keep=2, max_mean_loss=1.0) == ["a0", "a1", "b0", "b1"]
    assert _kept(losses, keep=4, max_mean_loss=1.0) == ["a0", "a1", "a2", "a3", "b0", "b1", "b2"]


def test_the_cut_defaults_to_a_share_of_the_log_of_the_number_of_classes():
    cut = 0.832 * math.log(50_030)
    assert cut == pytest.approx(9.0, abs=0.01)
    # the two photos just above the cut are gone, so the rank is counted among three
    losses = {0: [1.0, 2.0, 3.0, cut + 0.01, cut + 0.02]}
    rows = _refine(make_log(losses), num_classes=50_030, keep=1)
    assert rows["why"].to_list() == ["low_loss: rank 1 of 3"]


def test_a_later_band_is_taken_where_it_is_no_worse_than_the_median():
    # ranks 3-4 of 8 are a2, a3; the median pair starts at (8 - 2) // 2 = 3: a3, a4, with a higher mean
    losses = {0: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]}
    assert _kept(losses, keep=2, first_rank=3, max_mean_loss=9) == ["a2", "a3"]


def test_a_band_with_a_higher_mean_than_the_median_gives_way_to_it():
    # ranks 5-6 of 7 have mean 0.55; the median pair starts at (7 - 2) // 2 = 2: a2, a3
    losses = {0: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}
    rows = _refine(make_log(losses), num_classes=1, keep=2, first_rank=5, max_mean_loss=9)
    assert rows["photo_id"].to_list() == ["a2", "a3"]
    assert rows["why"].to_list() == ["low_loss: median, rank 3 of 7", "low_loss: median, rank 4 of 7"]


def test_an_incomplete_band_uses_the_median_of_what_the_cut_left():
    # five photos, two cut: of a0 a1 a2 the band of ranks 3-4 is incomplete, the median pair starts at 0
    losses = {0: [0.1, 0.2, 0.3, 5.0, 6.0]}
    assert _kept(losses, keep=2, first_rank=3, max_mean_loss=1.0) == ["a0", "a1"]


def test_a_photo_that_was_never_seen_ranks_last():
    assert _kept({0: [float("nan"), 3.0, 2.0]}, keep=2, max_mean_loss=9) == ["a1", "a2"]


def test_many_rows_select_what_a_plain_sort_selects():
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            "photo_id": rng.permutation(5000).astype(str),
            "class": rng.integers(0, 40, 5000).astype(np.int32),
            "mean_loss": rng.integers(0, 50, 5000).astype(np.float32) / 10,  # full of ties
        }
    )
    rows = _refine(with_content(log), num_classes=40, keep=7, max_mean_loss=99)
    plain = log.sort("class", "mean_loss", "photo_id").group_by("class").head(7)
    assert set(rows["photo_id"]) == set(plain["photo_id"])
    assert len(rows) == 40 * 7


def test_the_median_photos_themselves():
    # of seven photos, two above the cut, the median pair of the other five starts at (5 - 2) // 2 = 1
    rows = _refine(make_log({0: [0.1, 0.2, 0.3, 0.4, 0.5, 8, 9]}), keep=2, pick="median", max_mean_loss=1)
    assert told(rows) == [
        ("a1", 0, "low_loss: median, rank 2 of 5"),
        ("a2", 0, "low_loss: median, rank 3 of 5"),
    ]


def test_one_ranking_makes_the_lists_that_single_rankings_make():
    log = make_log({0: [0.4, 0.1, 0.3, 0.2, 9.0, 0.5], 2: [0.7, 0.6, 0.5]})
    ranked = rank_losses(make_base(log), scores=log, num_classes=3)
    for options in ({}, {"first_rank": 3}, {"pick": "median"}):
        config = LowLoss(**PATHS, keep=2, **options)
        alone = refine(config, base=make_base(log), evidence=log, num_classes=3)
        assert keep_low_losses(ranked, config=config).equals(alone)


def test_the_base_list_decides_which_photos_are_ranked():
    log = make_log({0: [0.4, 0.1, 0.3], 1: [0.2, 0.1]})
    base = make_base(log)[[4, 2, 0]]
    rows = refine(LowLoss(**PATHS, keep=1), base=base, evidence=log, num_classes=3)
    assert told(rows) == [("b1", 1, "low_loss: rank 1 of 1"), ("a2", 0, "low_loss: rank 1 of 2")]


@pytest.mark.parametrize(
    ("losses", "words"),
    [({}, "0 rows without one"), ({0: [float("nan")]}, "diverged"), ({2: [1.0]}, r"classes of 0\.\.1")],
)
def test_a_loss_log_without_use_is_refused(losses, words):
    with pytest.raises(ValueError, match=words):
        _kept(losses, num_classes=2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keep": 0}, r"keep\s+Input should be greater than or equal to 1"),
        ({"pick": "median", "first_rank": 6}, "no first_rank beside pick: median, received 6"),
        ({"min_classes_kept": 0}, r"min_classes_kept\s+Input should be greater than or equal to 1"),
    ],
)
def test_numbers_without_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LowLoss(**PATHS, **options)


def test_dropped_photos_are_scored_against_the_truth():
    # five labels of which d and e are wrong, f's truth is unknown; the list keeps a, b, d: it drops c and e
    base = pl.DataFrame({"photo_id": list("abcdef"), "class": [0] * 6}, schema_overrides={"class": pl.Int32})
    truth = pl.DataFrame(
        {"photo_id": list("abcdev"), "class": [0, 0, 0, 1, 1, 0]}, schema_overrides={"class": pl.Int32}
    )
    score = score_dropped(base[[0, 1, 3]], base=base, truth=truth)
    assert (score.num_listed, score.num_wrong, score.num_dropped, score.num_wrong_dropped) == (5, 2, 2, 1)
    assert (score.precision, score.recall) == (0.5, 0.5)


def test_a_photo_kept_with_another_class_is_a_label_dropped():
    base = pl.DataFrame({"photo_id": ["a"], "class": [0]})
    score = score_dropped(
        base.with_columns(pl.lit(1).cast(pl.Int64).alias("class")),
        base=base,
        truth=pl.DataFrame({"photo_id": ["a"], "class": [1]}),
    )
    assert (score.num_dropped, score.num_wrong_dropped, score.recall) == (1, 1, 1.0)


def test_without_known_truth_there_is_no_score():
    base = pl.DataFrame({"photo_id": ["a"], "class": [0]})
    with pytest.raises(ValueError, match="received none"):
        score_dropped(base, base=base, truth=base.with_columns(pl.lit(None).alias("class")))
