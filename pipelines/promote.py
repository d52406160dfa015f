"""`aisle promote`: the challenger through the gate, with the photo store at hand for photos it must score."""

import subprocess
from collections.abc import Collection
from pathlib import Path

import polars as pl

from catalog.photo_store import PhotoStore
from pipelines import paths
from pipelines.params import EvaluationParams
from pipelines.weights import warn_of_licences
from recognition.provenance import ALLOWED_LICENCES
from recognition.recognizer import Recognizer
from tracking.audit import Promotion, promote
from tracking.gates import check
from tracking.registry import CHALLENGER, CHAMPION, MissingAlias, get_version, load_candidate

BATCH_SIZE = 64


def promote_challenger(
    root: Path,
    *,
    data: str,
    evaluation: EvaluationParams,
    by: str | None,
    allowed_licences: Collection[str] = ALLOWED_LICENCES,
) -> Promotion:
    """Move `champion` to the challenger if it passes the gate; weights of another licence are named."""
    challenger = load_candidate(root, version=get_version(root, data=data, which=CHALLENGER))
    warn_of_licences(f"Version {challenger.version}", challenger.bundle, allowed=allowed_licences)
    try:
        champion = load_candidate(root, version=get_version(root, data=data, which=CHAMPION))
    except MissingAlias:
        champion = None

    def score_missing(bundle: Path, photo_ids: list[str]) -> pl.DataFrame:
        return score_photos(root, data=data, bundle=bundle, photo_ids=photo_ids, evaluation=evaluation)

    result = check(challenger, champion, score_missing=score_missing)
    return promote(root, data=data, gate_result=result, by=by or _git_user())


def score_photos(
    root: Path, *, data: str, bundle: Path, photo_ids: list[str], evaluation: EvaluationParams
) -> pl.DataFrame:
    """Predictions of stored photos by any bundle: photo_id and classes, best first."""
    store = PhotoStore(root / paths.photo_store(data))
    recognizer = Recognizer(bundle, precision=evaluation.precision)
    rows = store.rows_of(photo_ids)
    classes: list[list[int]] = []
    for start in range(0, len(rows), BATCH_SIZE):
        answers = recognizer.predict(
            [store.read(int(row)) for row in rows[start : start + BATCH_SIZE]], top_k=5
        )
        classes += [[prediction.class_index for prediction in answer.predictions] for answer in answers]
    return pl.DataFrame({"photo_id": photo_ids, "classes": classes})


def _git_user() -> str:
    done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
