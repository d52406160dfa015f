import numpy as np
import pytest

from recognition.calibration import calibration_error


def test_each_bin_counts_by_its_photos() -> None:
    """Two photos at .9 of which one is right (gap .4), two at .3 of which none is (gap .3)."""
    probabilities = np.array([0.9, 0.3, 0.9, 0.3])
    right = np.array([True, False, False, False])
    assert calibration_error(probabilities, right) == pytest.approx(0.35)


def test_probabilities_that_come_true_have_no_error() -> None:
    assert calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


def test_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"received \(2,\) and \(1,\)"):
        calibration_error(np.array([0.5, 0.5]), np.array([True]))
