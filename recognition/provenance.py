"""What a model began from, and under which licence: carried from the first weights to every bundle.

A phase that starts from another phase inherits what that one began from, so a bundle answers the question
whose weights are in it, however many phases lie between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ALLOWED_LICENCES = (
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "isc",
    "cc0-1.0",
    "cc-by-4.0",
    "unlicense",
)
"""Licences of weights, in the lower-case SPDX ids that timm uses, under which a product may be built without
asking; params.yaml's `weights.allowed_licences` replaces them."""

RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the weights came from before any training of ours."""

    source: str
    """In words, without a path of the machine: "random", "package NAME VERSION", "hub REPOSITORY", ..."""
    model: str = ""
    """timm's name of the model, with its tag; empty for random weights."""
    licence: str = ""
    """SPDX id in lower case; empty where it is unknown, or nothing is licensed (random weights)."""
    sha256: str = ""
    """Of the source file; empty for random weights."""

    @classmethod
    def of(cls, value: Provenance | Mapping[str, Any] | str) -> Provenance:
        """Read what a bundle's config says; bundles from before this was recorded have one word."""
        if isinstance(value, Provenance):
            return value
        return cls(source=value) if isinstance(value, str) else cls(**value)

    def is_allowed(self, licences: Collection[str]) -> bool:
        """Say whether the licence is on a list; an unknown one is not, and random weights need none."""
        return self.source == RANDOM or self.licence.lower() in {licence.lower() for licence in licences}

    def tags(self) -> dict[str, str]:
        """Return the provenance as tags of a run."""
        values = {
            "aisle.initial_weights": self.source,
            "aisle.initial_weights.model": self.model,
            "aisle.initial_weights.licence": self.licence,
            "aisle.initial_weights.sha256": self.sha256,
        }
        return {name: value for name, value in values.items() if value}


def name_unlisted_licences(
    origins: Iterable[tuple[str, Provenance]], *, allowed: Collection[str]
) -> list[str]:
    """Return a sentence for each (what, provenance) whose licence is not on the list."""
    return [
        f"{what} began from {origin.model or 'weights'} ({origin.source}), whose licence is "
        f"{origin.licence or 'unknown'}: not one of weights.allowed_licences ({', '.join(allowed)}). "
        "See whether you may use it, and add it there if so."
        for what, origin in origins
        if not origin.is_allowed(allowed)
    ]
