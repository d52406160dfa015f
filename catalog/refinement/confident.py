"""Confident learning (Northcutt et al. 2021): drop as many of each confusion as the model's counts say.

The counts of confident photos, calibrated to the class sizes, estimate how many photos labelled i belong to
j; those with the largest margin p_j - p_i are pruned. It follows cleanlab.filter.find_label_issues at the
size where K x K and N x K numbers do not fit; it differs in two things. A photo is a candidate for its
largest other class only, whereas cleanlab may prune it for a third class. And a class keeps exactly its
min_per_class best photos, where cleanlab lowers the counts beforehand.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from catalog.refinement.confidence import TOLERANCE, Joint, count_confidently, estimate_joint
from catalog.refinement.evidence import Bools, Floats, Ints
from catalog.refinement.ranking import rank_within, score_labels
from catalog.refinement.suspicion import to_floats
from catalog.refinement.threshold import RefinementByThreshold, list_kept


class Confident(RefinementByThreshold):
    """All photos but those that confident learning takes for another class; use out-of-fold evidence."""

    rule: Literal["confident"] = "confident"
    """Confident learning, which was made for predictions of photos that the model did not learn from."""
    method: Literal["by_noise_rate", "by_class", "both", "confident"] = "by_class"
    """by_class: of each class the estimated number, least probable labels first; by_noise_rate: of each pair
    of classes the estimated number, largest margins first (cleanlab's default, which needs the probabilities
    of all classes to count the pairs well); both: those that both prune; confident: those
    that were counted as another class."""


def keep_confident(base: pl.DataFrame, *, scores: pl.DataFrame, config: Confident) -> pl.DataFrame:
    """The photos of a list that confident learning does not prune, in its order; unseen ones are pruned.

    scores: its rows.
    """
    suspicions = score_labels(scores, rule="confident")
    seen = np.isfinite(suspicions)
    passing = seen.copy()
    passing[seen] = ~find_issues(scores.filter(pl.Series(seen)), method=config.method)
    return list_kept(
        base,
        passing=passing,
        scores=suspicions,
        min_per_class=config.min_per_class,
        why="confident: p {:.2f} of its label, {:.2f} of another",
        numbers=[to_floats(scores[f"mean_{of}_probability"]) for of in ("label", "other")],
    )


def find_issues(
    evidence: pl.DataFrame, *, method: Literal["by_noise_rate", "by_class", "both", "confident"]
) -> Bools:
    """Which labels `[N]` confident learning finds wrong, of photos that were seen.

    As in cleanlab, never one whose label is the most probable class.
    """
    p_label = to_floats(evidence["mean_label_probability"])
    margin = to_floats(evidence["mean_other_probability"]) - p_label
    counts = count_confidently(evidence)
    issues = margin > TOLERANCE
    if method == "confident":
        return issues & counts.as_other
    labels, others = (evidence[name].to_numpy().astype(np.int64) for name in ("class", "other_class"))
    joint = estimate_joint(labels, others, counts=counts)
    ids = evidence["photo_id"]
    if method in ("by_class", "both"):
        issues &= rank_within(labels, -p_label, ids) >= joint.of_diagonal(labels)
    if method in ("by_noise_rate", "both"):
        issues &= _widest_margins(margin, labels * joint.num_classes + others, photo_ids=ids, joint=joint)
    return issues


def _widest_margins(margin: Floats, pairs: Ints, *, photo_ids: pl.Series, joint: Joint) -> Bools:
    """Of the photos `[N]` of each pair those with the largest margins, as many as the joint says.

    Only margins above 0 compete: the others would be refused afterwards, and rank behind them.
    """
    rows = np.flatnonzero(margin > TOLERANCE)
    places, counts = joint.of_pairs(pairs[rows])
    expected = counts > 0
    rows = rows[expected]
    ranks = rank_within(places[expected], -margin[rows], photo_ids[rows])
    pruned = np.zeros(len(margin), dtype=np.bool_)
    pruned[rows] = ranks < counts[expected]
    return pruned
