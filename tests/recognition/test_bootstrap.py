from __future__ import annotations

import numpy as np
import pytest

from recognition.bootstrap import bootstrap_changes, bootstrap_difference, count_changes, worse_classes


def test_changes_are_counted_by_class() -> None:
    labels = np.array([7, 3, 7, 7])
    changes = count_changes(
        np.array([True, False, True, False]), np.array([False, True, True, False]), labels
    )
    assert changes.classes.tolist() == [3, 7]
    assert changes.num_photos.tolist() == [1, 3]
    assert (changes.num_worse.tolist(), changes.num_better.tolist()) == ([0, 1], [1, 0])
    assert changes.num_wrong.tolist() == [0, 2]
    assert changes.difference == pytest.approx((-1 + 1 / 3) / 2)


def test_photos_are_drawn_within_their_classes_and_two_of_a_class_deviate_by_root_two() -> None:
    """Class 0's mean of (1, 0) is drawn as 1, 1/2, 0 with 1/4, 1/2, 1/4; class 1 adds nothing."""
    labels = np.array([0, 1, 0, 1])
    wrong, right = np.array([True, False, False, False]), np.zeros(4, dtype=bool)
    width = 0.5 * np.sqrt(2) / 2
    assert bootstrap_difference(wrong, right, labels) == pytest.approx((0.25, 0.25 - width, 0.25 + width))
    assert bootstrap_difference(right, wrong, labels) == pytest.approx((-0.25, -0.25 - width, -0.25 + width))
    assert bootstrap_difference(wrong, wrong, labels) == (0.0, 0.0, 0.0)


def test_classes_of_one_photo_are_drawn_from_all_of_them() -> None:
    """The sum of 400 draws that are 1 with probability 1/4 has a standard deviation of sqrt(75)."""
    labels, wrong = np.arange(400), np.arange(400) % 4 == 0
    gap, low, high = bootstrap_difference(wrong, np.zeros(400, dtype=bool), labels)
    assert gap == 0.25
    assert high - gap == pytest.approx(1.96 * np.sqrt(75) / 400, rel=0.05)
    assert gap - low == pytest.approx(high - gap)


def test_the_only_class_of_one_photo_takes_the_spread_of_all_photos() -> None:
    labels = np.concatenate([[99], np.repeat(np.arange(10), 10)])
    wrong = np.concatenate([[True], np.tile(np.arange(10) < 5, 10)])
    _, low, high = bootstrap_difference(wrong, np.zeros(101, dtype=bool), labels)
    assert (high - low) / 2 > 1.9 * np.sqrt(10 * 0.25 / 9) / 11  # what the other classes alone would give


def test_one_photo_says_nothing() -> None:
    assert bootstrap_difference(np.array([True]), np.array([False]), np.array([0])) == (1.0, -1.0, 1.0)


def test_classes_of_equal_counts_are_summed_as_if_they_were_drawn_one_by_one() -> None:
    """500 classes of 4 photos with one that differs: the sum's variance is 500 x 4/3 x 3/16 / 4."""
    labels, wrong = np.repeat(np.arange(500), 4), np.tile([True, False, False, False], 500)
    _, low, high = bootstrap_difference(wrong, np.zeros(2000, dtype=bool), labels)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(500 / 16) / 500, rel=0.04)


def test_equal_seeds_give_equal_intervals_and_a_wider_confidence_a_wider_one() -> None:
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 40, 200))
    changes = count_changes(rng.random(200) < 0.4, rng.random(200) < 0.4, labels)
    assert bootstrap_changes(changes, seed=3) == bootstrap_changes(changes, seed=3)
    narrow, wide = (bootstrap_changes(changes, confidence=level) for level in (0.8, 0.99))
    assert wide[1] < narrow[1] < narrow[2] < wide[2]


def test_a_difference_in_every_photo_is_no_chance_and_paired_errors_cancel() -> None:
    labels = np.repeat(np.arange(4), 25)
    noise = np.random.default_rng(0).random(100) < 0.4
    better = noise & (np.arange(100) % 2 == 0)
    gap, low, high = bootstrap_difference(better, noise, labels)
    assert gap == pytest.approx(better.mean() - noise.mean())
    assert low < gap < high < 0


@pytest.mark.parametrize(("size", "num_classes"), [((1, 1), 300), ((1, 5), 300), ((30, 30), 20)])
def test_equal_models_seem_to_differ_in_one_of_twenty_comparisons(
    size: tuple[int, int], num_classes: int
) -> None:
    """All settings are in bench/gate_statistics.py; 400 comparisons have a standard error of 1.1 points."""
    rng, alarms = np.random.default_rng(1), 0
    for seed in range(400):
        sizes = rng.integers(size[0], size[1] + 1, num_classes)
        labels = np.repeat(np.arange(num_classes), sizes)
        rate = rng.beta(0.6, 1.4, num_classes)[labels]
        wrong, other = rng.random(len(labels)) < rate, rng.random(len(labels)) < rate
        _, low, high = bootstrap_difference(wrong, other, labels, num_resamples=400, seed=seed)
        alarms += low > 0 or high < 0
    assert 0.025 <= alarms / 400 <= 0.08


def test_classes_that_became_worse_are_named_once_their_number_is_allowed_for() -> None:
    """Twelve photos that only the other one gets right: p = 2^-12; of 100 classes that is 0.024."""
    labels = np.repeat(np.arange(100), 12)
    wrong = labels == 41
    rows, p_values = worse_classes(count_changes(wrong, np.zeros(1200, dtype=bool), labels))
    assert rows.tolist() == [41]
    assert p_values.tolist() == pytest.approx([100 * 2**-12])
    better, _ = worse_classes(count_changes(np.zeros(1200, dtype=bool), wrong, labels))
    assert better.tolist() == []
    few, _ = worse_classes(count_changes(labels[::4] == 41, np.zeros(300, dtype=bool), labels[::4]))
    assert few.tolist() == []  # p = 1/8 by itself


def test_other_lengths_and_no_photo_are_refused() -> None:
    with pytest.raises(ValueError, match=r"received \(2,\), \(2,\) and \(1,\)"):
        count_changes(np.zeros(2, bool), np.zeros(2, bool), np.zeros(1, int))
    with pytest.raises(ValueError, match="at least one"):
        count_changes(np.zeros(0, bool), np.zeros(0, bool), np.zeros(0, int))
