"""Cells: integer counters per series and minute, kept in three rings that are updated together.

Integers, so a sum depends on neither order nor batching. All series of a partition share the arrays, so a window is a
few vector operations whatever the number of series. A ring grows where a source that stands still holds the frontier
back; nothing that may still be counted is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

import numpy as np

from stream.core.columns import Array
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

Key = TypeVar("Key", bound=Hashable)


class Column(IntEnum):
    """Counters of a cell. Weights are sums in 2^-16, squared weights in 2^-8."""

    N = 0
    N_BAD = 1
    WEIGHT = 2
    WEIGHT_BAD = 3
    WEIGHT_SQUARE = 4
    WEIGHT_SQUARE_BAD = 5
    N_UNKNOWN = 6
    N_UNSURE = 7
    """Events of which a histogram does not tell whether they were good; they are in N_BAD and weigh 1 each."""


COLUMNS = len(Column)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSpec:
    """The shape of a ring: periods of `period_minutes`, kept for `retention_minutes` behind the closed minutes.

    Late rows correct minutes up to 6 h old, and a correction sums a window that ends there: the two finer rings reach
    that much further back than the windows that are summed from them.

    `span_periods` periods are stored together in one chunk: an old span is written once.
    """

    name: str
    period_minutes: int
    retention_minutes: int
    span_periods: int


MINUTE_RING = RingSpec(name="1m", period_minutes=1, retention_minutes=13 * HOUR_MINUTES, span_periods=60)
TEN_MINUTE_RING = RingSpec(
    name="10m", period_minutes=10, retention_minutes=3 * DAY_MINUTES + 13 * HOUR_MINUTES, span_periods=36
)
HOUR_RING = RingSpec(name="1h", period_minutes=60, retention_minutes=100 * DAY_MINUTES, span_periods=24)
VERSION_HOUR_RING = RingSpec(name="1h", period_minutes=60, retention_minutes=7 * DAY_MINUTES, span_periods=24)

SERIES_RINGS = (MINUTE_RING, TEN_MINUTE_RING, HOUR_RING)
VERSION_RINGS = (MINUTE_RING, TEN_MINUTE_RING, VERSION_HOUR_RING)


def squared_weight(weight: Array, count: Array) -> Array:
    """Returns Σw² of rows of `count` events that share `weight` (2^-16), in 2^-8.

    The weight of one event is weight / count. Two bits are dropped before and after squaring, so that 65,536 squared
    fits: the error is below the last digit, 2^-8, for weights near one, and integral weights are exact.
    """
    each = (weight // count) >> 4
    return ((each * each) >> 16) * count


class Ring:
    """Counters of one period length: `data[column, series, slot]`, slot = period mod capacity."""

    def __init__(self, spec: RingSpec, series_capacity: int = 8) -> None:
        self.spec = spec
        self.base = 0
        self.top = 0  # exclusive; base == top: nothing was added yet
        self.floor: int | None = None  # periods below were forgotten; None before the first was
        slots = spec.retention_minutes // spec.period_minutes + 16
        self.data = np.zeros((COLUMNS, series_capacity, slots), np.int64)

    @property
    def capacity(self) -> int:
        """Periods that fit before the ring has to grow."""
        return self.data.shape[2]

    def grow_series(self, series_capacity: int) -> None:
        """Makes room for more series."""
        data = np.zeros((COLUMNS, series_capacity, self.capacity), np.int64)
        data[:, : self.data.shape[1]] = self.data
        self.data = data

    def include(self, first: int, last: int) -> None:
        """Widens [base, top) to hold periods `first` to `last`, growing the arrays where they are too short."""
        if self.base == self.top:
            self.base, self.top = first, first
        base, top = min(self.base, first), max(self.top, last + 1)
        if top - base > self.capacity:
            self._resize(max(top - base, 2 * self.capacity))
        self.base, self.top = base, top

    def _resize(self, capacity: int) -> None:
        held = np.arange(self.base, self.top)
        data = np.zeros((*self.data.shape[:2], capacity), np.int64)
        data[:, :, held % capacity] = self.data[:, :, held % self.capacity]
        self.data = data

    def add(self, series: Array, minutes: Array, values: Array, columns: Array) -> None:
        """Adds `values` int64[COLUMNS, n], of which only `columns` hold anything, at (series, minute) int64[n]."""
        periods = minutes // self.spec.period_minutes
        self.include(int(periods.min()), int(periods.max()))
        flat = series * self.capacity + periods % self.capacity
        for column in columns:
            np.add.at(self.data[column].reshape(-1), flat, values[column])

    def retire(self, minute: int) -> None:
        """Forgets the periods that lie wholly before `minute`."""
        floor = minute // self.spec.period_minutes
        if floor == self.floor:
            return
        self.floor = floor if self.floor is None else max(floor, self.floor)
        gone = np.arange(self.base, min(floor, self.top))
        self.data[:, :, gone % self.capacity] = 0
        self.base, self.top = max(self.base, floor), max(self.top, floor)

    def sum(self, first: int, last: int) -> Array:
        """Returns int64[COLUMNS, series]: the sums over periods [first, last)."""
        first, last = max(first, self.base), min(last, self.top)
        if first >= last:
            return np.zeros(self.data.shape[:2], np.int64)
        low, high = first % self.capacity, (last - 1) % self.capacity + 1
        if low < high:
            return np.asarray(self.data[:, :, low:high].sum(axis=2))
        return np.asarray(self.data[:, :, low:].sum(axis=2) + self.data[:, :, :high].sum(axis=2))


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stored stretch of one ring: periods [number · span_periods, (number + 1) · span_periods)."""

    ring: int
    number: int


