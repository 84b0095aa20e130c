"""Rows to cells: select, judge, group by pair (a version of a service) and minute. Vectorised over all services."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream.core.cells import COLUMNS, Column, squared_weight
from stream.core.columns import Array, Kind, RowFlag, Rows
from stream.core.slo.spec import Objective


@dataclass(frozen=True, slots=True)
class Predicate:
    """What an objective selects and calls good. Objectives of many services share one."""

    kinds: tuple[int, ...]
    duration_lte_ns: int | None
    sampling_none: bool

    @classmethod
    def of(cls, objective: Objective) -> Predicate:
        """Returns the predicate of an objective."""
        return cls(objective.kinds, objective.duration_lte_ns, objective.sampling_none)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums per (pair, minute), ordered by both.

    Shapes: `pair` int64[n], `minute` int64[n], `values` int64[COLUMNS, n].
    """

    pair: Array
    minute: Array
    values: Array


def tally(rows: Rows, pair: Array, minute: Array, wanted: Array, predicate: Predicate) -> Tally:
    """Returns what the rows of the wanted pairs add to the cells of objectives with this predicate.

    A row whose end lies before its start has no duration: it is left out where good is a duration.

    Args:
        rows: Rows of any services.
        pair: int64[n], the pair of each row.
        minute: int64[n], the minute of each row.
        wanted: bool[pairs].
        predicate: What to select and to call good.
    """
    selected = of_kinds(rows, predicate.kinds) & wanted[pair]
    if predicate.duration_lte_ns is None:
        bad = (rows.flags & RowFlag.FAILED) != 0
    else:
        selected &= (rows.flags & RowFlag.NEGATIVE_DURATION) == 0
        bad = rows.duration_ns > predicate.duration_lte_ns
    chosen = np.flatnonzero(selected)
    values = _values(rows, chosen, bad[chosen], predicate.sampling_none)
    return _grouped(pair[chosen], minute[chosen], values)


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


def _grouped(pair: Array, minute: Array, values: Array) -> Tally:
    if not len(minute):
        return Tally(pair=pair, minute=minute, values=values)
    first = int(minute.min())
    span = int(minute.max()) - first + 1
    code, inverse = np.unique(pair * span + (minute - first), return_inverse=True)
    sums = np.zeros((COLUMNS, len(code)), np.int64)
    for column in np.flatnonzero(values.any(axis=1)):
        np.add.at(sums[column], inverse, values[column])
    return Tally(pair=code // span, minute=code % span + first, values=sums)
