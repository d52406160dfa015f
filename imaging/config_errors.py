"""What is wrong with a configuration, in sentences that a person can act on, wherever it was written.

A mistyped key must stop a job before a week of training, and say which key was meant.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple, TypeGuard, Union, get_args, get_origin

from pydantic import ValidationError

from imaging.config import Config, WrongValueError

_LIMITS = ("ge", "gt", "le", "lt")
_CHOOSERS = ("name", "rule", "layout")  # keys by which a union is told apart
_SHOWN = 200  # characters of a received value in an error


def describe_errors(error: ValidationError, *, kind: type[Config]) -> list[str]:
    """A sentence for each thing wrong with a `kind`: its dotted key, what was expected and received.

    A mistyped key or choice is named with its near match.
    """
    return [_describe(problem, kind) for problem in error.errors(include_url=False)]


def near_match(name: str, known: Sequence[str]) -> str:
    """'; did you mean ...?' for the end of an error, or nothing."""
    near = get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_of(names: Sequence[str], count: int = 12) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "none") + more


def _describe(problem: Any, kind: type[Config]) -> str:
    """The sentence of one of pydantic's problems."""
    what, location, context = problem["type"], problem["loc"], problem.get("ctx", {})
    if what == "missing" and isinstance(location[-1], int):
        location = location[:-1]  # the list is too short, and pydantic names the item that it lacks
    place = _find(kind, location)
    if what == "json_invalid":
        return f"Expected JSON, received what is not JSON: {context['error']}."
    if what == "extra_forbidden":
        hint = near_match(str(location[-1]), place.known) or f"; the keys there are {first_of(place.known)}."
        return f"{place.key}: no such key{hint}"
    if what == "missing" and location is problem["loc"]:
        return f"{place.key}: this key is missing."
    if what == "value_error":
        return _join(place.key, context["error"])
    if what.startswith("union_tag_"):
        chooser, tag = context["discriminator"].strip("'"), context.get("tag")
        known = [name for choice in _choices(place.kind) for name in _tags(choice)]
        expected = f"one of {', '.join(map(repr, known))}"
        hint = near_match(str(tag), known) or "."
        return f"{place.key}.{chooser}: expected {expected}, received {tag or 'no such key'!r}{hint}"
    items = get_args(place.kind) if get_origin(place.kind) is tuple else ()
    if what in ("missing", "too_short", "too_long") and items and items[-1] is not Ellipsis:
        expected = f"a list of {len(items)} values"
    elif what == "too_short":
        expected = f"{context['min_length']} or more entries"
    else:
        limits = _describe_limits(place.limits) if what.startswith(("greater_than", "less_than")) else ""
        expected = limits or problem["msg"].removeprefix("Input should be ").replace("tuple", "list")
    literals = [str(choice) for choice in get_args(place.kind)] if what == "literal_error" else []
    received = repr(problem["input"])
    shown = received if len(received) <= _SHOWN else f"{received[:_SHOWN]}..."
    hint = near_match(str(problem["input"]), literals) or "."
    return f"{place.key}: expected {expected}, received {shown}{hint}"


def _join(key: str, error: ValueError) -> str:
    """The sentence of a validator: its own key goes on with that of the configuration it stands in."""
    if not key:
        return str(error)
    return f"{key}.{error}" if isinstance(error, WrongValueError) else f"{key}: {error}"


class _Place(NamedTuple):
    """Where in a configuration an error is."""

    key: str
    """Dotted, without the tags that pydantic puts between a choice and its keys."""
    kind: Any
    """The type there; None where no such key is."""
    limits: dict[str, float]
    """Of a number: ge, gt, le, lt."""
    known: Sequence[str]
    """The keys that stand beside it."""


def _find(kind: Any, location: Sequence[str | int]) -> _Place:
    """Follow the location of a pydantic error through the types of a configuration."""
    if location[-1:] == ("[key]",):  # a name is wrong, and the message says which
        location = location[:-2]
    key, known = "", list[str]()
    kind, limits = _unwrap(kind)
    for part in location:
        if _is_config(kind):
            known = list(kind.model_fields)
            field = kind.model_fields.get(str(part))
            key = f"{key}.{part}" if key else str(part)
            kind, limits = _unwrap(field.annotation, field.metadata) if field else (None, {})
        elif get_origin(kind) is tuple and isinstance(part, int):
            key, items = f"{key}[{part}]", [item for item in get_args(kind) if item is not Ellipsis]
            kind, limits = _unwrap(items[min(part, len(items) - 1)])
        elif choices := list(_choices(kind)):
            kind = next((choice for choice in choices if part in _tags(choice)), None)
        else:  # a mapping from names
            key, known = f"{key}.{part}", []
            kind, limits = _unwrap((get_args(kind) or (None,))[-1])
    return _Place(key, kind, limits, known)


def _unwrap(kind: Any, metadata: Sequence[Any] = ()) -> tuple[Any, dict[str, float]]:
    """A type without Annotated and null, and its limits."""
    limits = dict[str, float]()
    while True:
        for item in (inner for outer in metadata for inner in getattr(outer, "metadata", [outer])):
            limits |= {name: getattr(item, name) for name in _LIMITS if hasattr(item, name)}
        metadata = ()
        if get_origin(kind) is Annotated:
            kind, *metadata = get_args(kind)
        elif get_origin(kind) in (Union, types.UnionType):
            rest = [choice for choice in get_args(kind) if choice is not types.NoneType]
            if len(rest) != 1:
                return kind, limits
            kind = rest[0]
        else:
            return kind, limits


def _is_config(kind: Any) -> TypeGuard[type[Config]]:
    return isinstance(kind, type) and issubclass(kind, Config)


def _choices(kind: Any) -> Iterator[type[Config]]:
    """The configurations of a union."""
    if get_origin(kind) in (Union, types.UnionType):
        yield from (choice for choice in get_args(kind) if _is_config(choice))


def _tags(kind: type[Config]) -> list[str]:
    """The words that choose a configuration out of a union: what its Literal fields may be."""
    return [
        tag
        for name in _CHOOSERS
        if name in kind.model_fields
        for tag in get_args(kind.model_fields[name].annotation)
    ]


def _describe_limits(limits: Mapping[str, float]) -> str:
    """What a number may be; nothing where it has no limits."""
    words = {name: _number(limit) for name, limit in limits.items()}
    match words:
        case {"ge": low, "le": high}:
            return f"a number from {low} to {high}"
        case {"ge": low, "lt": high}:
            return f"a number from {low} to below {high}"
        case {"gt": low, "le": high}:
            return f"a number above {low} and at most {high}"
        case {"ge": low}:
            return f"{low} or more"
        case {"gt": low}:
            return f"a number above {low}"
        case {"le": high}:
            return f"{high} or less"
        case {"lt": high}:
            return f"a number below {high}"
    return ""


def _number(limit: float) -> str:
    return f"{limit:g}" if float(f"{limit:g}") == limit else str(limit)
