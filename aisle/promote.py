"""`aisle promote`: the challenger through the gate, with the photo store at hand for photos it must score."""

from collections.abc import Collection
from pathlib import Path

import polars as pl

from aisle.score import score_photos
from pipelines.params import EvaluationParams
from pipelines.weights import warn_of_licences
from recognition.provenance import ALLOWED_LICENCES
from tracking.gates.check import check
from tracking.history.history import History
from tracking.lineage.origin import git_user
from tracking.operations import prepare
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
    reason: str = "",
    force: str | None = None,
) -> Promotion:
    """Move `champion` to the challenger if it passes the gate; weights of another licence are named.

    `force` says why it is promoted where it does not pass. What keeps `promote` from moving the alias,
    such as an operation without a result, is found before the photos are scored.
    """
    prepare(History.at(store), data=data)
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
    by = by or git_user(store.root)
    return promote(store, data=data, gate_result=result, by=by, reason=reason, force=force)
