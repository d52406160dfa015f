"""How wrong an answer is: the numbers by which phases, recipes and champions are compared.

Class sizes differ by a factor of a thousand, so the first number is the mean over classes; the plain error
and the errors of frequent, middling and rare classes stand beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from contracts.values import GROUPS


def error_metrics(
    classes: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    *,
    num_classes: int,
    groups: npt.NDArray[Any] | None = None,
) -> dict[str, float]:
    """Return the errors of ranked predictions, each in 0..1.

    classes [N, k], best first; labels [N]; groups [K] of "head", "medium", "tail" (`frequency_groups`).
    mean_top1_error = 1 - mean over the classes present of the class's accuracy. A key is absent where it
    cannot be said: a group without photos, the top-5 error when fewer than min(5, K) classes were ranked.
    """
    classes, labels = np.asarray(classes), np.asarray(labels)
    _check(classes, labels, num_classes)
    wrong = classes[:, 0] != labels
    counts = np.bincount(labels, minlength=num_classes)
    wrong_counts = np.bincount(labels[wrong], minlength=num_classes)
    present = counts > 0
    errors = {
        "mean_top1_error": float(np.mean(wrong_counts[present] / counts[present])),
        "top1_error": float(np.mean(wrong)),
    }
    if classes.shape[1] >= min(5, num_classes):
        errors["top5_error"] = 1.0 - float(np.mean((classes[:, :5] == labels[:, None]).any(axis=1)))
    for group in GROUPS if groups is not None else ():
        chosen = np.asarray(groups)[labels] == group
        if chosen.any():
            errors[f"{group}_top1_error"] = float(np.mean(wrong[chosen]))
    return errors


def frequency_groups(train_counts: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Sort classes into "head", "medium" and "tail": thirds of the classes by number of training photos.

    train_counts [K]; equal counts go by class id; where 3 does not divide K the earlier groups are larger.
    """
    order = np.argsort(-np.asarray(train_counts), kind="stable")
    groups = np.empty(len(order), dtype="<U6")
    for name, members in zip(GROUPS, np.array_split(order, len(GROUPS)), strict=True):
        groups[members] = name
    return groups


def _check(classes: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], num_classes: int) -> None:
    if classes.ndim != 2 or labels.shape != classes.shape[:1] or classes.size == 0:
        raise ValueError(
            f"Expected predictions [N, k] and labels [N] of at least one photo, received {classes.shape} "
            f"and {labels.shape}."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"Expected labels in 0..{num_classes - 1}, received {labels.min()}..{labels.max()}: "
            "leave out photos without a label."
        )
