"""Confident learning by hand, and against cleanlab where the label and the largest other class are all."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from catalog.refinement import Confident, refine, suspicion
from catalog.refinement.confidence import count_confidently, estimate_joint
from catalog.refinement.confident import find_issues
from tests.catalog.evidence_tables import PATHS, make_base, make_predictions

K = 6

# Thresholds: class 0 (0.9 + 0.9 + 0.3 + 0.1) / 4 = 0.55, class 1 (0.8 + 0.4) / 2 = 0.6.
BY_HAND = make_predictions(
    [
        ("a0", 0, 0.9, 1, 0.05),  # its label
        ("a1", 0, 0.9, 1, 0.05),  # its label
        ("a2", 0, 0.3, 1, 0.5),  # neither: 0.3 < 0.55, 0.5 < 0.6
        ("a3", 0, 0.1, 1, 0.8),  # class 1: 0.8 >= 0.6
        ("b0", 1, 0.8, 0, 0.1),  # its label
        ("b1", 1, 0.4, 0, 0.56),  # class 0: 0.56 >= 0.55
    ]
)


def _numbers(evidence: pl.DataFrame, *names: str) -> list[np.ndarray]:
    return [evidence[name].to_numpy().astype(np.int64) for name in names]


def test_photos_count_as_the_class_whose_threshold_they_reach():
    counts = count_confidently(BY_HAND)
    assert counts.thresholds.tolist() == pytest.approx([0.55, 0.6])
    assert counts.as_label.tolist() == [True, True, False, False, True, False]
    assert counts.as_other.tolist() == [False, False, False, True, False, True]


def test_where_both_reach_their_thresholds_the_more_probable_wins():
    # thresholds 0.45 and 0.05: a0 and a1 reach both, so each goes to the more probable class
    counts = count_confidently(
        make_predictions([("a0", 0, 0.45, 1, 0.55), ("a1", 0, 0.45, 1, 0.4), ("b0", 1, 0.05, 2, 0)])
    )
    assert counts.as_other.tolist() == [True, False, False]
    assert counts.as_label.tolist() == [False, True, True]


def test_the_joint_is_calibrated_to_the_class_sizes_by_hand():
    # counted: class 0 2 own and 1 other of 4 photos: 8/3, 4/3 -> 3, 1; class 1 1 and 1 of 2
    joint = estimate_joint(*_numbers(BY_HAND, "class", "other_class"), counts=count_confidently(BY_HAND))
    assert joint.pairs.tolist() == [0, 1, 2, 3]  # label * 2 + class
    assert joint.counts.tolist() == [3, 1, 1, 1]


def test_pruned_photos_go_and_the_others_say_their_probabilities():
    rows = refine(Confident(**PATHS), base=make_base(BY_HAND), evidence=BY_HAND, num_classes=2)
    assert rows["photo_id"].to_list() == ["a0", "a1", "a2", "b0"]
    assert rows["why"][2] == "confident: p 0.30 of its label, 0.50 of another"


def test_a_class_keeps_its_best_photo():
    # both of class 1 count as class 0, as 0.95 and 0.9 reach 0.9 and exceed 0.1; b1 has the smaller margin
    evidence = make_predictions([("a0", 0, 0.9, 1, 0.1), ("b0", 1, 0.1, 0, 0.95), ("b1", 1, 0.1, 0, 0.9)])
    assert find_issues(evidence, method="confident").tolist() == [False, True, True]
    rows = refine(
        Confident(**PATHS, method="confident"), base=make_base(evidence), evidence=evidence, num_classes=2
    )
    assert rows["photo_id"].to_list() == ["a0", "b1"]


def test_suspicion_is_the_log_ratio_of_the_other_class_to_the_label():
    scores = suspicion(BY_HAND, rule="confident")
    by_hand = [math.log(0.05 / 0.9)] * 2 + [math.log(0.5 / 0.3), math.log(8), math.log(1 / 8), math.log(1.4)]
    assert scores.tolist() == pytest.approx(by_hand)


def test_a_probability_of_zero_is_no_missing_one():
    certain = make_predictions([("a0", 0, 0.0, 1, 1.0), ("a1", 0, 1.0, 1, 0.0)])
    scores = suspicion(certain, rule="confident")
    assert np.isfinite(scores).all()
    assert scores[0] > 80 > -80 > scores[1]


def test_a_photo_never_seen_is_pruned_and_moves_no_threshold():
    unseen = make_predictions([("a9", 0, None, None, None)])
    evidence = pl.concat([BY_HAND, unseen])
    rows = refine(Confident(**PATHS), base=make_base(evidence), evidence=evidence, num_classes=2)
    assert rows["photo_id"].to_list() == ["a0", "a1", "a2", "b0"]
    assert count_confidently(evidence).thresholds.tolist() == pytest.approx([0.55, 0.6])


@pytest.fixture(scope="module", params=[0, 1, 2, 5, 7, 8, 10])
def dense(request) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of all classes of a long tail: all but two of them too small to matter.

    The seeds left out have ties in rounding the joint (2.5 of one and 17.5 of another), which either may win.
    """
    rng = np.random.default_rng(request.param)
    labels = np.repeat(np.arange(K), [90, 60, 40, 25, 12, 6])
    other = (labels + rng.choice([1, 1, 2, 3], size=len(labels))) % K
    believed = np.where(
        rng.random(len(labels)) < 0.3, rng.beta(2, 5, len(labels)), rng.beta(6, 2, len(labels))
    )
    probabilities = np.full((len(labels), K), 0.01)
    rest = 1 - 0.01 * (K - 2)
    probabilities[np.arange(len(labels)), labels] = rest * believed
    probabilities[np.arange(len(labels)), other] = rest * (1 - believed)
    return labels, probabilities


def _to_evidence(labels: np.ndarray, probabilities: np.ndarray) -> pl.DataFrame:
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    rows = zip(
        labels.tolist(),
        probabilities[np.arange(len(labels)), labels].tolist(),
        others.argmax(1).tolist(),
        others.max(1).tolist(),
        strict=True,
    )
    evidence = make_predictions([(f"{number:04d}", *row) for number, row in enumerate(rows)])
    return evidence


def test_the_joint_is_cleanlabs(dense):
    from cleanlab.count import compute_confident_joint

    labels, probabilities = dense
    evidence = _to_evidence(labels, probabilities)
    joint = estimate_joint(*_numbers(evidence, "class", "other_class"), counts=count_confidently(evidence))
    theirs = compute_confident_joint(labels, probabilities)
    ours = np.zeros(K * K, dtype=np.int64)
    ours[joint.pairs] = joint.counts
    assert ours.reshape(K, K).tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("by_noise_rate", "prune_by_noise_rate"),
        ("by_class", "prune_by_class"),
        ("both", "both"),
        ("confident", "confident_learning"),
    ],
)
def test_the_issues_are_cleanlabs(dense, method, theirs):
    from cleanlab.filter import find_label_issues

    labels, probabilities = dense
    expected = find_label_issues(labels, probabilities, filter_by=theirs, min_examples_per_class=0, n_jobs=1)
    found = find_issues(_to_evidence(labels, probabilities), method=method)
    assert expected.sum() > 10
    assert found.tolist() == expected.tolist()
