"""Rules that keep a photo by its own number: max_loss, quantile, aum; and what every rule shares."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from catalog.reasons import describe
from catalog.refinement import Aum, MaxLoss, Quantile, refine, suspicion
from catalog.refinement.ranking import rank_within
from tests.catalog.evidence_tables import PATHS, make_base, make_log, told

LOSSES = {0: [0.1, 2.0, 0.3, 5.0], 1: [6.0, 7.0]}


def _refine(config, log, *, num_classes=3):
    return refine(config, base=make_base(log), evidence=log, num_classes=num_classes)


def _kept(config, values, *, column="mean_loss"):
    return _refine(config, make_log(values, column=column))["photo_id"].to_list()


def test_a_loss_above_the_cut_is_dropped_and_the_best_of_a_class_stays():
    rows = _refine(MaxLoss(**PATHS, max_mean_loss=2.0), make_log(LOSSES))
    assert told(rows) == [
        ("a0", 0, "max_loss: 0.10 <= 2.00"),
        ("a1", 0, "max_loss: 2.00 <= 2.00"),
        ("a2", 0, "max_loss: 0.30 <= 2.00"),
        ("b0", 1, "max_loss: among the best 1 of its class"),
    ]


@pytest.mark.parametrize(
    ("minimum", "expected"),
    [(0, ["a0", "a2"]), (2, ["a0", "a2", "b0", "b1"]), (3, ["a0", "a1", "a2", "b0", "b1"])],
)
def test_no_class_falls_below_its_minimum_or_what_it_has(minimum, expected):
    assert _kept(MaxLoss(**PATHS, max_mean_loss=1.0, min_per_class=minimum), LOSSES) == expected


def test_the_absolute_cut_defaults_to_the_reports():
    cut = 0.832 * math.log(3)
    assert _kept(MaxLoss(**PATHS), {0: [cut - 0.01, cut + 0.01]}) == ["a0"]


def test_the_share_with_the_highest_losses_goes_rounded_down():
    config = Quantile(**PATHS, drop_share=0.4)  # 2 of 6: b0, b1, of which the better one stays for its class
    assert _kept(config, LOSSES) == ["a0", "a1", "a2", "a3", "b0"]
    rows = _refine(config, make_log(LOSSES))
    assert rows["why"][3] == "quantile: 5.00, not in the highest 40.0% of all"


def test_a_share_of_each_class():
    config = Quantile(**PATHS, drop_share=0.5, per_class=True)  # 2 of 4 and 1 of 2
    assert _kept(config, LOSSES) == ["a0", "a2", "b0"]


def test_of_equal_losses_the_lower_photo_id_stays():
    log = make_log({0: [1.0, 1.0, 1.0, 1.0]})[[3, 1, 0, 2]]
    rows = _refine(Quantile(**PATHS, drop_share=0.5), log)
    assert rows["photo_id"].to_list() == ["a1", "a0"]


def test_margins_below_zero_are_dropped():
    rows = _refine(Aum(**PATHS), make_log({0: [2.31, -0.01, 0.0], 1: [-3.0, -2.0]}, column="mean_margin"))
    assert told(rows) == [
        ("a0", 0, "aum: margin 2.31 >= 0.00"),
        ("a2", 0, "aum: margin 0.00 >= 0.00"),
        ("b1", 1, "aum: among the best 1 of its class"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"min_margin": 1.5}, ["a0"]),
        ({"min_margin": -2.5}, ["a0", "a1", "a3"]),
        ({"drop_share": 0.5}, ["a0", "a1"]),
    ],
)
def test_the_margins_cut_is_a_number_or_a_share(options, expected):
    assert _kept(Aum(**PATHS, **options), {0: [2.0, 1.0, -3.0, -2.0]}, column="mean_margin") == expected


@pytest.mark.parametrize("unknown", [None, float("nan"), float("inf")])
def test_a_photo_without_a_finite_loss_passes_no_rule(unknown):
    values = {0: [0.5, unknown, 0.7]}
    assert _kept(Quantile(**PATHS, drop_share=0.0), values) == ["a0", "a2"]
    assert _kept(MaxLoss(**PATHS, max_mean_loss=math.inf), values) == ["a0", "a2"]


def test_too_few_classes_left_stop_the_stage_with_the_numbers():
    config = MaxLoss(**PATHS, max_mean_loss=1.0, min_per_class=0, min_classes_kept=2)
    words = "at least 2 classes kept by the rule 'max_loss', received 2 photos of 1 classes of 6 photos of 2"
    with pytest.raises(ValueError, match=words):
        _kept(config, LOSSES)


def test_an_empty_list_stops_the_stage():
    with pytest.raises(ValueError, match="received 0 photos"):
        _kept(MaxLoss(**PATHS, max_mean_loss=0.0, min_per_class=0), LOSSES)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Quantile(**PATHS, drop_share=1.0),
            r"drop_share\s+Input should be less than 1 .*=1\.0",
        ),
        (
            lambda: Aum(**PATHS, min_margin=0.0, drop_share=0.1),
            "min_margin or drop_share, received 0.0 and 0.1",
        ),
        (
            lambda: MaxLoss(**PATHS, min_per_class=-1),
            r"min_per_class\s+Input should be .* or equal to 0",
        ),
    ],
)
def test_numbers_without_sense_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_suspicion_is_the_loss_or_the_negated_margin_and_infinite_where_nothing_is_known():
    assert suspicion(make_log({0: [1.5, None, 0.5]}), rule="low_loss").tolist() == [1.5, math.inf, 0.5]
    margins = make_log({0: [1.5, -2.0]}, column="mean_margin")
    assert suspicion(margins, rule="aum").tolist() == [-1.5, 2.0]


def test_suspicion_of_a_list_says_what_is_missing():
    with pytest.raises(ValueError, match=r"columns \['mean_margin'\] for 'aum'"):
        suspicion(make_log({0: [1.0]}), rule="aum")


def test_ranks_follow_negative_and_positive_scores():
    scores = np.array([-0.0, 3.0, -2.0, np.inf, 0.0, -7.5], dtype=np.float32)
    ranks = rank_within(np.zeros(6, dtype=np.int64), scores, pl.Series(list("fedcba")))
    assert ranks.tolist() == [3, 4, 1, 5, 2, 0]  # equal zeros by photo id


@pytest.mark.parametrize("repeats", [1, 30_000])  # few rows are sorted, many looked up in a table
def test_texts_are_shared_by_rows_that_show_the_same_numbers(repeats):
    numbers, counts = np.tile([1.001, 1.004, -2.0], repeats), np.tile([3, 3, 900], repeats)
    texts = describe("{:.2f} of {:.0f}".format, numbers, counts)
    assert texts.to_list() == ["1.00 of 3", "1.00 of 3", "-2.00 of 900"] * repeats
