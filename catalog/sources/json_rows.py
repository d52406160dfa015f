"""Lists of objects in a JSON file, judged one by one: a NaN or a missing key costs its own row only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from catalog.sources.csv_rows import MALFORMED
from catalog.sources.folder import ASIDE


@dataclass(frozen=True, kw_only=True)
class JsonRows:
    """The rows of a list, what could not be used of it, and the values beside it."""

    rows: pl.DataFrame
    """path and label as text, `number`: the negative number of the row, from -1."""
    rejected: pl.DataFrame
    """ASIDE; the photo_id is the place, such as `t.json, row 7`."""
    beside: dict[str, Any]


class _Row(tuple[Any, ...]):
    """An innermost object's values: a third of a dict's memory, which counts in lists of millions."""

    __slots__ = ()


def read_json(
    content: bytes,
    *,
    name: str,
    key: str,
    fields: Sequence[str],
    form: str,
    judge: Callable[..., tuple[str | None, str | None]],
) -> JsonRows:
    """Read {key: [{field: ..}, ..], ..}.

    judge: makes path and label of the fields' values (None where missing); its ValueError says what is wrong
    with a row. form: how the file should look, for the error. Raises ValueError where it does not.
    """

    def reduce(values: dict[str, Any]) -> Any:
        return values if key in values else _Row(values.get(field) for field in fields)

    try:
        beside = json.loads(content.decode("utf-8-sig"), object_hook=reduce)
        if not isinstance(beside, dict) or not isinstance(beside[key], list):
            raise ValueError(f"no list {key!r}")
    except (ValueError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{name}: expected {form}, received something else ({error}). Fetch the file again."
        ) from error
    items = beside.pop(key)
    paths: list[str | None] = []
    labels: list[str | None] = []
    numbers: list[int] = []
    rejected = []
    for number, item in enumerate(items, start=1):
        place = f"{name}, row {number}"
        try:
            if not isinstance(item, _Row):
                raise ValueError(f"expected an object with {' and '.join(fields)}, received {item!r:.100}")
            path, label = judge(*item)
            for text in (path, label):
                if text is not None and not text.isascii() and not _is_text(text):
                    raise ValueError(f"expected text, received {text!a:.100}")
        except ValueError as error:
            rejected.append((place, MALFORMED, f"{place}: {error}. Correct or remove it."))
            continue
        paths.append(path)
        labels.append(label)
        numbers.append(-number)
    columns = {"path": paths, "label": labels, "number": numbers}
    return JsonRows(
        rows=pl.DataFrame(columns, schema={"path": pl.String, "label": pl.String, "number": pl.Int64}),
        rejected=pl.DataFrame(rejected, schema=ASIDE, orient="row"),
        beside=beside,
    )


def _is_text(text: str) -> bool:
    """JSON's escapes can spell half a character, which no file's name and no table can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(value: Any, *, field: str) -> str | None:
    """A text as it is, None for none. Raises ValueError for anything else."""
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"expected text in {field}, received {value!r:.100}")


def as_number(value: Any, *, field: str) -> int | None:
    """A whole number, also where it was written as 3.0 or "3". Raises ValueError for NaN and the like."""
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise ValueError(f"expected a whole number in {field}, received {value!r:.100}")
