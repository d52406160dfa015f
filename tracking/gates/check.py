"""The tests a challenger must pass before it may become champion, answered in words a person can check.

Looks at files, not at MLflow: the registry has brought those of the two candidates here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from contracts.evaluation import PREDICTIONS, TRAINED_ON
from recognition.bundle import MEMBERS_FOLDER, WEIGHTS_FILE, load_ensemble_config, load_member_config
from recognition.metrics import error_metrics
from tracking.gates.report import GateAnswer, GateReport
from tracking.registry.versions import Candidate

# (bundle, photos: photo_id and source_sha256) to photo_id and classes (list of 5 int32, best first).
ScoreMissing = Callable[[Path, pl.DataFrame], pl.DataFrame]
_ROUNDING = 1e-9


def check(challenger: Candidate, champion: Candidate | None, *, score_missing: ScoreMissing) -> GateReport:
    """Compare two versions on the photos that neither was trained on.

    A photo is its content: what was seen in training, and which stored answer of the champion is to which
    photo of the challenger's evaluation, is told by source_sha256, whatever the files are called. Photos that
    the champion has no answer to are scored by `score_missing(bundle, photos)`. A champion without contents,
    registered before these were kept, is scored on all of them, and what it was trained on goes by name.
    """
    passed, reasons = _judge(challenger, champion, score_missing=score_missing)
    answer = GateAnswer(
        gate="error",
        outcome="pass" if passed else "fail",
        sentence=reasons[-1],
        details=tuple(reasons[:-1]),
    )
    return GateReport(
        challenger=challenger.version,
        champion=champion.version if champion else None,
        answers=(answer,),
    )


def _judge(
    challenger: Candidate, champion: Candidate | None, *, score_missing: ScoreMissing
) -> tuple[bool, list[str]]:
    """Whether the challenger passes, and the sentences that say why."""
    problems = _missing_members(challenger)
    if problems:
        return False, problems
    new = challenger.version
    count = len(load_ensemble_config(challenger.bundle).members)
    complete = f"no member of version {new} is missing ({count} of {count} are there)"
    if champion is None:
        return True, [complete, f"there is no champion yet, so version {new} becomes the first one"]
    if new == champion.version:
        return True, [complete, f"version {new} is the champion already"]
    difference = _class_difference(challenger, champion)
    if difference:
        return False, [complete, difference]
    passed, comparison = _compare_errors(challenger, champion, score_missing=score_missing)
    return passed, [complete, "both versions have the same class list", *comparison]


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
    new = pl.DataFrame(PREDICTIONS.read(challenger.predictions))
    if new.is_empty():
        return False, [
            f"version {challenger.version} was not evaluated (evaluation.split in its params.yaml is null), "
            "so it cannot be compared with the champion; name a labelled split there and run `dvc repro`"
        ]
    if "source_sha256" not in new.columns:
        return False, [
            f"version {challenger.version} was evaluated before predictions said what each photo is; run "
            "`dvc repro`, which evaluates it again, then `aisle promote`"
        ]
    kept, reasons = _unseen(new, challenger, champion)
    if kept.is_empty():
        return False, [
            *reasons,
            f"no photo is left to compare on: all {new.height} photos of the evaluation were in the training "
            "lists of one of the two versions; evaluate on another split (evaluation.split in params.yaml)",
        ]
    # The challenger's labels are the newer ones; both are judged by them.
    old, matched = _answers_of(champion, photos=kept, score_missing=score_missing)
    reasons.append(matched)
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


def _unseen(new: pl.DataFrame, challenger: Candidate, champion: Candidate) -> tuple[pl.DataFrame, list[str]]:
    """The photos that neither version was trained on, and the sentences that count the others."""
    trained_on = {candidate.version: _trained_on(candidate) for candidate in (challenger, champion)}
    seen: dict[str, pl.Series] = {}
    reasons = []
    for version, table in trained_on.items():
        has_content = table["source_sha256"].is_not_null()
        by_content = _is_in(new["source_sha256"], table["source_sha256"].filter(has_content))
        names = table["photo_id"].filter(~has_content)
        by_name = _is_in(new["photo_id"], names)
        seen[version] = by_content | by_name
        if len(names):
            reasons.append(
                f"of {len(names)} photos that version {version} was trained on only names are known, from "
                f"before versions kept their photos' content; {by_name.sum()} photos are left out by name"
            )
    either = seen[challenger.version] | seen[champion.version]
    kept = new.filter(~either)
    if either.any():
        reasons.append(
            f"left out {either.sum()} of {len(new)} photos as seen in training: by version "
            f"{challenger.version} {seen[challenger.version].sum()}, by the champion (version "
            f"{champion.version}) {seen[champion.version].sum()}"
        )
    hashes = pl.concat([table["perceptual_hash"] for table in trained_on.values()]).drop_nulls()
    num_alike = _is_in(kept["perceptual_hash"], hashes).sum()
    if num_alike:
        reasons.append(
            f"{num_alike} of the photos compared have the perceptual hash of one that a version was trained "
            "on, as near-duplicates do; they count"
        )
    return kept, reasons


def _answers_of(
    champion: Candidate, *, photos: pl.DataFrame, score_missing: ScoreMissing
) -> tuple[pl.DataFrame, str]:
    """The champion's classes beside photo_id and label of each of the photos, and where they come from."""
    stored = pl.DataFrame(PREDICTIONS.read(champion.predictions))
    asked = photos.select("photo_id", "label", "source_sha256")
    if "source_sha256" not in stored.columns:
        answers = asked.with_columns(classes=pl.lit(None, dtype=pl.List(pl.Int32)))
        told = (
            f"version {champion.version} was registered before predictions said what each photo is, so all "
            f"{len(photos)} photos are scored with the champion's bundle"
        )
    else:
        known = stored.select("source_sha256", "classes").unique("source_sha256", keep="first")
        answers = asked.join(known, on="source_sha256", how="left", maintain_order="left")
        num_missing = answers["classes"].null_count()
        told = (
            f"{len(photos) - num_missing} photos are matched by content with the champion's stored answers, "
            f"{num_missing} are scored with the champion's bundle"
        )
    missing = answers.filter(pl.col("classes").is_null()).select("photo_id", "source_sha256")
    if missing.is_empty():
        return answers, told
    scored = score_missing(champion.bundle, missing).select(
        "photo_id", scored=pl.col("classes").cast(pl.List(pl.Int32))
    )
    answers = answers.join(scored, on="photo_id", how="left", maintain_order="left")
    answers = answers.with_columns(pl.coalesce("classes", "scored"))
    lost = answers.filter(pl.col("classes").is_null())["photo_id"]
    if len(lost):
        raise ValueError(
            f"expected predictions of the champion for {len(missing)} photos, {len(lost)} are missing, the "
            f"first of them {min(lost.to_list())}; run dvc repro so that the photo store holds them"
        )
    return answers, told


def _trained_on(candidate: Candidate) -> pl.DataFrame:
    """photo_id, source_sha256, perceptual_hash; the last two null where the version kept names alone."""
    stored = pl.DataFrame(TRAINED_ON.read(candidate.trained_on))
    return pl.concat([pl.DataFrame(schema=pl.Schema(TRAINED_ON.schema)), stored], how="diagonal")


def _is_in(values: pl.Series, others: pl.Series) -> pl.Series:
    """Whether each value is among the others; false for null."""
    return values.is_in(others.implode()).fill_null(False)