class Cells(Generic[Key]):
    """The cells of many series, with the rings of `specs`.

    `Key` identifies a series; it needs no more than to be hashable and comparable.
    """

    def __init__(self, specs: Sequence[RingSpec]) -> None:
        self.rings = tuple(Ring(spec) for spec in specs)
        self.index: dict[Key, int] = {}
        self._free: list[int] = []
        self._rows = 0

    def __contains__(self, key: Key) -> bool:
        return key in self.index

    def series(self, key: Key) -> int:
        """Returns the row of a series in the arrays, made if it is new."""
        row = self.index.get(key)
        if row is None:
            row = self._free.pop() if self._free else self._new_row()
            self.index[key] = row
        return row

    def _new_row(self) -> int:
        row = self._rows
        self._rows += 1
        if row >= self.rings[0].data.shape[1]:
            for ring in self.rings:
                ring.grow_series(2 * row)
        return row

    def drop(self, keys: Iterable[Key]) -> None:
        """Forgets series and everything counted for them."""
        for key in keys:
            row = self.index.pop(key)
            for ring in self.rings:
                ring.data[:, row] = 0
            self._free.append(row)

    def add(self, series: Array, minutes: Array, values: Array) -> None:
        """Adds `values` int64[COLUMNS, n] at (series int64[n], minute int64[n]) to every ring."""
        columns = np.flatnonzero(values.any(axis=1))
        for ring in self.rings:
            ring.add(series, minutes, values, columns)

    def minute(self, minute: int) -> Array:
        """Returns int64[COLUMNS, rows]: the cells of one minute."""
        return self.rings[0].sum(minute, minute + 1)

    def window(self, end_minute: int, length_minutes: int) -> Array:
        """Returns int64[COLUMNS, rows]: sums over the window that ends before `end_minute`.

        The newest part comes from minute cells, so the end is exact. The old edge of a window longer than 6 h lies on
        a multiple of 10 min, of one longer than 3 d on a full hour, at or before the nominal edge.
        """
        start = end_minute - length_minutes
        minutes, tens, hours = self.rings
        if length_minutes <= 6 * HOUR_MINUTES:
            return minutes.sum(start, end_minute)
        coarse = tens if length_minutes <= 3 * DAY_MINUTES else hours
        whole = end_minute // coarse.spec.period_minutes
        older = coarse.sum(start // coarse.spec.period_minutes, whole)
        return older + minutes.sum(whole * coarse.spec.period_minutes, end_minute)

    def spans_of(self, minutes: set[int]) -> set[Span]:
        """Returns the stored spans that hold any of `minutes`."""
        spans: set[Span] = set()
        for number, ring in enumerate(self.rings):
            length = ring.spec.period_minutes * ring.spec.span_periods
            spans.update(Span(number, first) for first in {minute // length for minute in minutes})
        return spans

    def retire(self, closed_minute: int) -> None:
        """Forgets the periods older than each ring's retention behind `closed_minute`."""
        for ring in self.rings:
            ring.retire(closed_minute - ring.spec.retention_minutes)

    def is_retired(self, span: Span) -> bool:
        """Returns whether every period of a span has been forgotten."""
        ring = self.rings[span.ring]
        return ring.floor is not None and (span.number + 1) * ring.spec.span_periods <= ring.floor

    def read_span(self, span: Span, keys: Sequence[Key]) -> tuple[Array, Array, Array]:
        """Returns (position in `keys` int64[n], period int64[n], values int64[COLUMNS, n]) of the non-zero cells."""
        ring = self.rings[span.ring]
        first = max(span.number * ring.spec.span_periods, ring.base)
        last = min((span.number + 1) * ring.spec.span_periods, ring.top)
        periods = np.arange(first, max(first, last))
        rows = np.array([self.index[key] for key in keys], np.int64)
        block = ring.data[:, rows[:, None], (periods % ring.capacity)[None, :]]
        position, offset = np.nonzero(block.any(axis=0))
        return position, periods[offset], block[:, position, offset]

    def write_span(self, span: Span, keys: Sequence[Key], position: Array, period: Array, values: Array) -> None:
        """Puts back what `read_span` returned, but for periods forgotten since."""
        floor = self.rings[span.ring].floor
        if floor is not None:
            kept = period >= floor
            position, period, values = position[kept], period[kept], values[:, kept]
        if not len(position):
            return
        self.rings[span.ring].include(int(period.min()), int(period.max()))
        rows = np.array([self.series(key) for key in keys], np.int64)
        ring = self.rings[span.ring]
        ring.data[:, rows[position], period % ring.capacity] = values
