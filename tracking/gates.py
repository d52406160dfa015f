"""The tests a challenger must pass before it may become champion, answered in words a person can check.

Knows files, not MLflow: the registry brings the two candidates here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recognition.bundle import MEMBERS_FOLDER, WEIGHTS_FILE, load_ensemble_config, load_member_config
from recognition.metrics import error_metrics

# Columns photo_id, label (int32), classes (list of 5 int32, best first), probabilities (list of 5 float32).
ScoreMissing = Callable[[Path, list[str]], pl.DataFrame]
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Candidate:
    """What a gate needs of a version: its number and the files that were stored with it."""

    version: str
    bundle: Path
    predictions: Path
    trained_on: Path


@dataclass(frozen=True)
class GateResult:
    """Whether `challenger` may replace `champion` (versions; None when there is no champion), and why."""

    passed: bool
    reasons: list[str]
    challenger: str
    champion: str | None


def check(challenger: Candidate, champion: Candidate | None, *, score_missing: ScoreMissing) -> GateResult:
    """Compare two versions on the photos that neither was trained on.

    Photos of the challenger's predictions that the champion's lack are scored by `score_missing(bundle,
    photo_ids)`, which returns a table like predictions.parquet.
    """
    problems = _missing_members(challenger)
    if problems:
        return _result(challenger, champion, passed=False, reasons=problems)
    count = len(load_ensemble_config(challenger.bundle).members)
    complete = f"no member of version {challenger.version} is missing ({count} of {count} are there)"
    if champion is None:
        reasons = [
            complete,
            f"there is no champion yet, so version {challenger.version} becomes the first one",
        ]
        return _result(challenger, champion, passed=True, reasons=reasons)
    if challenger.version == champion.version:
        reasons = [complete, f"version {challenger.version} is the champion already"]
        return _result(challenger, champion, passed=True, reasons=reasons)
    difference = _class_difference(challenger, champion)
    if difference:
        return _result(challenger, champion, passed=False, reasons=[complete, difference])
    passed, comparison = _compare_errors(challenger, champion, score_missing=score_missing)
    reasons = [complete, "both versions have the same class list", *comparison]
    return _result(challenger, champion, passed=passed, reasons=reasons)


def _mean_top1_error(predictions: pl.DataFrame, *, num_classes: int) -> float:
    first = predictions["classes"].list.first().to_numpy().astype(np.int64)
    labels = predictions["label"].to_numpy().astype(np.int64)
    return error_metrics(first[:, None], labels, num_classes=num_classes)["mean_top1_error"]


def _missing_members(candidate: Candidate) -> list[str]:
    """One sentence per member that the ensemble names and the bundle does not hold."""
    try:
        config = load_ensemble_config(candidate.bundle)
    except ValueError as error:
        return [f"version {candidate.version} is no ensemble's bundle: {error}"]
    problems = []
    for name in config.members:
        folder = candidate.bundle / MEMBERS_FOLDER / name
        try:
            load_member_config(folder)
        except ValueError as error:
            problems.append(f"member {name} of version {candidate.version} is missing or broken: {error}")
            continue
        if not (folder / WEIGHTS_FILE).is_file():
            problems.append(f"member {name} of version {candidate.version} has no weights")
    return problems


def _class_difference(challenger: Candidate, champion: Candidate) -> str:
    """What differs between the class lists, or nothing."""
    new = load_ensemble_config(challenger.bundle).class_names
    old = load_ensemble_config(champion.bundle).class_names
    if new == old:
        return ""
    if len(new) != len(old):
        what = f"version {challenger.version} has {len(new)} classes and the champion {len(old)}"
    else:
        index = next(i for i, (a, b) in enumerate(zip(new, old, strict=True)) if a != b)
        what = (
            f"class {index} is {new[index]!r} in version {challenger.version}, {old[index]!r} in the champion"
        )
    return f"the class lists differ: {what}; versions of different classes cannot be compared"


def _compare_errors(
    challenger: Candidate, champion: Candidate, *, score_missing: ScoreMissing
) -> tuple[bool, list[str]]:
    """Whether the challenger's error is no worse, and the sentences that say so."""
    new = pl.read_parquet(challenger.predictions)
    if new.is_empty():
        return False, [
            f"version {challenger.version} was not evaluated (evaluation.split in its params.yaml is null), "
            "so it cannot be compared with the champion; name a labelled split there and run `dvc repro`"
        ]
    trained_on = _photo_ids(challenger) | _photo_ids(champion)
    kept = new.filter(~pl.col("photo_id").is_in(list(trained_on)))
    left_out = new.height - kept.height
    if kept.is_empty():
        return False, [
            f"no photo is left to compare on: all {new.height} photos of the evaluation were in the training "
            "lists of one of the two versions; evaluate on another split (evaluation.split in params.yaml)"
        ]
    reasons = [f"left out {left_out} photos that one of the two was trained on"] if left_out else []
    ids = kept["photo_id"].to_list()
    old, num_scored = _predictions_of(champion, photo_ids=ids, score_missing=score_missing)
    if num_scored:
        reasons.append(f"scored {num_scored} photos with the champion's bundle that it had not seen")
    # The challenger's labels are the newer ones; both are judged by them.
    old = kept.select("photo_id", "label").join(old.select("photo_id", "classes"), on="photo_id", how="left")
    num_classes = len(load_ensemble_config(challenger.bundle).class_names)
    new_error = _mean_top1_error(kept, num_classes=num_classes)
    old_error = _mean_top1_error(old, num_classes=num_classes)
    passed = new_error <= old_error + _ROUNDING
    relation = "no worse than" if passed else "worse than"
    return passed, [
        *reasons,
        f"mean top-1 error of version {challenger.version} is {new_error:.4f}, {relation} the "
        f"{old_error:.4f} of the champion (version {champion.version}) on the same {kept.height} photos",
    ]


def _predictions_of(
    candidate: Candidate, *, photo_ids: Sequence[str], score_missing: ScoreMissing
) -> tuple[pl.DataFrame, int]:
    """The candidate's predictions of these photos, and how many had to be scored now."""
    columns = ["photo_id", "classes"]
    stored = pl.read_parquet(candidate.predictions, columns=columns)
    known = set(stored["photo_id"].to_list())
    missing = [photo_id for photo_id in photo_ids if photo_id not in known]
    if not missing:
        return stored, 0
    scored = score_missing(candidate.bundle, missing).select(columns).cast(stored.schema)
    lost = set(missing) - set(scored["photo_id"].to_list())
    if lost:
        raise ValueError(
            f"expected predictions of the champion for {len(missing)} photos, {len(lost)} are missing, the "
            f"first of them {min(lost)}; run dvc repro so that the photo store holds them"
        )
    return pl.concat([stored, scored]), len(missing)


def _photo_ids(candidate: Candidate) -> set[str]:
    return set(pl.read_parquet(candidate.trained_on, columns=["photo_id"])["photo_id"].to_list())


def _result(
    challenger: Candidate, champion: Candidate | None, *, passed: bool, reasons: list[str]
) -> GateResult:
    return GateResult(
        passed=passed,
        reasons=reasons,
        challenger=challenger.version,
        champion=None if champion is None else champion.version,
    )
