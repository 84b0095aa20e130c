"""Rows of one service to cells of one objective: select, judge, group by version and minute. Vectorised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.core.cells import COLUMNS, Column, squared_weight
from stream.core.columns import Array, Kind, RowFlag, Rows
from stream.core.slo.spec import Objective
from stream.core.units import MINUTE_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums per (version, minute).

    Shapes: `version` int64[n] (codes of the rows), `minute` int64[n], `values` int64[COLUMNS, n].
    """

    version: Array
    minute: Array
    values: Array


def tally(rows: Rows, objective: Objective) -> Tally:
    """Returns what the rows of one service add to the cells of an objective.

    A row whose end lies before its start has no duration: it is left out of an objective on duration.
    """
    selected = of_kinds(rows, objective.kinds)
    if objective.duration_lte_ns is None:
        bad = (rows.flags & RowFlag.FAILED) != 0
    else:
        selected &= (rows.flags & RowFlag.NEGATIVE_DURATION) == 0
        bad = rows.duration_ns > objective.duration_lte_ns
    chosen = np.flatnonzero(selected)
    values = _values(rows, chosen, bad[chosen], objective.sampling_none)
    return _grouped(rows.version[chosen], rows.end_ns[chosen] // MINUTE_NS, values)


def of_kinds(rows: Rows, kinds: tuple[int, ...]) -> Array:
    """Returns bool[n]: whether the row's kind is one of `kinds`."""
    wanted = np.zeros(len(Kind), bool)
    wanted[list(kinds)] = True
    return np.asarray(wanted[rows.kind])


def _values(rows: Rows, chosen: Array, bad: Array, sampling_none: bool) -> Array:
    count, weight = rows.count[chosen], rows.weight[chosen]
    square = squared_weight(weight, count)
    values = np.zeros((COLUMNS, len(chosen)), np.int64)
    values[Column.N] = count
    values[Column.N_BAD] = count * bad
    values[Column.WEIGHT] = weight
    values[Column.WEIGHT_BAD] = weight * bad
    values[Column.WEIGHT_SQUARE] = square
    values[Column.WEIGHT_SQUARE_BAD] = square * bad
    if not sampling_none:
        values[Column.N_UNKNOWN] = count * ((rows.flags[chosen] & RowFlag.SAMPLING_UNKNOWN) != 0)
    return values


def _grouped(version: Array, minute: Array, values: Array) -> Tally:
    if not len(minute):
        return Tally(version=version.astype(np.int64), minute=minute, values=values)
    first = int(minute.min())
    span = int(minute.max()) - first + 1
    code, inverse = np.unique(version * np.int64(span) + (minute - first), return_inverse=True)
    sums = np.zeros((COLUMNS, len(code)), np.int64)
    for column in range(COLUMNS):
        np.add.at(sums[column], inverse, values[column])
    return Tally(version=code // span, minute=code % span + first, values=sums)
