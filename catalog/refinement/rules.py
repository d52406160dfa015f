"""From a rule's configuration to its list: the one place that knows every refinement rule."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import polars as pl

from catalog.duplicates import load_duplicates
from catalog.refinement.agreement import Agreement, keep_agreed
from catalog.refinement.aum import Aum, keep_wide_margins
from catalog.refinement.confident import Confident, keep_confident
from catalog.refinement.contradictions import Contradictions, drop_contradictions
from catalog.refinement.evidence import (
    Evidence,
    load_members,
    load_other_list,
    load_scores,
    match_scores,
)
from catalog.refinement.low_loss import LowLoss, keep_low_losses
from catalog.refinement.max_loss import MaxLoss, keep_up_to_loss
from catalog.refinement.pseudo import Pseudo, add_pseudo_labels
from catalog.refinement.quantile import Quantile, keep_all_but_share
from catalog.refinement.ranking import rank_losses
from catalog.refinement.set_operations import Intersect, Subtract, Union, intersect, subtract, unite
from catalog.refinement.suspicion import NEEDED

RuleOfScores: TypeAlias = LowLoss | MaxLoss | Quantile | Aum | Confident
RefinementRule: TypeAlias = RuleOfScores | Agreement | Pseudo | Contradictions | Union | Intersect | Subtract


def load_evidence(
    config: RefinementRule, *, root: Path = Path(), splits: pl.DataFrame | None = None
) -> Evidence:
    """Read what a rule needs of its evidence path: one table, or a folder's tables by name.

    splits: says which photos a list means that has names alone. Raises FileNotFoundError where nothing is
    there; ValueError where something else is.
    """
    path = root / config.evidence
    match config:
        case LowLoss() | MaxLoss() | Quantile():
            return load_scores(path, columns=NEEDED["low_loss"], members=config.members)
        case Aum():
            return load_scores(path, columns=NEEDED["aum"], members=config.members)
        case Confident():
            return load_scores(path, columns=NEEDED["confident"], members=config.members)
        case Agreement() | Pseudo():
            return load_members(path, members=config.members)
        case Contradictions():
            exact, near = load_duplicates(path)
            return {"exact": exact, "near": near}
        case Union() | Intersect() | Subtract():
            return load_other_list(path, splits=splits)


def refine(
    config: RefinementRule, *, base: pl.DataFrame | None, evidence: Evidence, num_classes: int
) -> pl.DataFrame:
    """Make the list of a refinement rule: the columns of `catalog.lists`; in the base list's order.

    base: a list, or None for conf/nothing.yaml, which only union and pseudo take. evidence: what
    `load_evidence` reads for this rule. Raises ValueError for evidence that does not fit the base list, for a
    list without photos, and where fewer than min_classes_kept classes are left.
    """
    made = _make(config, base=base, evidence=evidence, num_classes=num_classes)
    num_left = made["class"].n_unique()
    if made.is_empty() or num_left < (config.min_classes_kept or 0):
        of = "" if base is None else f" of {len(base)} photos of {base['class'].n_unique()} classes"
        raise ValueError(
            f"Expected at least {config.min_classes_kept or 1} classes kept by the rule {config.rule!r}, "
            f"received {len(made)} photos of {num_left} classes{of}: keep more, or lower min_classes_kept."
        )
    return made


def _make(
    config: RefinementRule, *, base: pl.DataFrame | None, evidence: Evidence, num_classes: int
) -> pl.DataFrame:
    if isinstance(config, Union):
        return unite(base, other=_one_table(evidence, config), config=config)
    if isinstance(config, Pseudo):
        tables = _tables(evidence, config)
        return add_pseudo_labels(base, out_of_fold=tables, num_classes=num_classes, config=config)
    if base is None:
        raise ValueError(f"Expected a base list for the rule {config.rule!r} to filter, received none.")
    match config:
        case Agreement():
            tables = _tables(evidence, config)
            return keep_agreed(base, out_of_fold=tables, num_classes=num_classes, config=config)
        case Contradictions():
            return drop_contradictions(base, duplicates=_tables(evidence, config), config=config)
        case Intersect():
            return intersect(base, other=_one_table(evidence, config), config=config)
        case Subtract():
            return subtract(base, other=_one_table(evidence, config), config=config)
        case _:
            scores = match_scores(base, _one_table(evidence, config), num_classes=num_classes)
            return _keep_by_score(config, base=base, scores=scores, num_classes=num_classes)


def _keep_by_score(
    config: RuleOfScores, *, base: pl.DataFrame, scores: pl.DataFrame, num_classes: int
) -> pl.DataFrame:
    match config:
        case LowLoss():
            return keep_low_losses(rank_losses(base, scores=scores, num_classes=num_classes), config=config)
        case MaxLoss():
            return keep_up_to_loss(base, scores=scores, num_classes=num_classes, config=config)
        case Quantile():
            return keep_all_but_share(base, scores=scores, config=config)
        case Aum():
            return keep_wide_margins(base, scores=scores, config=config)
        case Confident():
            return keep_confident(base, scores=scores, config=config)


def _one_table(evidence: Evidence, config: RefinementRule) -> pl.DataFrame:
    if not isinstance(evidence, pl.DataFrame):
        raise ValueError(
            f"Expected one table for {config.rule!r}, received {list(evidence)}: see load_evidence."
        )
    return evidence


def _tables(evidence: Evidence, config: RefinementRule) -> Mapping[str, pl.DataFrame]:
    if isinstance(evidence, pl.DataFrame):
        raise ValueError(f"Expected tables by name for {config.rule!r}, received one: see load_evidence.")
    return evidence
