"""`aisle promote`: the challenger through the gate, with the photo store at hand for photos it must score."""

import subprocess
from collections.abc import Collection
from pathlib import Path

import polars as pl

from aisle.score import score_photos
from pipelines.params import EvaluationParams
from pipelines.weights import warn_of_licences
from recognition.provenance import ALLOWED_LICENCES
from tracking.gates.check import check
from tracking.promotion import Promotion, promote
from tracking.registry.versions import CHALLENGER, find_champion, get_version, load_candidate
from tracking.store import Store


def promote_challenger(
    store: Store,
    *,
    data: str,
    evaluation: EvaluationParams,
    by: str | None,
    allowed_licences: Collection[str] = ALLOWED_LICENCES,
) -> Promotion:
    """Move `champion` to the challenger if it passes the gate; weights of another licence are named."""
    challenger = load_candidate(store, version=get_version(store, data=data, which=CHALLENGER))
    warn_of_licences(f"Version {challenger.version}", challenger.bundle, allowed=allowed_licences)
    found = find_champion(store, data=data)
    champion = load_candidate(store, version=found) if found else None

    def score_missing(bundle: Path, photos: pl.DataFrame) -> pl.DataFrame:
        return score_photos(
            store.root,
            data=data,
            bundle=bundle,
            photo_ids=photos["photo_id"].to_list(),
            source_sha256=photos["source_sha256"].to_list(),
            evaluation=evaluation,
        )

    result = check(challenger, champion, score_missing=score_missing)
    return promote(store, data=data, gate_result=result, by=by or _git_user())


def _git_user() -> str:
    done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
