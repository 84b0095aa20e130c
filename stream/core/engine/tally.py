"""Rows to cells: select, judge, group by pair (a version of a service) and minute. Vectorised over all services."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from stream.core.cells import COLUMNS, Column, excess_of_rows, whole_weights
from stream.core.columns import Array, Kind, RowFlag, Rows, Signal
from stream.core.exemplars import Found, exemplars_of
from stream.core.grouping import numbered
from stream.core.slo.selection import having, having_any, within_threshold
from stream.core.slo.spec import Objective, RawRatio, SliSignal, Threshold, Wanted

_GOOD, _BAD, _EXCLUDED = range(3)
_JUDGEMENTS = 3
"""What an objective says of a row that it selects."""

_WEIGHTS = Column.WEIGHT, Column.WEIGHT_SQUARE
_BAD_WEIGHTS = Column.WEIGHT_BAD, Column.WEIGHT_SQUARE_BAD


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
    finds: str = ""

    @classmethod
    def of(cls, objective: Objective) -> Predicate:
        """Returns the predicate of an objective."""
        return cls(**{f.name: getattr(objective, f.name) for f in fields(cls)})


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The pairs and minutes that items belong to: each pair and minute that occurs together is a place.

    `divides`: pairs are divided further, and each has exemplars of its own; otherwise those of a service share theirs.

    Shapes: `of` int64[n], the place of each item; `pair` int64[places], `minute` int64[places], ordered by both.
    """

    of: Array
    pair: Array
    minute: Array
    divides: bool = False

    @classmethod
    def at(cls, pair: Array, minute: Array, *, divides: bool = False) -> Places:
        """Returns the places of items, of which int64[n] are the pairs and the minutes."""
        if not len(minute):
            return cls(of=minute, pair=pair, minute=minute)
        first = int(minute.min())
        span = int(minute.max()) - first + 1
        of, codes = numbered(pair * span + (minute - first), (int(pair.max()) + 1) * span)
        return cls(of=of, pair=codes // span, minute=codes % span + first, divides=divides)

    def __len__(self) -> int:
        return len(self.pair)


def tally(rows: Rows, places: Places, wanted: Array, predicate: Predicate, traced: Array | None = None) -> Tally:
    """Returns what the rows of the wanted pairs add to the cells of objectives with this predicate.

    A row whose end lies before its start has no duration: it is left out where good is a duration. What the predicate
    excludes is counted as that, and as nothing else.

    Args:
        rows: Rows of any services.
        places: Of the rows.
        wanted: bool[pairs].
        predicate: What to select and to call good; of spans or logs.
        traced: bool[n], the rows that may be exemplars; None: no row may.
    """
    selected = _selected(rows, predicate)
    here = wanted[places.pair]
    if not here.all():
        selected &= here[places.of]
    chosen = np.flatnonzero(selected)
    bad = _bad(rows, chosen, predicate)
    judged = bad.astype(np.int64)
    if predicate.without and len(chosen):
        judged[having_any(rows.attribute_sets, predicate.without)[rows.attributes[chosen]]] = _EXCLUDED
    sums = _summed(rows, chosen, judged, places, predicate.sampling_none)
    if traced is None:
        return sums
    shown = np.flatnonzero(traced[chosen] & (judged != _EXCLUDED))
    if not len(shown):
        return sums
    index = chosen[shown]
    place = places.of[index]
    owner = places.pair[place] if places.divides else rows.service[index]
    return replace(sums, exemplars=exemplars_of(rows, index, places.minute[place], bad[shown], owner))


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


def _summed(rows: Rows, chosen: Array, judged: Array, places: Places, sampling_none: bool) -> Tally:
    """Returns the sums of the chosen rows at each place where there are any."""
    code = judged * len(places) + places.of[chosen]
    count = rows.count[chosen]
    n = _sums(count, code, _JUDGEMENTS * len(places)).reshape(_JUDGEMENTS, -1)
    excess = np.zeros((COLUMNS, len(places)), np.int64)
    excess[Column.N], excess[Column.N_BAD], excess[Column.N_EXCLUDED] = n[_GOOD] + n[_BAD], n[_BAD], n[_EXCLUDED]
    sampled = excess_of_rows(rows.weight[chosen], count)
    if sampled is not None:
        for column, bad_column, values in zip(_WEIGHTS, _BAD_WEIGHTS, sampled, strict=True):
            sums = _sums(values, code, n.size).reshape(n.shape)
            excess[column], excess[bad_column] = sums[_GOOD] + sums[_BAD], sums[_BAD]
    unknown = (rows.flags[chosen] & RowFlag.SAMPLING_UNKNOWN) != 0
    if not sampling_none and unknown.any():
        sums = _sums(count * unknown, code, n.size).reshape(n.shape)
        excess[Column.N_UNKNOWN] = sums[_GOOD] + sums[_BAD]
    taken = np.flatnonzero(n.any(axis=0))
    return Tally(pair=places.pair[taken], minute=places.minute[taken], values=whole_weights(excess[:, taken]))


def without(values: Array, excluded: Array) -> Array:
    """Returns the values int64[COLUMNS, n] with what bool[n] is excluded counted as that alone."""
    n_excluded = np.where(excluded, values[Column.N], 0)
    values = np.where(excluded, 0, values)
    values[Column.N_EXCLUDED] = n_excluded
    return values


def grouped(pair: Array, minute: Array, values: Array) -> Tally:
    """Returns the sums of `values` int64[COLUMNS, n] per pair and minute."""
    places = Places.at(pair, minute)
    sums = np.zeros((COLUMNS, len(places)), np.int64)
    for column in np.flatnonzero(values.any(axis=1)):
        sums[column] = _sums(values[column], places.of, len(places))
    return Tally(pair=places.pair, minute=places.minute, values=sums)


def _sums(values: Array, place: Array, size: int) -> Array:
    """Returns int64[size]: the sums of the values int64[n] at each place."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, place, values)
    return sums
