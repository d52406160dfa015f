"""Promotions leave a trace: an alias moves only with a passed gate, and the version says who, when, why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tracking.gates import GateResult
from tracking.registry import CHALLENGER, CHAMPION, MissingAlias, ModelVersion, get_version
from tracking.store import TrackingError, explain_failure, make_client


@dataclass(frozen=True)
class Promotion:
    """What `promote` did: `moved` is False when the gate refused or the version is the champion already."""

    moved: bool
    version: str
    previous_champion: str | None
    reasons: list[str]


def promote(root: Path, *, data: str, gate_result: GateResult, by: str) -> Promotion:
    """Move the alias champion to the version that passed the gate, and record it on the version.

    A refused gate moves nothing. Raises TrackingError when challenger or champion changed since the gate
    looked at them, or when the store cannot be reached.
    """
    wanted, previous = gate_result.challenger, gate_result.champion
    if not gate_result.passed or wanted == previous:
        return Promotion(False, wanted, previous, gate_result.reasons)
    challenger = get_version(root, data=data, which=CHALLENGER)
    _check_unchanged(CHALLENGER, expected=wanted, received=challenger.version)
    _check_unchanged(CHAMPION, expected=previous, received=_champion(root, data=data))
    tags = {
        "aisle.promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "aisle.promoted_by": by,
        "aisle.promotion_reason": "; ".join(gate_result.reasons),
        "aisle.previous_champion": previous or "none",
    }
    _record(root, version=challenger, tags=tags)
    return Promotion(True, wanted, previous, gate_result.reasons)


def _champion(root: Path, *, data: str) -> str | None:
    try:
        return get_version(root, data=data, which=CHAMPION).version
    except MissingAlias:
        return None


def _record(root: Path, *, version: ModelVersion, tags: dict[str, str]) -> None:
    """Write the trace first: a champion without one would be worse than a trace without a move."""
    with explain_failure(root, doing=f"promote version {version.version} of {version.name}"):
        client = make_client(root)
        for key, value in tags.items():
            client.set_model_version_tag(version.name, version.version, key, value)
        client.set_registered_model_alias(version.name, CHAMPION, version.version)


def _check_unchanged(alias: str, *, expected: str | None, received: str | None) -> None:
    if expected != received:
        raise TrackingError(
            f"expected version {expected} to be the {alias}, as when the gate looked at it, but it is "
            f"version {received} now; run `aisle promote` again"
        )
