"""What a person types after `aisle use`, without knowing Hydra's grammar.

Hydra reads `( ) ' " = , ~ # { } [ ] $` and spaces as syntax, and stops at letters outside of ASCII. So values
that are text (paths, names of columns) never pass through its parser: a placeholder does, and what was typed
is put in its place after composing, exactly. Other values keep Hydra's grammar: numbers, lists, `${...}`,
`+key=`, `++key=`, `~key`; what that grammar cannot read is YAML or, at last, text.

`recipe.phases.*.epochs=1` is ours: one value for every phase (see `expand_star`).
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args
from uuid import uuid4

import yaml

from catalog.sources import is_remote
from pipelines.params_data import AnyData
from pipelines.paths import NO_FILE
from pipelines.resolution import WIRING, has_path, replaces_default
from training.config import PhaseConfig

_PATHS = ("data.root", "data.watch")
_TEXTS = (*_PATHS, "data.split.noise.confusion_path", "data.name", "recipe.name", "size.name")
_FORM = re.compile(r"(\+\+|\+|~)?([^=]*)(?:=(.*))?", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*")
_EVERY_PHASE = "recipe.phases.*."
_RENAMED = {"lr": "optimizer.lr", "warmup_epochs": "schedule.warmup_epochs"}
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Override:
    """One argument: `key=value`, `+key=value`, `++key=value`, `~key`."""

    sign: str
    key: str
    value: str | None
    """None where a key is only taken away."""

    @property
    def has_star(self) -> bool:
        """Whether it is about every phase."""
        return self.key.startswith(_EVERY_PHASE)

    def __str__(self) -> str:
        return f"{self.sign}{self.key}" + ("" if self.value is None else f"={self.value}")


def parse(typed: str) -> Override:
    """Take an argument apart. Raises ValueError where it is no GROUP=NAME or KEY=VALUE."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"Expected text in UTF-8, as params.yaml is, received {typed!r}: make a link to it under another "
            "name (ln -s), and give that."
        ) from None
    match = _FORM.fullmatch(typed)
    assert match is not None  # the form matches any text
    sign, key, value = match.groups()
    if value is None and sign != "~":
        raise ValueError(f"Expected GROUP=NAME or KEY=VALUE, received {typed!r}, which has no =.")
    if not _KEY.fullmatch(key.replace(_EVERY_PHASE, "recipe.phases.", 1)):
        raise ValueError(
            f"Expected a key of params.yaml such as recipe.defaults.epochs before the =, received {key!r} in "
            f"{typed!r}: give the argument as KEY=VALUE."
        )
    return Override(sign=sign or "", key=key, value=value)


def follow_renaming(override: Override) -> Override:
    """The override under its present key, with a warning where it was typed under one of the last release.

    A size said the epochs, pixels and rates of every phase until recipes had defaults of their own.
    """
    group, _, name = override.key.partition(".")
    name = _RENAMED.get(name, name)
    if group != "size" or name.partition(".")[0] not in PhaseConfig.model_fields or name == "backbone":
        return override
    key = f"recipe.defaults.{name}"
    logger.warning("%s is %s since recipes have defaults; this release still takes it.", override.key, key)
    return replace(override, key=key)


def resolve_paths(override: Override, *, root: Path, cwd: Path) -> Override:
    """The override with its path as params.yaml holds it: `~` written out, relative to the checkout.

    A relative path means the folder that the command was typed in, as it does to git; conf/nothing.yaml, the
    word for no file, and URLs stay as they are.
    """
    value = override.value
    if override.key not in _PATHS or not value or value in ("null", NO_FILE) or is_remote(value):
        return override
    value = os.path.expanduser(value)  # noqa: PTH111  a Path would lose a trailing slash and ./
    if not os.path.isabs(value) and cwd.resolve() != root.resolve():  # noqa: PTH117
        value = os.path.relpath(cwd.resolve() / value, root.resolve())
    return replace(override, value=value)


