"""`aisle gate` and `aisle promote`: a version before the gates, with photo store and splits at hand."""

import subprocess
from collections.abc import Collection, Mapping
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
from tracking.gates.origins import Approvals
from tracking.gates.page import save_report
from tracking.gates.report import GateReport
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
    approvals: Approvals | None = None,
) -> GateReport:
    """Ask every gate about the version with the alias or number `which`, and store the report with it.

    against: alias or number of another version to compare with than the champion. approvals: who approved a
    version. Raises MissingAlias, TrackingError as the registry does.
    """
    max_distance = (duplicates or DuplicatesConfig()).max_distance

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
        approvals=approvals,
        accept_removed=accept_removed,
        is_champion=found is None or (champion is not None and found.version == champion.version),
        model=version.name,
    )
    save_report(store, version=version, report=report)
    return report


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
) -> Promotion:
    """Move `champion` to the challenger if it passes the gates."""
    report = gate_challenger(
        store,
        data=data,
        evaluation=evaluation,
        gates=gates,
        duplicates=duplicates,
        allowed_licences=allowed_licences,
        accept_removed=accept_removed,
    )
    return promote(store, data=data, gate_result=report, by=by or _git_user())


def _git_user() -> str:
    done = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
