"""The gate `integrity`: every file of the version is there, and is the one that was registered."""

from __future__ import annotations

from recognition.bundle import MEMBERS_FOLDER, WEIGHTS_FILE, digest, load_ensemble_config, load_member_config
from tracking.gates.report import GateAnswer
from tracking.registry.versions import Candidate, file_digest


def judge_integrity(candidate: Candidate) -> GateAnswer:
    """Look for each member, then compare the bundle's and the evidence's digests as far as they were kept."""
    problems = _missing_members(candidate) or _changed_files(candidate)
    if problems:
        *details, last = problems
        return GateAnswer(gate="integrity", outcome="fail", sentence=last, details=tuple(details))
    count = len(load_ensemble_config(candidate.bundle).members)
    num_files = len(candidate.evidence_digests)
    compared = f"; the digests of its bundle and of {num_files} other files are those that were registered"
    return GateAnswer(
        gate="integrity",
        outcome="pass",
        sentence=f"no member of version {candidate.version} is missing ({count} of {count} are there)"
        + (compared if candidate.bundle_digest else ""),
        numbers={"members": count, "files": num_files},
    )


def _missing_members(candidate: Candidate) -> list[str]:
    """One sentence per member that the ensemble names and the bundle does not hold."""
    try:
        config = load_ensemble_config(candidate.bundle)
    except ValueError as error:
        return [f"version {candidate.version} is no ensemble's bundle: {error}"]
    problems = []
    for name in config.members:
        folder = candidate.bundle / MEMBERS_FOLDER / name
        try:
            load_member_config(folder)
        except ValueError as error:
            problems.append(f"member {name} of version {candidate.version} is missing or broken: {error}")
            continue
        if not (folder / WEIGHTS_FILE).is_file():
            problems.append(f"member {name} of version {candidate.version} has no weights")
    return problems


def _changed_files(candidate: Candidate) -> list[str]:
    """One sentence for the bundle and one for each other file that is not what was registered."""
    problems = []
    found = digest(candidate.bundle) if candidate.bundle_digest else ""
    if found != candidate.bundle_digest:
        problems.append(
            f"expected bundle {candidate.bundle_digest[:12]} of version {candidate.version}, received "
            f"{found[:12]} in {candidate.bundle}: files there were changed; run `aisle register` where its "
            "ensemble is under data/ensembles, or restore the artifact store from its backup"
        )
    for name, expected in sorted(candidate.evidence_digests.items()):
        path = candidate.predictions.with_name(name)
        received = file_digest(path) if path.is_file() else "no file"
        if received != expected:
            problems.append(
                f"expected {name} of version {candidate.version} with the SHA-256 {expected[:12]}, received "
                f"{received[:12]} in {path.parent}: run `dvc repro`, which registers it again, or restore "
                "the artifact store from its backup"
            )
    return problems