def expand_star(override: Override, *, recipe: Mapping[str, Any]) -> list[Override]:
    """What `recipe.phases.*.key=value` means for a recipe: a default, and in no phase another value.

    A phase whose own mapping replaces the default's (another optimizer, another schedule, ...) gets the value
    there, if it states the key. list, init and teacher, which have no default, are given to each phase.
    """
    key = override.key.removeprefix(_EVERY_PHASE)
    path, phases, defaults = key.split("."), recipe["phases"], recipe["defaults"]
    of_phases = {name: replace(override, key=f"recipe.phases.{name}.{key}") for name in phases}
    if path[0] in WIRING:
        return list(of_phases.values())
    expanded = []
    if override.value is not None or has_path(defaults, path):
        expanded.append(replace(override, key=f"recipe.defaults.{key}"))
    for name, phase in phases.items():
        if has_path(phase, path):
            keeps = replaces_default(recipe, phase=name, path=path) and override.value is not None
            expanded.append(of_phases[name] if keeps else replace(of_phases[name], sign="~", value=None))
    return expanded


def to_hydra(overrides: Sequence[Override]) -> tuple[list[str], dict[str, Any]]:
    """The overrides in Hydra's grammar, and what stands behind each placeholder in them (see `restore`).

    `+key=` may also change a key that is there. Raises ValueError for several values at once.
    """
    written, literals = [], dict[str, Any]()
    for override in overrides:
        value = override.value
        if value is not None and (literal := _read_literal(override)) is not None:
            value = f"literal{uuid4().hex}"
            literals[value] = literal[0]
        sign = "++" if override.sign == "+" and "." in override.key else override.sign
        written.append(str(replace(override, sign=sign, value=value)))
    return written, literals


def restore(composed: Any, literals: Mapping[str, Any]) -> Any:
    """The composed values with what was typed in the place of its placeholders, also inside other values."""
    if isinstance(composed, dict):
        return {key: restore(value, literals) for key, value in composed.items()}
    if isinstance(composed, list):
        return [restore(value, literals) for value in composed]
    if not isinstance(composed, str):
        return composed
    if composed in literals:
        return literals[composed]
    for placeholder, literal in literals.items():
        if placeholder in composed:
            composed = composed.replace(placeholder, str(literal))
    return composed


def _read_literal(override: Override) -> tuple[Any] | None:
    """The value that Hydra must not read, in a tuple since it may be null; None where Hydra reads it."""
    value, key = override.value, override.key
    assert value is not None
    if key in (texts := _text_keys()):
        if value == "null" and texts[key]:
            return (None,)
        if not value and key in _TEXTS:
            raise ValueError(f"{key}: expected a path or name, received nothing: write it after the =.")
        return (value,)
    parsed = _parse_with_hydra(override)
    if parsed is None:
        return (_read_yaml(override),)
    if parsed.is_sweep_override():
        raise ValueError(
            f"{key}: expected one value, received several: {value}. Use [a, b] for a list, and `dvc exp run "
            "--queue -S` to compare several values."
        )
    return None


def _parse_with_hydra(override: Override) -> Any:
    """Hydra's reading of `key=value`, or None where its grammar does not hold the value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"key={override.value}")
    except HydraException:
        return None


def _read_yaml(override: Override) -> Any:
    """A list or mapping that only YAML can read, or the text itself."""
    assert override.value is not None
    if override.value.lstrip()[:1] not in ("[", "{"):
        return override.value
    try:
        return yaml.safe_load(override.value)
    except yaml.YAMLError as error:
        raise ValueError(
            f"{override.key}: expected a list such as [a, b] or a mapping such as {{a: 1}}, received "
            f"{override.value!r}: close its brackets and put quotes round names that hold , : or a bracket."
        ) from error


def _text_keys() -> dict[str, bool]:
    """Keys whose values are text, and whether null is another value than the text."""
    keys = {key: key in _PATHS for key in _TEXTS}
    for layout in get_args(AnyData):
        for name, field in layout.model_fields["options"].annotation.model_fields.items():
            kinds = set(get_args(field.annotation)) or {field.annotation}
            if kinds <= {str, NoneType}:
                key = f"data.options.{name}"
                keys[key] = keys.get(key, False) or NoneType in kinds
    return keys
