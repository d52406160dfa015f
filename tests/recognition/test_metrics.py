from __future__ import annotations

import numpy as np
import pytest

from recognition.metrics import error_metrics, frequency_groups

LABELS = np.array([0, 0, 0, 0, 1, 1, 2])
RANKED = np.array([[0, 1], [0, 1], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1]])


def test_mean_error_weighs_classes_and_plain_error_weighs_photos() -> None:
    errors = error_metrics(RANKED, LABELS, num_classes=3)
    assert errors["mean_top1_error"] == pytest.approx((1 / 4 + 1 / 2 + 1) / 3)
    assert errors["top1_error"] == pytest.approx(3 / 7)


def test_class_without_photos_does_not_count() -> None:
    errors = error_metrics(RANKED, LABELS, num_classes=50)
    assert errors["mean_top1_error"] == pytest.approx((1 / 4 + 1 / 2 + 1) / 3)


def test_top5_error_counts_labels_among_the_first_five() -> None:
    classes = np.array([[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 0, 5], [1, 2, 3, 4, 5, 0]])
    errors = error_metrics(classes, np.zeros(3, int), num_classes=9)
    assert errors["top5_error"] == pytest.approx(1 / 3)
    assert errors["top1_error"] == pytest.approx(2 / 3)


def test_top5_error_is_absent_when_too_few_classes_were_ranked() -> None:
    assert "top5_error" not in error_metrics(RANKED, LABELS, num_classes=3)
    assert error_metrics(RANKED, LABELS % 2, num_classes=2)["top5_error"] == 0.0


def test_group_errors_are_those_of_the_groups_photos() -> None:
    errors = error_metrics(RANKED, LABELS, num_classes=3, groups=np.array(["head", "medium", "tail"]))
    assert errors["head_top1_error"] == pytest.approx(1 / 4)
    assert errors["medium_top1_error"] == pytest.approx(1 / 2)
    assert errors["tail_top1_error"] == pytest.approx(1.0)


def test_group_without_photos_has_no_key() -> None:
    errors = error_metrics(RANKED, LABELS, num_classes=3, groups=np.array(["head", "head", "head"]))
    assert errors["head_top1_error"] == pytest.approx(3 / 7)
    assert not {"medium_top1_error", "tail_top1_error"} & set(errors)


def test_groups_are_thirds_of_the_classes_by_training_photos() -> None:
    groups = frequency_groups(np.array([1, 50, 7, 7, 7, 300]))
    assert groups.tolist() == ["tail", "head", "medium", "medium", "tail", "head"]


def test_earlier_groups_are_larger_where_three_does_not_divide() -> None:
    assert frequency_groups(np.array([4, 3, 2, 0])).tolist() == ["head", "head", "medium", "tail"]


@pytest.mark.parametrize(
    ("classes", "labels", "words"),
    [
        (RANKED, LABELS[:3], r"received \(7, 2\) and \(3,\)"),
        (RANKED[:0], LABELS[:0], "at least one photo"),
        (RANKED, LABELS - 1, r"labels in 0\.\.2, received -1"),
        (RANKED, LABELS + 1, r"received 1\.\.3"),
    ],
)
def test_wrong_rows_are_refused(classes, labels, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        error_metrics(classes, labels, num_classes=3)
