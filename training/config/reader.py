"""JSON to dataclasses with the strictness of pydantic, for nodes that have no pydantic.

A key that is misspelt must stop a job before a week of training, not be silently ignored.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

from training.config.checks import ByName

_T = TypeVar("_T")


def read_dataclass(kind: type[_T], *, values: object, where: str) -> _T:
    """Build dataclass `kind` from decoded JSON.

    Unknown, missing and wrongly typed keys raise ValueError with `where` (the file) and the dotted key.
    """
    try:
        return typing.cast(_T, _read(kind, value=values, key=""))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _read(kind: Any, *, value: object, key: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        if isinstance(arguments[1], ByName):
            return _read_choice(typing.get_args(arguments[0]), value=value, key=key)
        return _read(arguments[0], value=value, key=key)
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value=value, key=key)
    if origin in (Union, types.UnionType):
        inner = next(choice for choice in arguments if choice is not types.NoneType)
        return None if value is None else _read(inner, value=value, key=key)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(_expected(key, f"one of {', '.join(map(str, arguments))}", value))
        return value
    if origin is tuple:
        return _read_tuple(arguments, value=value, key=key)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(_expected(key, "a table of keys and values", value))
        return {name: _read(arguments[1], value=item, key=f"{key}.{name}") for name, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(_expected(key, f"a value of type {kind.__name__}", value))
    return value


def _read_choice(kinds: Sequence[Any], *, value: object, key: str) -> Any:
    """Read the dataclass among `kinds` that the table's `name` chooses."""
    names = {kind.name: kind for kind in kinds}
    if not isinstance(value, Mapping):
        raise ValueError(_expected(key, "a table of keys and values", value))
    if value.get("name") not in names:
        known = f"one of {', '.join(names)}"
        raise ValueError(_expected(f"{key}.name", known, value.get("name", "no such key")))
    return _read_fields(names[value["name"]], value=value, key=key)


def _read_fields(kind: Any, *, value: object, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(_expected(key, "a table of keys and values", value))
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    prefix = f"{key}." if key else ""
    for name in value:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(fields))}."
            raise ValueError(f"unknown key {prefix + str(name)!r}; {hint}")
    for name, spec in fields.items():
        if name not in value and spec.default is spec.default_factory is dataclasses.MISSING:
            raise ValueError(f"missing key {prefix + name!r}.")
    read = {name: _read(hints[name], value=value[name], key=prefix + name) for name in value}
    return kind(**read)


def _read_tuple(arguments: Sequence[Any], *, value: object, key: str) -> tuple[Any, ...]:
    open_ended = len(arguments) == 2 and arguments[1] is Ellipsis
    size = "any number of" if open_ended else str(len(arguments))
    if not isinstance(value, list) or not (open_ended or len(value) == len(arguments)):
        raise ValueError(_expected(key, f"a list of {size} values", value))
    kinds = [arguments[0]] * len(value) if open_ended else arguments
    return tuple(
        _read(kind, value=item, key=f"{key}[{i}]")
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _expected(key: str, expected: str, received: object) -> str:
    return f"key {key or 'job'!r}: expected {expected}, received {received!r}."
