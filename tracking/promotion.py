"""Promotions leave a trace: an alias moves only with a passed gate, and the version says who, when, why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from tracking.gates.report import GateReport
from tracking.project import TrackingError
from tracking.registry.versions import CHALLENGER, CHAMPION, find_champion, get_version, model_name
from tracking.store import Store


@dataclass(frozen=True)
class Promotion:
    """What `promote` did: `moved` is False when the gate refused or the version is the champion already."""

    moved: bool
    version: str
    previous_champion: str | None
    reasons: list[str]


def promote(store: Store, *, data: str, gate_result: GateReport, by: str) -> Promotion:
    """Move the alias champion to the version that passed the gate, and record it on the version.

    A refused gate moves nothing. Raises TrackingError when challenger or champion changed since the gate
    looked at them, or when the store cannot be reached.
    """
    wanted, previous = gate_result.challenger, gate_result.champion
    if not gate_result.passed or wanted == previous:
        return Promotion(False, wanted, previous, gate_result.reasons)
    champion = find_champion(store, data=data)
    now = {
        CHALLENGER: get_version(store, data=data, which=CHALLENGER).version,
        CHAMPION: champion.version if champion else None,
    }
    for alias, expected in ((CHALLENGER, wanted), (CHAMPION, previous)):
        if now[alias] != expected:
            raise TrackingError(
                f"expected version {expected} to be the {alias}, as when the gate looked at it, but it is "
                f"version {now[alias]} now; run `aisle promote` again"
            )
    name = model_name(data)
    tags = {
        "aisle.promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "aisle.promoted_by": by,
        "aisle.promotion_reason": "; ".join(gate_result.reasons),
        "aisle.previous_champion": previous or "none",
    }
    with store.explain_failure(doing=f"promote version {wanted} of {name}"):
        # The trace first: a champion without one would be worse than a trace without a move.
        for key, value in tags.items():
            store.client.set_model_version_tag(name, wanted, key, value)
        store.client.set_registered_model_alias(name, CHAMPION, wanted)
    return Promotion(True, wanted, previous, gate_result.reasons)
