"""Rows to cells: select, judge, group by pair (a version of a service) and minute. Vectorised over all services."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from stream.core.cells import COLUMNS, Column, excess_of_rows, excess_weights
from stream.core.columns import Array, Kind, RowFlag, Rows, Signal
from stream.core.exemplars import Found
from stream.core.grouping import numbered
from stream.core.slo.selection import having, having_any, within_threshold
from stream.core.slo.spec import Objective, RawRatio, SliSignal, Threshold, Wanted

_GOOD, _BAD, _EXCLUDED, _UNSELECTED = range(4)
_JUDGEMENTS = 4
"""What an objective says of a row."""

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

    Shapes: `pair` int64[n], `minute` int64[n], `excess` int64[COLUMNS, n], the values with excess weights.

    `found` are those of the rows that may be exemplars; None where no row may.
    """

    pair: Array
    minute: Array
    excess: Array
    found: Found | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The pairs and minutes that items belong to: each pair and minute that occurs together is a place.

    Shapes: `of` int64[n], the place of each item; `pair` int64[places], `minute` int64[places], ordered by both.
    """

    of: Array
    pair: Array
    minute: Array

    @classmethod
    def at(cls, pair: Array, minute: Array) -> Places:
        """Returns the places of items, of which int64[n] are the pairs and the minutes."""
        if not len(minute):
            return cls(of=minute, pair=pair, minute=minute)
        first = int(minute.min())
        span = int(minute.max()) - first + 1
        of, codes = numbered(pair * span + (minute - first), (int(pair.max()) + 1) * span)
        return cls(of=of, pair=codes // span, minute=codes % span + first)

    def __len__(self) -> int:
        return len(self.pair)


class RowTally:
    """The rows of a record, any services', as the objectives see them: what several predicates ask for is made once.

    Args:
        rows: At least one.
        places: Of the rows.
        traced: bool[n], the rows that may be exemplars; None: no row may.
    """

    def __init__(self, rows: Rows, places: Places, traced: Array | None = None) -> None:
        self._rows, self._places = rows, places
        self._sampled = excess_of_rows(rows.weight, rows.count)
        unknown = (rows.flags & RowFlag.SAMPLING_UNKNOWN) != 0
        self._unknown = rows.count * unknown if unknown.any() else None
        self._of_kinds: dict[tuple[int, ...], Array] = {}
        self._traced = np.flatnonzero(traced) if traced is not None else None
        if self._traced is not None:
            columns = (rows.duration_ns, rows.end_ns, rows.trace_hi, rows.trace_lo)
            self._told = np.stack([column[self._traced] for column in columns])

    def of(self, predicate: Predicate, wanted: Array, part: Array | None = None) -> Tally:
        """Returns what the rows of the wanted parts (bool[parts]) add to the cells of objectives with this predicate.

        A row whose end lies before its start has no duration: it is left out where good is a duration. What the
        predicate excludes is counted as that, and as nothing else.

        Args:
            predicate: What counts.
            wanted: bool[parts].
            part: int64[n], the part of each row; None: its pair.
        """
        places = self._places if part is None else Places.at(part, self._places.minute[self._places.of])
        judged = self._judged(predicate, wanted, places)
        code = np.multiply(judged, len(places), dtype=np.int64) + places.of
        n = _sums_by_judgement(self._rows.count, code, len(places))
        excess = np.zeros((COLUMNS, len(places)), np.int64)
        excess[Column.N], excess[Column.N_BAD], excess[Column.N_EXCLUDED] = n[_GOOD] + n[_BAD], n[_BAD], n[_EXCLUDED]
        if self._sampled is not None:
            for column, bad_column, values in zip(_WEIGHTS, _BAD_WEIGHTS, self._sampled, strict=True):
                sums = _sums_by_judgement(values, code, len(places))
                excess[column], excess[bad_column] = sums[_GOOD] + sums[_BAD], sums[_BAD]
        if self._unknown is not None and not predicate.sampling_none:
            sums = _sums_by_judgement(self._unknown, code, len(places))
            excess[Column.N_UNKNOWN] = sums[_GOOD] + sums[_BAD]
        taken = np.flatnonzero(n[:_UNSELECTED].any(axis=0))
        return Tally(
            pair=places.pair[taken],
            minute=places.minute[taken],
            excess=excess.take(taken, axis=1),
            found=self._found(judged, places),
        )

    def of_kinds(self, kinds: tuple[int, ...]) -> Array:
        """Returns bool[n], not to be written to: whether the row is a span or an event and its kind one of `kinds`."""
        found = self._of_kinds.get(kinds)
        if found is None:
            wanted = np.zeros((len(Signal), len(Kind)), bool)
            wanted[np.ix_((Signal.SPAN, Signal.EVENT), kinds)] = True
            found = self._of_kinds[kinds] = wanted.take(self._rows.signal * len(Kind) + self._rows.kind)
        return found

    def _judged(self, predicate: Predicate, wanted: Array, places: Places) -> Array:
        """Returns int8[n]: what the predicate says of each row."""
        rows = self._rows
        selected = self._selected(predicate)
        here = wanted[places.pair]
        if not here.all():
            selected = selected & here[places.of]
        judged = np.where(selected, _bad(rows, predicate), np.int8(_UNSELECTED))
        if predicate.without:
            excluded = having_any(rows.attribute_sets, predicate.without)
            judged[selected & excluded.take(rows.attributes)] = _EXCLUDED
        return judged

    def _selected(self, predicate: Predicate) -> Array:
        """Returns bool[n], not to be written to: whether the row counts."""
        rows = self._rows
        if predicate.signal == SliSignal.SPANS:
            selected = self.of_kinds(predicate.kinds)
            if predicate.duration_lte_ns is not None:
                selected = selected & ((rows.flags & RowFlag.NEGATIVE_DURATION) == 0)
        else:
            assert predicate.signal == SliSignal.LOGS, "points are counted elsewhere"
            selected = rows.signal == Signal.LOG
            if predicate.event is not None:
                selected &= np.array([name == predicate.event for name in rows.names], bool)[rows.name]
        if predicate.attributes and selected.any():
            selected = selected & having(rows.attribute_sets, predicate.attributes).take(rows.attributes)
        return np.asarray(selected)

    def _found(self, judged: Array, places: Places) -> Found | None:
        """Returns what may be exemplars of the rows that count."""
        if self._traced is None:
            return None
        said = judged[self._traced]
        shown = np.flatnonzero(said <= _BAD)
        at = places.of[self._traced[shown]]
        return Found(
            pair=places.pair[at],
            minute=places.minute[at],
            told=np.concatenate([said[np.newaxis, shown], self._told.take(shown, axis=1)], dtype=np.int64),
        )


def _bad(rows: Rows, predicate: Predicate) -> Array:
    """Returns bool[n]: whether the row is not good."""
    if predicate.duration_lte_ns is not None:
        bad = rows.duration_ns > predicate.duration_lte_ns
    elif predicate.severity_lt is not None:
        bad = rows.severity >= predicate.severity_lt
    elif predicate.good_attributes:
        bad = ~having(rows.attribute_sets, predicate.good_attributes).take(rows.attributes)
    elif predicate.bad_attributes:
        bad = having(rows.attribute_sets, predicate.bad_attributes).take(rows.attributes)
    elif predicate.threshold is not None:
        bad = ~within_threshold(rows.attribute_sets, predicate.threshold).take(rows.attributes)
    else:
        bad = (rows.flags & RowFlag.FAILED) != 0
    return np.asarray(bad)


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
    return Tally(pair=places.pair, minute=places.minute, excess=excess_weights(sums))


def _sums_by_judgement(values: Array, code: Array, size: int) -> Array:
    """Returns int64[judgements, size]: the sums of the values int64[n] at each judgement and place."""
    return _sums(values, code, _JUDGEMENTS * size).reshape(_JUDGEMENTS, size)


def _sums(values: Array, place: Array, size: int) -> Array:
    """Returns int64[size]: the sums of the values int64[n] at each place."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, place, values)
    return sums
