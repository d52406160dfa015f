"""Two versions' answers to the same photos: by content, of shared classes, and seen in training by neither.

A photo is its content: what was seen in training, and which stored answer of the champion is to which photo
of the challenger's evaluation, is told by source_sha256, whatever the files are called. A class is its name:
each version answers among all classes of its own, and an answer outside of the shared ones is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from contracts.evaluation import PREDICTIONS, TRAINED_ON
from recognition.bootstrap import Bools, Ints
from recognition.bundle import load_ensemble_config
from tracking.registry.versions import Candidate

ScoreMissing = Callable[[Path, pl.DataFrame], pl.DataFrame]
"""(bundle, photos: photo_id and source_sha256) to photo_id, classes (list of 5 int32, best first) and their
probabilities."""
FindNear = Callable[[pl.Series, pl.Series], pl.Series]
"""(perceptual hashes, others) to whether each is that of a near-duplicate of one of the others."""

_SEEN = ("photo_id", "source_sha256", "perceptual_hash")
_NUM_NAMED = 5


class NotComparableError(ValueError):
    """Two versions have no photos to be compared on; `told` are sentences about those that were left out."""

    def __init__(self, sentence: str, *, told: list[str] | None = None) -> None:
        super().__init__(sentence)
        self.told = tuple(told or ())


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The class lists of two versions, by name."""

    names: tuple[str, ...]
    """Of the challenger, by index."""
    added: tuple[str, ...]
    removed: tuple[str, ...]
    other_index: Ints
    """The champion's index of each of the challenger's classes [K], -1 for those it lacks."""

    @classmethod
    def of(cls, challenger: Candidate, champion: Candidate) -> Classes:
        """Compare the lists of two bundles."""
        names = load_ensemble_config(challenger.bundle).class_names
        others = {name: index for index, name in enumerate(load_ensemble_config(champion.bundle).class_names)}
        return cls(
            names=names,
            added=tuple(name for name in names if name not in others),
            removed=tuple(sorted(others.keys() - set(names), key=others.__getitem__)),
            other_index=np.array([others.get(name, -1) for name in names], dtype=np.int64),
        )

    def describe(self, challenger: str, other: str) -> str:
        """The difference in a sentence: the counts, and the first names."""
        if not self.added and not self.removed:
            return "both versions have the same class list"
        parts = []
        if self.added:
            parts.append(f"{len(self.added):,} classes that {other} lacks ({first_names(self.added)})")
        if self.removed:
            parts.append(f"not {len(self.removed):,} of its classes ({first_names(self.removed)})")
        num_shared = int((self.other_index >= 0).sum())
        return (
            f"version {challenger} has {' and '.join(parts)}; errors are compared on the {num_shared:,} "
            "classes that both have"
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Both versions' answers to the photos compared [N], and the challenger's to those of new classes."""

    challenger: str
    other: str
    """The version that the challenger is compared with, as sentences name it."""
    classes: Classes
    labels: Ints
    """The challenger's class indices."""
    wrong: Bools
    other_wrong: Bools
    probability: npt.NDArray[np.float32]
    other_probability: npt.NDArray[np.float32]
    """Of the answers."""
    new_labels: Ints
    """Of the photos of classes that the other version lacks."""
    new_wrong: Bools
    told: tuple[str, ...]
    """Sentences about the photos: which were left out, and where the champion's answers are from."""


def compare(
    challenger: Candidate,
    champion: Candidate,
    *,
    other: str,
    score_missing: ScoreMissing,
    find_near: FindNear | None = None,
) -> Comparison:
    """Compare two versions' answers; both are judged by the challenger's labels, which are the newer ones.

    Photos to which the champion has no stored answer are scored by `score_missing(bundle, photos)`. A
    champion without contents, registered before these were kept, is scored on all, and what it was trained
    on goes by name. Without find_near only equal perceptual hashes are near-duplicates. Raises
    NotComparableError where no photo is left.
    """
    new = _evaluation_of(challenger)
    classes = Classes.of(challenger, champion)
    kept, told = _unseen(new, challenger, champion, find_near=find_near)
    if kept.is_empty():
        raise NotComparableError(
            f"no photo is left to compare on: all {new.height} photos of the evaluation were in the training "
            "lists of one of the two versions; evaluate on another split (evaluation.split in params.yaml)",
            told=told,
        )
    is_shared = pl.Series(classes.other_index[kept["label"].to_numpy()] >= 0)
    shared, newcomers = kept.filter(is_shared), kept.filter(~is_shared)
    if shared.is_empty():
        raise NotComparableError(
            f"no photo is left to compare on: none of the {kept.height} photos of the evaluation is of a "
            f"class that {other} has; evaluate on photos of classes that both versions know",
            told=told,
        )
    answers, matched = _answers_of(champion, photos=shared, score_missing=score_missing)
    labels = shared["label"].to_numpy().astype(np.int64)
    new_labels = newcomers["label"].to_numpy().astype(np.int64)
    return Comparison(
        challenger=challenger.version,
        other=other,
        classes=classes,
        labels=labels,
        wrong=_best(shared) != labels,
        other_wrong=_best(answers) != classes.other_index[labels],
        probability=_best_probability(shared),
        other_probability=_best_probability(answers),
        new_labels=new_labels,
        new_wrong=_best(newcomers) != new_labels,
        told=(*told, matched),
    )


def first_names(names: tuple[str, ...]) -> str:
    """The first names, quoted, and how many more there are."""
    more = len(names) - _NUM_NAMED
    return ", ".join(map(repr, names[:_NUM_NAMED])) + (f" and {more:,} more" if more > 0 else "")


def _evaluation_of(challenger: Candidate) -> pl.DataFrame:
    new = pl.DataFrame(PREDICTIONS.read(challenger.predictions))
    if new.is_empty():
        raise NotComparableError(
            f"version {challenger.version} was not evaluated (evaluation.split in its params.yaml is null), "
            "so it cannot be compared with the champion; name a labelled split there and run `dvc repro`"
        )
    if "source_sha256" not in new.columns:
        raise NotComparableError(
            f"version {challenger.version} was evaluated before predictions said what each photo is; run "
            "`dvc repro`, which evaluates it again, then `aisle promote`"
        )
    return new


def _best(answers: pl.DataFrame) -> Ints:
    best: Ints = answers["classes"].list.first().to_numpy().astype(np.int64)
    return best


def _best_probability(answers: pl.DataFrame) -> npt.NDArray[np.float32]:
    best: npt.NDArray[np.float32] = answers["probabilities"].list.first().to_numpy()
    return best


def _unseen(
    new: pl.DataFrame, challenger: Candidate, champion: Candidate, *, find_near: FindNear | None
) -> tuple[pl.DataFrame, list[str]]:
    """The photos that neither version was trained on, and the sentences that count the others."""
    trained_on = {candidate.version: _trained_on(candidate) for candidate in (challenger, champion)}
    seen: dict[str, pl.Series] = {}
    told = []
    for version, table in trained_on.items():
        has_content = table["source_sha256"].is_not_null()
        by_content = _is_in(new["source_sha256"], table["source_sha256"].filter(has_content))
        names = table["photo_id"].filter(~has_content)
        by_name = _is_in(new["photo_id"], names)
        seen[version] = by_content | by_name
        if len(names):
            told.append(
                f"of {len(names)} photos that version {version} was trained on only names are known, from "
                f"before versions kept their photos' content; {by_name.sum()} photos are left out by name"
            )
    either = seen[challenger.version] | seen[champion.version]
    if either.any():
        told.append(
            f"left out {either.sum()} of {len(new)} photos as seen in training: by version "
            f"{challenger.version} {seen[challenger.version].sum()}, by the champion (version "
            f"{champion.version}) {seen[champion.version].sum()}"
        )
    hashes = pl.concat([table["perceptual_hash"] for table in trained_on.values()]).drop_nulls().unique()
    near = (find_near or _is_in)(new["perceptual_hash"], hashes) & ~either
    if near.any():
        told.append(
            f"left out {near.sum()} of {len(new)} photos as near-duplicates of photos that a version was "
            "trained on"
        )
    return new.filter(~either & ~near), told


def _answers_of(
    champion: Candidate, *, photos: pl.DataFrame, score_missing: ScoreMissing
) -> tuple[pl.DataFrame, str]:
    """The champion's classes and probabilities for each of the photos, in order, and where they come from."""
    stored = pl.DataFrame(PREDICTIONS.read(champion.predictions))
    asked = photos.select("photo_id", "source_sha256")
    if "source_sha256" not in stored.columns:
        answers = asked.with_columns(
            classes=pl.lit(None, dtype=pl.List(pl.Int32)),
            probabilities=pl.lit(None, dtype=pl.List(pl.Float32)),
        )
        told = (
            f"version {champion.version} was registered before predictions said what each photo is, so all "
            f"{len(photos)} photos are scored with the champion's bundle"
        )
    else:
        known = stored.select("source_sha256", "classes", "probabilities")
        known = known.unique("source_sha256", keep="first")
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
        "photo_id",
        scored=pl.col("classes").cast(pl.List(pl.Int32)),
        scored_probabilities=pl.col("probabilities").cast(pl.List(pl.Float32)),
    )
    answers = answers.join(scored, on="photo_id", how="left", maintain_order="left").select(
        "photo_id",
        pl.coalesce("classes", "scored"),
        pl.coalesce("probabilities", "scored_probabilities"),
    )
    lost = answers.filter(pl.col("classes").is_null())["photo_id"]
    if len(lost):
        raise ValueError(
            f"expected predictions of the champion for {len(missing)} photos, {len(lost)} are missing, the "
            f"first of them {min(lost.to_list())}; run dvc repro so that the photo store holds them"
        )
    return answers, told


def _trained_on(candidate: Candidate) -> pl.DataFrame:
    """photo_id, source_sha256, perceptual_hash; the last two null where the version kept names alone."""
    stored = pl.DataFrame(TRAINED_ON.read(candidate.trained_on, _SEEN))
    schema = pl.Schema(TRAINED_ON.schema)
    nothing = pl.DataFrame(schema={name: schema[name] for name in _SEEN})
    return pl.concat([nothing, stored], how="diagonal")


def _is_in(values: pl.Series, others: pl.Series) -> pl.Series:
    """Whether each value is among the others; false for null."""
    return values.is_in(others.implode()).fill_null(False)
