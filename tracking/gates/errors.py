"""The gates `error` and `tail`: is the mean top-1 error no worse, and is the difference chance?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from recognition.bootstrap import Bools, Changes, bootstrap_changes, count_changes, worse_classes
from recognition.metrics import frequency_groups
from tracking.gates.config import GatesConfig
from tracking.gates.photos import Comparison
from tracking.gates.report import GateAnswer, Number, Outcome

_ROUNDING = 1e-9


def judge_error(comparison: Comparison, *, gates: GatesConfig) -> GateAnswer:
    """Judge the mean over all shared classes, with the classes that became significantly worse."""
    everything = np.ones(len(comparison.labels), dtype=bool)
    answer, changes = _judge("error", comparison, photos=everything, limit=gates.max_regression, gates=gates)
    rows = _worse_rows(changes, comparison, confidence=gates.confidence)
    told = [comparison.classes.describe(comparison.challenger, comparison.other), *comparison.told]
    if rows:
        told.append(
            f"{len(rows):,} of {len(changes.classes):,} classes became significantly worse, first "
            f"{rows[0]['class']!r}; the report lists them"
        )
    return replace(answer, details=tuple(told), rows=rows)


def judge_tail(
    comparison: Comparison, *, train_counts: Mapping[str, int] | None, gates: GatesConfig
) -> GateAnswer:
    """Judge the tail: the third of the challenger's classes with fewest training photos (name to count)."""
    if train_counts is None:
        return GateAnswer(
            gate="tail",
            outcome="not applicable",
            sentence="which classes are the tail is unknown: there are no splits here; "
            "`dvc checkout split` or `dvc repro split` brings them",
        )
    counts = np.array([train_counts.get(name, 0) for name in comparison.classes.names])
    if counts.min() == counts.max():
        return GateAnswer(
            gate="tail",
            outcome="not applicable",
            sentence=f"all classes have {counts.min()} training photos each, so none is rarer than others",
        )
    in_tail = (frequency_groups(counts) == "tail")[comparison.labels]
    if not in_tail.any():
        return GateAnswer(
            gate="tail",
            outcome="not applicable",
            sentence="none of the photos compared is of the tail, the third of the classes with fewest "
            "training photos",
        )
    answer, _ = _judge("tail", comparison, photos=in_tail, limit=gates.max_tail_regression, gates=gates)
    return answer


def _judge(
    gate: str, comparison: Comparison, *, photos: Bools, limit: float | None, gates: GatesConfig
) -> tuple[GateAnswer, Changes]:
    """Compare the mean top-1 errors on some of the photos [N] with the limit."""
    changes = count_changes(
        comparison.wrong[photos], comparison.other_wrong[photos], comparison.labels[photos]
    )
    gap, low, high = bootstrap_changes(
        changes, num_resamples=gates.num_resamples, confidence=gates.confidence
    )
    error = float(np.mean(changes.num_wrong / changes.num_photos))
    num_photos, of_tail = int(photos.sum()), " of the tail" if gate == "tail" else ""
    key = "gates.max_tail_regression" if gate == "tail" else "gates.max_regression"
    relation = "no worse than" if gap <= _ROUNDING else "worse than"
    compared = (
        f"mean top-1 error{of_tail} of version {comparison.challenger} is {error:.4f}, {relation} the "
        f"{error - gap:.4f} of {comparison.other} on the same {num_photos} photos"
    )
    interval = f"difference {gap:+.4f}, {100 * gates.confidence:g} % interval {low:+.4f} to {high:+.4f}"
    outcome: Outcome = "pass"
    if limit is None:
        outcome, verdict = "not applicable", f"; {key} is null, so this is not judged"
    elif gap > limit + _ROUNDING:
        outcome = "fail"
        verdict = f", by more than the {limit:g} of {key}: train it on, or keep the champion"
    else:
        verdict = f", by no more than the {limit:g} of {key}" if gap > _ROUNDING else ""
    if gate == "error" and gates.require_significant and outcome == "pass" and high >= 0:
        outcome = "fail"
        verdict += (
            "; the interval reaches 0, so the difference may be chance, and gates.require_significant "
            "asks for more: evaluate on more photos, or set it to false"
        )
    numbers: dict[str, Number] = {
        "error": error,
        "champion_error": error - gap,
        "difference": gap,
        "low": low,
        "high": high,
        "confidence": gates.confidence,
        "limit": limit,
        "num_photos": num_photos,
        "num_classes": len(changes.classes),
    }
    sentence = f"{compared}{verdict}; {interval}"
    return GateAnswer(gate=gate, outcome=outcome, sentence=sentence, numbers=numbers), changes


def _worse_rows(
    changes: Changes, comparison: Comparison, *, confidence: float
) -> tuple[Mapping[str, Number], ...]:
    rows, p_values = worse_classes(changes, confidence=confidence)
    return tuple(
        {
            "class": comparison.classes.names[changes.classes[row]],
            "photos": int(changes.num_photos[row]),
            "error": float(changes.num_wrong[row] / changes.num_photos[row]),
            "champion_error": float(
                (changes.num_wrong[row] - changes.num_worse[row] + changes.num_better[row])
                / changes.num_photos[row]
            ),
            "adjusted_p": float(p_value),
        }
        for row, p_value in zip(rows.tolist(), p_values.tolist(), strict=True)
    )
