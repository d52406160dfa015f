"""Lists made from evidence: which photos of a list a model, its members or their copies speak against."""

from catalog.refinement.agreement import Agreement
from catalog.refinement.aum import Aum
from catalog.refinement.confident import Confident
from catalog.refinement.contradictions import Contradictions
from catalog.refinement.dropped import DroppedScore, score_dropped
from catalog.refinement.low_loss import LowLoss
from catalog.refinement.max_loss import MaxLoss
from catalog.refinement.pseudo import Pseudo
from catalog.refinement.quantile import Quantile
from catalog.refinement.ranking import RankedLosses, rank_losses
from catalog.refinement.rules import RefinementRule, load_evidence, refine
from catalog.refinement.set_operations import Intersect, Subtract, Union
from catalog.refinement.suspicion import suspicion

__all__ = [
    "Agreement",
    "Aum",
    "Confident",
    "Contradictions",
    "DroppedScore",
    "Intersect",
    "LowLoss",
    "MaxLoss",
    "Pseudo",
    "Quantile",
    "RankedLosses",
    "RefinementRule",
    "Subtract",
    "Union",
    "load_evidence",
    "rank_losses",
    "refine",
    "score_dropped",
    "suspicion",
]
