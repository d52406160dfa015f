"""One thing that is wrong, what to run about it, and where it is safe how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from tracking.project import TrackingError
from tracking.store import Store

Kind = Literal[
    "open operation",
    "outside move",
    "version gone",
    "missing artifact",
    "altered artifact",
    "orphaned run",
    "waiting events",
    "broken chain",
    "schema",
    "moved checkout",
    "unreachable",
]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong."""

    kind: Kind
    sentence: str
    """What was expected, and what was found where."""
    run: str
    """What to do about it: a command, or what a person has to decide."""
    fix: Callable[[], object] | None = None
    """Mends it; None where that is not safe without a person. It deletes no version and edits no row."""


@contextmanager
def out_of_reach(store: Store, found: list[Finding], *, doing: str) -> Iterator[None]:
    """Turn a store that fails in the block into one finding, so that the other checks go on."""
    try:
        with store.explain_failure(doing=doing):
            yield
    except FileNotFoundError as error:
        found.append(_unreachable(f"cannot {doing}: {error}"))
    except TrackingError as error:
        found.append(_unreachable(str(error)))


def _unreachable(sentence: str) -> Finding:
    return Finding(
        kind="unreachable", sentence=sentence, run="then `aisle doctor` again: some checks were not made"
    )
