"""From what a recipe says of its phases, defaults and differences, to what each phase is.

Works on what params.yaml holds before anything of it is checked: what it makes is checked, as if a person had
written each phase out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from training.config import PhaseConfig
from training.config.difference import chooses_another, merge_difference

LIBRARY_CHOICES = {
    key: field.default.name
    for key, field in PhaseConfig.model_fields.items()
    if hasattr(field.default, "name")
}
"""The optimizer, schedule, loss, ... of a phase that says nothing of it."""
WIRING = ("list", "init", "teacher")
"""What a phase learns from, by name; dvc.yaml makes paths of it, training does not know it."""


def resolve_phases(recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each phase's complete configuration, with the backbone of the weights where its chain of `init` begins.

    A phase whose chain begins nowhere gets the backbone "", and what is no mapping is left out: the checks of
    params.yaml refuse both in words of their own.
    """
    defaults, phases, weights = (_mapping(recipe.get(key)) for key in ("defaults", "phases", "weights"))
    resolved = {}
    for name, phase in phases.items():
        if isinstance(phase, Mapping):
            difference = {key: value for key, value in phase.items() if key not in WIRING}
            root = first_weights(name, phases=phases, weights=weights)
            backbone = _mapping(weights.get(root or "")).get("backbone", "")
            resolved[name] = _name_choices(merge_difference(defaults, difference)) | {"backbone": backbone}
    return resolved


def _name_choices(phase: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without `name` is about the library's choice, so that a size may say warmup_epochs to all."""
    return {
        key: {"name": LIBRARY_CHOICES[key], **value}
        if key in LIBRARY_CHOICES and isinstance(value, Mapping) and "name" not in value
        else value
        for key, value in phase.items()
    }


def first_weights(name: str, *, phases: Mapping[str, Any], weights: Mapping[str, Any]) -> str | None:
    """The weights where a phase's chain of `init` begins; None for a circle or an unknown name."""
    end = follow_init(name, phases=phases)[-1]
    return end if isinstance(end, str) and end in weights else None


def follow_init(name: str, *, phases: Mapping[str, Any]) -> list[Any]:
    """The phase, what it starts from, and so on, up to a name that is no phase or comes a second time."""
    chain: list[Any] = [name]
    while isinstance(chain[-1], str) and chain[-1] in phases and chain[-1] not in chain[:-1]:
        chain.append(_mapping(phases[chain[-1]]).get("init"))
    return chain


def says_it_itself(recipe: Mapping[str, Any], *, phase: str, path: Sequence[str]) -> bool:
    """Whether the value at a path of a resolved phase is the phase's own, not that of the defaults."""
    return has_path(_mapping(recipe.get("phases")).get(phase), path) or replaces_default(
        recipe, phase=phase, path=path
    )


def replaces_default(recipe: Mapping[str, Any], *, phase: str, path: Sequence[str]) -> bool:
    """Whether a mapping on the way to a path is the phase's own choice, so that no default counts there."""
    own, default = _mapping(recipe.get("phases")).get(phase), recipe.get("defaults")
    for part in path[:-1]:
        own, default = _mapping(_mapping(own).get(part)), _mapping(_mapping(default).get(part))
        if chooses_another(own, default):
            return True
    return False


def has_path(values: Any, path: Sequence[str]) -> bool:
    """Whether nested mappings hold a value at a path."""
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
