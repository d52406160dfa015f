"""`aisle gate` and `aisle promote`: a version before the gates, with photo store and splits at hand."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from aisle.score import score_photos
from catalog.duplicates import DuplicatesConfig, is_near_any
from catalog.splits import CLASSES_FILE, SPLITS_FILE, load_class_names, load_splits
from pipelines import paths
from pipelines.params import EvaluationParams
from recognition.provenance import ALLOWED_LICENCES
from tracking.gates.check import check
from tracking.gates.config import DEFAULT_GATES, GatesConfig
from tracking.gates.page import save_report
from tracking.gates.report import GateReport
from tracking.history.database import is_configured
from tracking.history.history import History
from tracking.history.outside import adopt_outside_moves
from tracking.history.state import approvals
from tracking.lineage.origin import git_user
from tracking.operations import prepare
from tracking.promotion import Promotion, promote
from tracking.registry.versions import CHALLENGER, find_champion, get_version, load_candidate
from tracking.store import Store


def gate_challenger(
    store: Store,
    *,
    data: str,
    evaluation: EvaluationParams,
    gates: GatesConfig = DEFAULT_GATES,
    duplicates: DuplicatesConfig | None = None,
    allowed_licences: Collection[str] = ALLOWED_LICENCES,
    which: str = CHALLENGER,
    against: str | None = None,
    accept_removed: int = 0,
) -> tuple[GateReport, str]:
    """Ask every gate about the version with the alias or number `which`, and store the report with it.

    against: alias or number of another version to compare with than the champion. Returns the report and its
    folder among the artifacts of the version's run. Raises MissingAlias, TrackingError as the registry does.
    """
    max_distance = (duplicates or DuplicatesConfig()).max_distance
    # A report needs no history, though it is looked at where there is one; a promotion does.
    history = History.at(store) if is_configured(store) else None
    if history is not None:
        adopt_outside_moves(history, data=data)

    def score_missing(bundle: Path, photos: pl.DataFrame) -> pl.DataFrame:
        return score_photos(
            store.root,
            data=data,
            bundle=bundle,
            photo_ids=photos["photo_id"].to_list(),
            source_sha256=photos["source_sha256"].to_list(),
            evaluation=evaluation,
        )

    def find_near(hashes: pl.Series, others: pl.Series) -> pl.Series:
        known = hashes.is_not_null()
        near = np.zeros(len(hashes), dtype=bool)
        near[known.to_numpy()] = is_near_any(
            hashes.drop_nulls().to_numpy(), others.to_numpy(), max_distance=max_distance
        )
        return pl.Series(near)

    version = get_version(store, data=data, which=which)

    def approved_by(number: str) -> Sequence[str]:
        return [event.by for event in approvals(history, version.name, number)] if history else ()

    champion = find_champion(store, data=data)
    found = champion if against is None else get_version(store, data=data, which=against)
    report = check(
        load_candidate(store, version=version, verify=False),  # a gate compares its digest
        load_candidate(store, version=found) if found else None,
        score_missing=score_missing,
        gates=gates,
        find_near=find_near,
        train_counts=count_training_photos(store.root, data=data),
        allowed_licences=allowed_licences,
        approvals=approved_by,
        accept_removed=accept_removed,
        is_champion=found is None or (champion is not None and found.version == champion.version),
        model=version.name,
    )
    return report, save_report(store, version=version, report=report)


def count_training_photos(root: Path, *, data: str) -> Mapping[str, int] | None:
    """Training photos of each class by name, as the stage `evaluate` counts them; None without splits."""
    folder = root / paths.split_folder(data)
    if not (folder / SPLITS_FILE).exists() or not (folder / CLASSES_FILE).exists():
        return None
    names, _ = load_class_names(folder)
    classes = load_splits(folder).filter(pl.col("split") == "train")["class"].drop_nulls()
    counts = np.bincount(classes.to_numpy(), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def promote_challenger(
    store: Store,
    *,
    data: str,
    evaluation: EvaluationParams,
    by: str | None,
    gates: GatesConfig = DEFAULT_GATES,
    duplicates: DuplicatesConfig | None = None,
    allowed_licences: Collection[str] = ALLOWED_LICENCES,
    accept_removed: int = 0,
    reason: str = "",
    force: str | None = None,
) -> Promotion:
    """Move `champion` to the challenger if it passes the gates.

    `force` says why it is promoted where it does not pass. What keeps `promote` from moving the alias,
    such as an operation without a result, is found before the photos are scored.
    """
    prepare(History.at(store), data=data)
    report, folder = gate_challenger(
        store,
        data=data,
        evaluation=evaluation,
        gates=gates,
        duplicates=duplicates,
        allowed_licences=allowed_licences,
        accept_removed=accept_removed,
    )
    by = by or git_user(store.root)
    return promote(store, data=data, gate_result=report, by=by, reason=reason, force=force, report=folder)
