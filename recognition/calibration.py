"""How far probabilities can be believed: what a shop does with an answer of 90 % depends on it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NUM_BINS = 15


def calibration_error(
    probabilities: npt.NDArray[np.floating], right: npt.NDArray[np.bool_], *, num_bins: int = NUM_BINS
) -> float:
    """Return the expected calibration error of the best classes' probabilities, in 0..1.

    probabilities, right [N]. The mean over photos of |accuracy - mean probability| of the photo's bin, of
    num_bins of equal width: Guo et al., "On Calibration of Modern Neural Networks", 2017, equation 3.
    ValueError for arrays of other lengths, or for none.
    """
    probabilities, right = np.asarray(probabilities, dtype=np.float64), np.asarray(right)
    if probabilities.shape != right.shape or right.ndim != 1 or right.size == 0:
        raise ValueError(
            f"Expected probabilities and answers [N] of at least one photo, received {probabilities.shape} "
            f"and {right.shape}."
        )
    bins = np.clip(np.ceil(probabilities * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    # |sum of right - sum of probabilities| of a bin, over all photos: bins' sizes cancel.
    gaps = np.bincount(bins, weights=right - probabilities, minlength=num_bins)
    return float(np.abs(gaps).sum() / right.size)
