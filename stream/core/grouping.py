"""Rows that agree in some columns, numbered: by a table, or by sorting where that would be much the larger."""

from __future__ import annotations

from typing import Any

import numpy as np

_Array = np.ndarray[Any, np.dtype[Any]]

_TABLE_PER_ROW = 64
"""Groups are numbered by a table of at most so many places per row; where it would be larger, the rows are sorted."""

_CODE_MAX = 1 << 62


def numbered(code: _Array, size: int) -> tuple[_Array, _Array]:
    """Returns the number of each code among the different ones, int64[n], and these in order, int64[different].

    Args:
        code: Integers, from 0 on.
        size: All are below it.
    """
    code = code.astype(np.int64, copy=False)
    if size > _TABLE_PER_ROW * len(code):
        values, number = np.unique(code, return_inverse=True)
        return number.astype(np.int64, copy=False), values
    occurs = np.zeros(size, bool)
    occurs[code] = True
    values = np.flatnonzero(occurs)
    numbers = np.empty(size, np.int64)
    numbers[values] = np.arange(len(values))
    return numbers[code], values


def groups(*columns: _Array) -> tuple[_Array, int]:
    """Returns a number for each row, equal where all columns are, and a bound that all these numbers lie below.

    The bound is at most the number of rows. The numbers are in the order of the first column, then of the second, and
    so on.
    """
    rows = len(columns[0])
    code, size = np.zeros(rows, np.int64), 1
    for column in columns:
        first = int(column.min())
        span = int(column.max()) - first + 1
        if span == 1:
            continue
        if size * span > _TABLE_PER_ROW * rows:
            code, size = _compact(code, size)
        assert size * span <= _CODE_MAX, f"{size} groups and values from {first} to {first + span - 1}"
        code *= span
        code += column
        code -= first
        size *= span
    return (code, size) if size <= rows else _compact(code, size)


def _compact(code: _Array, size: int) -> tuple[_Array, int]:
    number, values = numbered(code, size)
    return number, len(values)
