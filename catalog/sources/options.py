"""A layout's options as a checked object, so that a mistyped one never counts as its default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from catalog.sources import near_match

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigT = TypeVar("ConfigT", bound="DataclassInstance")


def make_config(config_type: type[ConfigT], options: Mapping[str, Any], *, layout: str) -> ConfigT:
    """The config of a layout from parsed parameters. Raises ValueError for unknown or ill-typed options."""
    known = tuple(field.name for field in fields(config_type))
    for name in options:
        if name not in known:
            raise ValueError(
                f"Unknown option {name!r} of the source layout {layout}{near_match(name, known) or '.'} "
                f"Options: {', '.join(known)}."
            )
    try:  # as JSON, so that lists may fill tuples while "3" or true is no number
        return TypeAdapter(config_type).validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        broken_rule = first.get("ctx", {}).get("error")
        if isinstance(broken_rule, ValueError):
            raise broken_rule from error
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise ValueError(
                f"The source layout {layout} needs the option {name!r}, received none."
            ) from error
        expected = first["msg"].removeprefix("Input should be ").replace("array", "list")
        raise ValueError(
            f"Option {name!r} of the source layout {layout}: expected {expected}, received "
            f"{first['input']!r}."
        ) from error
