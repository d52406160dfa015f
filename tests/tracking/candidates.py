"""Candidates whose classes and answers are said by name."""

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from contracts.evaluation import PREDICTIONS, TRAINED_ON
from tests.catalog.evidence_tables import with_content
from tests.tracking.tiny_bundle import make_bundle, make_trained_on
from tracking.lineage.origin import Lineage
from tracking.registry.versions import Candidate

_FOLDER = TemporaryDirectory(prefix="aisle-bundles-")
Answers = Sequence[tuple[str, str, str]]
"""(photo, its class, the class answered); another name is another photo."""


def make_candidate(
    folder: Path, version: str, *, classes: Sequence[str], answers: Answers, trained_on: Sequence[str] = ()
) -> Candidate:
    """A version of one member that was evaluated on the photos of `answers`."""
    folder = folder / version
    folder.mkdir(parents=True)
    PREDICTIONS.write(folder / "predictions.parquet", predict(answers, classes=classes))
    TRAINED_ON.write(folder / "trained_on.parquet", make_trained_on(*trained_on))
    return Candidate(
        version,
        shutil.copytree(_bundle_of(tuple(classes)), folder / "bundle"),
        folder / "predictions.parquet",
        folder / "trained_on.parquet",
        lineage=Lineage(commit="c0ffee", clean=True, code="abc", inputs={"data/photos/tiny": "md5"}),
        registered_by="anna",
    )


@cache
def _bundle_of(classes: tuple[str, ...]) -> Path:
    """A bundle of these classes, made once: a third of a second each."""
    return make_bundle(Path(_FOLDER.name, str(hash(classes))), seeds=(1,), class_names=classes)


def predict(answers: Answers, *, classes: Sequence[str]) -> pl.DataFrame:
    """A predictions table in the indices of `classes`, with probability .6 for each answer."""
    index = {name: number for number, name in enumerate(classes)}
    ranked = [
        [index[said], *(other for other in range(len(classes)) if other != index[said])][:5]
        for _, _, said in answers
    ]
    probabilities = [[0.6, *[0.1] * (len(row) - 1)] for row in ranked]
    return with_content(
        pl.DataFrame(
            {
                "photo_id": [photo for photo, _, _ in answers],
                "label": pl.Series([index.get(label, -1) for _, label, _ in answers], dtype=pl.Int32),
                "classes": pl.Series(ranked, dtype=pl.List(pl.Int32)),
                "probabilities": pl.Series(probabilities, dtype=pl.List(pl.Float32)),
            }
        )
    )
