"""The text of a row's `why`, made once for each different combination of numbers.

Formatting takes a microsecond, and a row of two and a half million shares its text with thousands of others:
numbers are rounded to what is shown, and the texts are looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]

_TABLE_PER_ROW = 4  # a larger table costs more than sorting the rows


def describe(write: Callable[..., str], *values: npt.NDArray[Any], decimals: int = 2) -> pl.Series:
    """Texts `[N]`, named "why": what `write` makes of each row's values `[N]`, floats rounded to decimals.

    Values are finite numbers.
    """
    codes, span = np.zeros(len(values[0]), dtype=np.int64), 1
    for column in values:
        steps = _to_steps(column, decimals)
        lowest = int(steps.min(initial=0))
        width = int(steps.max(initial=0)) - lowest + 1
        codes, span = codes * width + (steps - lowest), span * width
    first, index = _find_first(codes, span=span)
    rows = zip(
        *(np.round(column[first].astype(np.float64), decimals).tolist() for column in values), strict=True
    )
    texts = pl.Series("why", [write(*row) for row in rows], dtype=pl.String)
    return texts.gather(index)


def _to_steps(column: npt.NDArray[Any], decimals: int) -> Ints:
    """Integers that are equal where the shown numbers are."""
    shown = np.round(column * 10**decimals) if np.issubdtype(column.dtype, np.floating) else column
    return shown.astype(np.int64)


def _find_first(codes: Ints, *, span: int) -> tuple[Ints, Ints]:
    """A row of each different code, and for each row `[N]` the number of its code among these."""
    if span > _TABLE_PER_ROW * len(codes):
        _, first, index = np.unique(codes, return_index=True, return_inverse=True)
        return first, index
    row_of = np.full(span, -1, dtype=np.int64)
    row_of[codes] = np.arange(len(codes))
    used = np.flatnonzero(row_of >= 0)
    number_of = np.zeros(span, dtype=np.int64)
    number_of[used] = np.arange(len(used))
    return row_of[used], number_of[codes]
