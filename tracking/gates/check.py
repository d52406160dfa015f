"""The tests a challenger must pass before it may become champion, answered in words a person can check.

Looks at files, not at MLflow: the registry has brought those of the two candidates here, and what needs the
photo store, the splits or the history is handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from recognition.provenance import ALLOWED_LICENCES
from tracking.gates.classes import judge_new_classes, judge_removed_classes
from tracking.gates.config import DEFAULT_GATES, GatesConfig
from tracking.gates.errors import judge_error, judge_tail
from tracking.gates.integrity import judge_integrity
from tracking.gates.origins import Approvals, judge_approval, judge_licence, judge_lineage, judge_review
from tracking.gates.photos import Classes, FindNear, NotComparableError, ScoreMissing, compare
from tracking.gates.report import GateAnswer, GateReport
from tracking.gates.serving import judge_calibration, judge_latency, judge_size
from tracking.registry.versions import Candidate

_COMPARING = ("error", "tail", "new_classes", "removed_classes", "calibration")
_ALL = (*_COMPARING, "latency", "size", "licence", "lineage", "review", "approval")


def check(
    challenger: Candidate,
    champion: Candidate | None,
    *,
    score_missing: ScoreMissing,
    gates: GatesConfig = DEFAULT_GATES,
    find_near: FindNear | None = None,
    train_counts: Mapping[str, int] | None = None,
    allowed_licences: Collection[str] = ALLOWED_LICENCES,
    approvals: Approvals | None = None,
    accept_removed: int = 0,
    is_champion: bool = True,
    model: str = "",
) -> GateReport:
    """Ask every gate about a challenger, compared with the champion or, where there is none, by itself.

    train_counts: training photos of each class by name, None where they are unknown. is_champion: false
    where the other version is another one than the champion. What is not said: tracking.gates.photos.
    """
    other = "none" if champion is None else f"version {champion.version}"
    if champion is not None and is_champion:
        other = f"the champion ({other})"
    integrity = judge_integrity(challenger)
    if integrity.outcome == "fail":
        reason = f"not judged, since files of version {challenger.version} are missing or changed"
        answers = [integrity, *(_not_applicable(gate, reason) for gate in _ALL)]
    else:
        if champion is None:
            compared = _without_comparison(
                f"there is no champion yet, so version {challenger.version} becomes the first one"
            )
        elif champion.version == challenger.version:
            compared = _without_comparison(f"version {challenger.version} is the champion already")
        else:
            compared = _compare(
                challenger,
                champion,
                other=other,
                gates=gates,
                score_missing=score_missing,
                find_near=find_near,
                train_counts=train_counts,
                accept_removed=accept_removed,
            )
        answers = [
            integrity,
            *compared,
            judge_latency(challenger, champion, other=other, gates=gates),
            judge_size(challenger, champion, other=other, gates=gates),
            judge_licence(challenger, allowed=allowed_licences, gates=gates),
            judge_lineage(challenger, gates=gates),
            judge_review(challenger, gates=gates),
            judge_approval(challenger, approvals=approvals, gates=gates),
        ]
    return GateReport(
        challenger=challenger.version,
        champion=champion.version if champion else None,
        answers=tuple(answers),
        model=model,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _compare(
    challenger: Candidate,
    champion: Candidate,
    *,
    other: str,
    gates: GatesConfig,
    score_missing: ScoreMissing,
    find_near: FindNear | None,
    train_counts: Mapping[str, int] | None,
    accept_removed: int,
) -> list[GateAnswer]:
    """The answers about what both versions say to the same photos."""
    version = challenger.version
    classes = Classes.of(challenger, champion)
    removed = judge_removed_classes(classes, version=version, other=other, accept_removed=accept_removed)
    try:
        comparison = compare(
            challenger, champion, other=other, score_missing=score_missing, find_near=find_near
        )
    except NotComparableError as error:
        failed = GateAnswer(gate="error", outcome="fail", sentence=str(error), details=error.told)
        rest = [
            _not_applicable(gate, "there are no answers to compare")
            for gate in ("tail", "new_classes", "calibration")
        ]
        return [failed, *rest[:2], removed, rest[2]]
    return [
        judge_error(comparison, gates=gates),
        judge_tail(comparison, train_counts=train_counts, gates=gates),
        judge_new_classes(
            classes,
            labels=comparison.new_labels,
            wrong=comparison.new_wrong,
            version=version,
            other=other,
            gates=gates,
        ),
        removed,
        judge_calibration(comparison, gates=gates),
    ]


def _without_comparison(reason: str) -> list[GateAnswer]:
    """The answers of gates that compare, where there is no other version; the first one says why."""
    rest = [_not_applicable(gate, "there is no other version to compare with") for gate in _COMPARING[1:]]
    return [_not_applicable(_COMPARING[0], reason), *rest]


def _not_applicable(gate: str, sentence: str) -> GateAnswer:
    return GateAnswer(gate=gate, outcome="not applicable", sentence=sentence)
