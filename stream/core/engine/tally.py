"""Rows to cells: select, judge, group by pair (a version of a service) and minute. Vectorised over all services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from stream.core.cells import COLUMNS, Column, squared_weight
from stream.core.columns import Array, Kind, RowFlag, Rows, Signal
from stream.core.exemplars import Found, exemplars_of
from stream.core.slo.selection import having, having_any, within_threshold
from stream.core.slo.spec import Objective, RawRatio, SliSignal, Threshold, Wanted

DENSE_CELLS_PER_ROW = 4
"""Where pairs and minutes make at most this many cells per row, all of them are summed instead of sorting the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """What an objective selects and calls good: its fields of these names. Objectives of many services share one."""

    signal: SliSignal
    kinds: tuple[int, ...]
    metric: str | None
    event: str | None
    attributes: Wanted
    duration_lte_ns: int | None
    good_attributes: Wanted
    severity_lt: int | None
    sampling_none: bool
    without: Wanted = ()
    bad_attributes: Wanted = ()
    threshold: Threshold | None = None
    good_metric: str | None = None
    bad_metric: str | None = None
    raw: RawRatio | None = None
    versions: tuple[str, ...] = ()

    @classmethod
    def of(cls, objective: Objective) -> Predicate:
        """Returns the predicate of an objective."""
        return cls(**{f.name: getattr(objective, f.name) for f in fields(cls)})

    def of_versions(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """Returns bool[pairs]: whether the version of a pair (service, version) is one that counts."""
        if not self.versions:
            return np.ones(len(pairs), bool)
        return np.array([version in self.versions for _, version in pairs], bool)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Sums per (pair, minute), ordered by both.

    Shapes: `pair` int64[n], `minute` int64[n], `values` int64[COLUMNS, n].

    `exemplars` are those of the same rows; None where no row may be one.
    """

    pair: Array
    minute: Array
    values: Array
    exemplars: Found | None = None


def tally(
    rows: Rows, pair: Array, minute: Array, wanted: Array, predicate: Predicate, traced: Array | None = None
) -> Tally:
    """Returns what the rows of the wanted pairs add to the cells of objectives with this predicate.

    A row whose end lies before its start has no duration: it is left out where good is a duration. What the predicate
    excludes is counted as that, and as nothing else.

    Args:
        rows: Rows of any services.
        pair: int64[n], the pair of each row.
        minute: int64[n], the minute of each row.
        wanted: bool[pairs].
        predicate: What to select and to call good; of spans or logs.
        traced: bool[n], the rows that may be exemplars; None: no row may.
    """
    chosen = np.flatnonzero(_selected(rows, predicate) & wanted[pair])
    bad = _bad(rows, chosen, predicate)
    values = _values(rows, chosen, bad, predicate.sampling_none)
    excluded = np.zeros(len(chosen), bool)
    if predicate.without and len(chosen):
        excluded = having_any(rows.attribute_sets, predicate.without)[rows.attributes[chosen]]
        values = without(values, excluded)
    sums = grouped(pair[chosen], minute[chosen], values)
    if traced is None:
        return sums
    shown = np.flatnonzero(traced[chosen] & ~excluded)
    if not len(shown):
        return sums
    index = chosen[shown]
    return replace(sums, exemplars=exemplars_of(rows, index, minute[index], bad[shown]))


def of_kinds(rows: Rows, kinds: tuple[int, ...]) -> Array:
    """Returns bool[n]: whether the row is a span or an event and its kind one of `kinds`."""
    wanted = np.zeros((len(Signal), len(Kind)), bool)
    wanted[np.ix_((Signal.SPAN, Signal.EVENT), kinds)] = True
    return np.asarray(wanted.reshape(-1)[rows.signal * len(Kind) + rows.kind])


def _selected(rows: Rows, predicate: Predicate) -> Array:
    """Returns bool[n]: whether the row counts."""
    if predicate.signal == SliSignal.SPANS:
        selected = of_kinds(rows, predicate.kinds)
        if predicate.duration_lte_ns is not None:
            selected &= (rows.flags & RowFlag.NEGATIVE_DURATION) == 0
    else:
        assert predicate.signal == SliSignal.LOGS, "points are counted elsewhere"
        selected = rows.signal == Signal.LOG
        if predicate.event is not None:
            selected &= np.array([name == predicate.event for name in rows.names], bool)[rows.name]
    if predicate.attributes and selected.any():
        selected &= having(rows.attribute_sets, predicate.attributes)[rows.attributes]
    return np.asarray(selected)


def _bad(rows: Rows, chosen: Array, predicate: Predicate) -> Array:
    """Returns bool[chosen]: whether the row is not good."""
    if predicate.duration_lte_ns is not None:
        bad = rows.duration_ns[chosen] > predicate.duration_lte_ns
    elif predicate.severity_lt is not None:
        bad = rows.severity[chosen] >= predicate.severity_lt
    elif predicate.good_attributes:
        bad = ~having(rows.attribute_sets, predicate.good_attributes)[rows.attributes[chosen]]
    elif predicate.bad_attributes:
        bad = having(rows.attribute_sets, predicate.bad_attributes)[rows.attributes[chosen]]
    elif predicate.threshold is not None:
        bad = ~within_threshold(rows.attribute_sets, predicate.threshold)[rows.attributes[chosen]]
    else:
        bad = (rows.flags[chosen] & RowFlag.FAILED) != 0
    return np.asarray(bad)


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


def without(values: Array, excluded: Array) -> Array:
    """Returns the values int64[COLUMNS, n] with what bool[n] is excluded counted as that alone."""
    n_excluded = np.where(excluded, values[Column.N], 0)
    values = np.where(excluded, 0, values)
    values[Column.N_EXCLUDED] = n_excluded
    return values


def grouped(pair: Array, minute: Array, values: Array) -> Tally:
    """Returns the sums of `values` int64[COLUMNS, n] per pair and minute."""
    if not len(minute):
        return Tally(pair=pair, minute=minute, values=values)
    first = int(minute.min())
    span = int(minute.max()) - first + 1
    code = pair * span + (minute - first)
    size = (int(pair.max()) + 1) * span
    if size <= DENSE_CELLS_PER_ROW * len(code):
        cells = np.flatnonzero(np.bincount(code, minlength=size))
        sums = _sums(values, code, size)[:, cells]
    else:
        cells, place = np.unique(code, return_inverse=True)
        sums = _sums(values, place, len(cells))
    return Tally(pair=cells // span, minute=cells % span + first, values=sums)


def _sums(values: Array, place: Array, size: int) -> Array:
    """Returns int64[COLUMNS, size]: the sums of the values at each place."""
    sums = np.zeros((COLUMNS, size), np.int64)
    for column in np.flatnonzero(values.any(axis=1)):
        np.add.at(sums[column], place, values[column])
    return sums
