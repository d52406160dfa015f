"""A phase as a recipe says it: what all phases share, and what differs in this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_difference(defaults: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a difference over defaults: mappings key by key, everything else as a whole.

    A mapping that chooses another `name` than the default's (loss, optimizer, schedule, ...) replaces it, for
    keys of one choice mean nothing to another: {name: sgd, lr: 0.1} with {name: ranger} is {name: ranger}.
    """
    merged = dict(defaults)
    for key, value in difference.items():
        default = merged.get(key)
        if (
            isinstance(value, Mapping)
            and isinstance(default, Mapping)
            and not chooses_another(value, default)
        ):
            merged[key] = merge_difference(default, value)
        else:
            merged[key] = value
    return merged


def chooses_another(difference: Mapping[str, Any], default: Mapping[str, Any]) -> bool:
    """Whether a mapping names another choice than the default's, whose keys it does not keep."""
    return "name" in difference and "name" in default and difference["name"] != default["name"]
