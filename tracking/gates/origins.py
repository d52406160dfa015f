"""The gates `licence`, `lineage`, `review` and `approval`: where a version is from, and who looked at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from recognition.bundle import find_provenance
from recognition.provenance import RANDOM, name_unlisted_licences
from tracking.gates.config import GatesConfig
from tracking.gates.report import GateAnswer
from tracking.registry.versions import Candidate

Approvals = Callable[[str], Sequence[str]]
"""A version's number to the people who approved it."""
_REVIEW_FORMAT = 1


def judge_licence(candidate: Candidate, *, allowed: Collection[str], gates: GatesConfig) -> GateAnswer:
    """Judge the licences of the weights that the members began from."""
    origins = list(dict.fromkeys(find_provenance(candidate.bundle)))
    unlisted = name_unlisted_licences(
        [(f"version {candidate.version}", origin) for origin in origins], allowed=allowed
    )
    names = sorted({origin.licence or "unknown" for origin in origins if origin.source != RANDOM})
    if unlisted:
        *details, last = unlisted
        tolerated = "" if gates.require_allowed_licence else " gates.require_allowed_licence is false."
        return GateAnswer(
            gate="licence",
            outcome="fail" if gates.require_allowed_licence else "pass",
            sentence=f"{last}{tolerated}",
            details=tuple(details),
            names={"licences": tuple(names)},
        )
    if not names:
        sentence = f"version {candidate.version} began from random weights, which need no licence"
        return GateAnswer(gate="licence", outcome="not applicable", sentence=sentence)
    return GateAnswer(
        gate="licence",
        outcome="pass",
        sentence=f"version {candidate.version} began from weights under {', '.join(names)}, on the list of "
        "weights.allowed_licences",
        names={"licences": tuple(names)},
    )


def judge_lineage(candidate: Candidate, *, gates: GatesConfig) -> GateAnswer:
    """Judge whether the version can be made again: commit, code, and the hash of every input."""
    version, lineage = candidate.version, candidate.lineage
    unknown = [] if lineage is None else [path for path, md5 in lineage.inputs.items() if not md5]
    if lineage is None or not lineage.inputs or unknown:
        what = f"the hash of {', '.join(unknown)}" if unknown else "what it was made from"
        return GateAnswer(
            gate="lineage",
            outcome="fail",
            sentence=f"expected the hash of every input of version {version}, but {what} is unknown: run "
            "`dvc repro`, which registers a version with its lineage",
        )
    inputs = f"the hashes of all {len(lineage.inputs)} inputs of version {version} are known"
    if lineage.clean:
        return GateAnswer(
            gate="lineage",
            outcome="pass",
            sentence=f"{inputs}, and nothing but params.yaml and dvc.lock differed from commit "
            f"{lineage.commit[:10]}",
        )
    whence = f"changes that commit {lineage.commit[:10]} does not hold" if lineage.commit else "no commit"
    if gates.require_clean:
        return GateAnswer(
            gate="lineage",
            outcome="fail",
            sentence=f"{inputs}, but it was made with {whence}: commit them, change what should be better, "
            "and run `dvc repro`; or set gates.require_clean to false",
        )
    return GateAnswer(
        gate="lineage",
        outcome="pass",
        sentence=f"{inputs}; it was made with {whence}, so nobody else can make it again, which "
        "gates.require_clean: true would refuse",
    )


def judge_review(candidate: Candidate, *, gates: GatesConfig) -> GateAnswer:
    """Judge the warnings in the review of the data that the version was trained on."""
    version, gate = candidate.version, "review"
    if not candidate.review.is_file():
        sentence = f"version {version} was registered before reviews of the data were stored"
        return GateAnswer(gate=gate, outcome="not applicable", sentence=sentence)
    review = _read_review(candidate.review)
    warnings = {item["what"]: item for item in review["warnings"]}
    opened = [what for what in warnings if not what.startswith(gates.acknowledged_warnings)]
    numbers = {"warnings": len(warnings), "open": len(opened)}
    if opened:
        found = "; ".join(f"{what}: {_counted(warnings[what])}" for what in opened)
        return GateAnswer(
            gate=gate,
            outcome="fail",
            sentence=f"the review of version {version}'s data has {len(opened)} open warnings ({found}): "
            "look with `aisle data review`, correct the data, or add the warning's beginning to "
            "gates.acknowledged_warnings",
            numbers=numbers,
            names={"open": tuple(opened)},
        )
    return GateAnswer(
        gate=gate,
        outcome="pass",
        sentence=f"the review of version {version}'s data has no open warning; {len(warnings)} are "
        "acknowledged by gates.acknowledged_warnings",
        numbers=numbers,
        names={"acknowledged": tuple(warnings)},
    )


def judge_approval(candidate: Candidate, *, approvals: Approvals | None, gates: GatesConfig) -> GateAnswer:
    """Judge whether somebody other than the one who registered the version has approved it."""
    version, gate = candidate.version, "approval"
    if not gates.require_approval:
        sentence = "gates.require_approval is false, so nobody has to approve"
        return GateAnswer(gate=gate, outcome="not applicable", sentence=sentence)
    people = tuple(approvals(version)) if approvals is not None else ()
    others = [name for name in people if name != candidate.registered_by]
    if others:
        sentence = f"version {version} was approved by {', '.join(others)}"
        return GateAnswer(gate=gate, outcome="pass", sentence=sentence, names={"approved by": people})
    who = f"other than {candidate.registered_by}, who registered it, " if candidate.registered_by else ""
    return GateAnswer(
        gate=gate,
        outcome="fail",
        sentence=f"expected somebody {who}to approve version {version}, received "
        f"{'only that of ' + ', '.join(people) if people else 'no approval'}: ask for "
        f"`aisle approve {version}`",
        names={"approved by": people},
    )


def _counted(warning: dict[str, Any]) -> str:
    names = ", ".join(map(str, warning["names"][:3]))
    return f"{warning['count']:,}" + (f", first {names}" if names else "")


def _read_review(path: Path) -> dict[str, Any]:
    """What catalog.review wrote, which tracking does not import."""
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.get("format_version") == _REVIEW_FORMAT and isinstance(values["warnings"], list):
            return values
        received = f"format version {values.get('format_version')}"
    except (ValueError, KeyError, AttributeError) as error:
        received = str(error)
    raise ValueError(
        f"Expected the review of the data in {path}, format version {_REVIEW_FORMAT}, received {received}: "
        "run `dvc repro` to register the version again."
    )
