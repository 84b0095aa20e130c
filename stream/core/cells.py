"""Cells: integer counters per series and minute, kept in three rings that are updated together.

Integers, so a sum depends on neither order nor batching. All series of a partition share the arrays, so a window is a
few vector operations whatever the number of series. A ring consists of blocks, one for each span of periods in which
anything was counted: one that a source that stands still makes longer has more of them, and nothing that may still be
counted is ever overwritten.

Weights are kept as what they exceed those of unsampled events by: a column that is 0 for every series, as those four
are of traffic that is not sampled, takes neither memory nor time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from stream.core.columns import Array
from stream.core.units import DAY_MINUTES, HOUR_MINUTES


class Ordered(Hashable, Protocol):
    """What identifies a series: hashable and comparable."""

    def __lt__(self, other: Any, /) -> bool: ...


Key = TypeVar("Key", bound=Ordered)


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
    N_EXCLUDED = 8
    """Events that the objective leaves out, such as health checks; they are in no other counter."""


COLUMNS = len(Column)

_WEIGHTS = slice(Column.WEIGHT, Column.WEIGHT_SQUARE_BAD + 1)
_EVENTS_OF_WEIGHTS = [Column.N, Column.N_BAD, Column.N, Column.N_BAD]
_WEIGHT_BITS, _SQUARE_BITS = 16, 8
_BITS_OF_WEIGHTS = np.array([[_WEIGHT_BITS], [_WEIGHT_BITS], [_SQUARE_BITS], [_SQUARE_BITS]])


def excess_weights(values: Array) -> Array:
    """Returns `values` int64[COLUMNS, n] with the weights less those that as many unsampled events have."""
    excess = values.copy()
    excess[_WEIGHTS] -= values[_EVENTS_OF_WEIGHTS] << _BITS_OF_WEIGHTS
    return excess


def whole_weights(excess: Array) -> Array:
    """Returns what `excess_weights` was made of."""
    values = excess.copy()
    values[_WEIGHTS] += excess[_EVENTS_OF_WEIGHTS] << _BITS_OF_WEIGHTS
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class RingSpec:
    """The shape of a ring: periods of `period_minutes`, kept for `retention_minutes` behind the closed minutes.

    What is older is forgotten an hour at a time: at the full hour, where both are whole hours.

    Late rows correct minutes up to 6 h old, and a correction sums a window that ends there: the two finer rings reach
    that much further back than the windows that are summed from them.

    `span_periods` periods are stored together in one chunk: an old span is written once.
    """

    name: str
    period_minutes: int
    retention_minutes: int
    span_periods: int


MINUTE_RING = RingSpec(name="1m", period_minutes=1, retention_minutes=12 * HOUR_MINUTES, span_periods=60)
TEN_MINUTE_RING = RingSpec(
    name="10m", period_minutes=10, retention_minutes=3 * DAY_MINUTES + 13 * HOUR_MINUTES, span_periods=36
)
HOUR_RING = RingSpec(name="1h", period_minutes=60, retention_minutes=100 * DAY_MINUTES, span_periods=24)
VERSION_HOUR_RING = RingSpec(name="1h", period_minutes=60, retention_minutes=7 * DAY_MINUTES, span_periods=24)

SERIES_RINGS = (MINUTE_RING, TEN_MINUTE_RING, HOUR_RING)
VERSION_RINGS = (MINUTE_RING, TEN_MINUTE_RING, VERSION_HOUR_RING)

_ADVANCE_MAX_MINUTES = 2 * HOUR_MINUTES
"""A running window that lies further behind is summed anew: that is as quick."""


def squared_weight(weight: Array, count: Array) -> Array:
    """Returns Σw² of rows of `count` events that share `weight` (2^-16), in 2^-8.

    The weight of one event is weight / count. Two bits are dropped before and after squaring, so that 65,536 squared
    fits: the error is below the last digit, 2^-8, for weights near one, and integral weights are exact.
    """
    each = (weight // count) >> 4
    return ((each * each) >> 16) * count


def excess_of_rows(weight: Array, count: Array) -> tuple[Array, Array] | None:
    """Returns what Σw and Σw² of rows exceed those of as many unsampled events by; None where that is 0 for all."""
    excess = weight - (count << _WEIGHT_BITS)
    return (excess, squared_weight(weight, count) - (count << _SQUARE_BITS)) if excess.any() else None


class Ring:
    """Counters of one period length, with excess weights, in blocks of one span each.

    A block has an int64[span_periods, series] for every column that is not 0 all over it. Series that are new since
    a block was last written to may lie behind its end: they have counted nothing in it.
    """

    def __init__(self, spec: RingSpec) -> None:
        self.spec = spec
        self.series = 0
        self.base = 0
        self.top = 0  # exclusive; base == top: nothing was added yet
        self.floor: int | None = None  # periods below were forgotten; None before the first was
        self.blocks: dict[int, dict[int, Array]] = {}

    def add(self, series: Array, minutes: Array, excess: Array, columns: Sequence[int]) -> None:
        """Adds excess int64[COLUMNS, n], of which only `columns` hold anything, at (series, minute) int64[n].

        What has been forgotten is not counted any more.
        """
        periods, length = minutes // self.spec.period_minutes, self.spec.span_periods
        first, last = int(periods.min()), int(periods.max())
        if self.floor is not None and first < self.floor:
            kept = periods >= self.floor
            if not kept.any():
                return
            series, periods, excess = series[kept], periods[kept], excess[:, kept]
            first = int(periods.min())
        self.include(first, last)
        if first // length == last // length:
            self._add(first // length, series, periods, excess, columns)
            return
        numbers = periods // length
        for number in np.unique(numbers).tolist():
            at = numbers == number
            self._add(number, series[at], periods[at], excess[:, at], columns)

    def _add(self, number: int, series: Array, periods: Array, excess: Array, columns: Sequence[int]) -> None:
        slots = periods - number * self.spec.span_periods
        needed = int(series.max()) + 1
        for column in columns:
            counters = self.counters(number, column, needed)
            np.add.at(counters.reshape(-1), slots * counters.shape[1] + series, excess[column])

    def counters(self, number: int, column: int, needed: int) -> Array:
        """Returns the int64[span_periods, series] of a column of a block, made or widened to hold `needed` series."""
        block = self.blocks.setdefault(number, {})
        held = block.get(column)
        if held is None or held.shape[1] < needed:
            room = max(needed, self.series) + 8
            block[column] = np.zeros((self.spec.span_periods, room if held is None else room + room // 8), np.int64)
            if held is not None:
                block[column][:, : held.shape[1]] = held
        return block[column]

    def include(self, first: int, last: int) -> None:
        """Widens [base, top) to hold periods `first` to `last`."""
        if self.base == self.top:
            self.base, self.top = first, first
        self.base, self.top = min(self.base, first), max(self.top, last + 1)

    def retire(self, minute: int) -> bool:
        """Forgets the hours that lie wholly before `minute`. Returns whether there was one since it was last called."""
        floor = minute // HOUR_MINUTES * HOUR_MINUTES // self.spec.period_minutes
        if self.floor is not None and floor <= self.floor:
            return False
        self.floor = floor
        length = self.spec.span_periods
        for number in [number for number in self.blocks if (number + 1) * length <= floor]:
            del self.blocks[number]
        for counters in self.blocks.get(floor // length, {}).values():
            counters[: floor % length] = 0
        self.base, self.top = max(self.base, floor), max(self.top, floor)
        return True

    def drop(self, row: int) -> None:
        """Forgets what was counted for a series."""
        for block in self.blocks.values():
            for counters in block.values():
                if row < counters.shape[1]:
                    counters[:, row] = 0

    def sum(self, first: int, last: int) -> Array:
        """Returns int64[COLUMNS, series]: the sums over periods [first, last)."""
        return whole_weights(self.excess(first, last))

    def row(self, row: int, first: int, last: int) -> Array:
        """Returns int64[COLUMNS, last - first]: the cells of one series in periods [first, last)."""
        cells = np.zeros((COLUMNS, max(0, last - first)), np.int64)
        for begin, column, counters in self._counters(first, last):
            if row < counters.shape[1]:
                cells[column, begin - first : begin - first + len(counters)] = counters[:, row]
        return whole_weights(cells)

    def excess(self, first: int, last: int) -> Array:
        """Returns the sums over periods [first, last) with excess weights."""
        sums = np.zeros((COLUMNS, self.series), np.int64)
        for _, column, counters in self._counters(first, last):
            held = min(self.series, counters.shape[1])
            sums[column, :held] += counters[:, :held].sum(axis=0)
        return sums

    def _counters(self, first: int, last: int) -> Iterable[tuple[int, int, Array]]:
        """Yields (first period, column, counters int64[periods, series]) of all in [first, last), block by block."""
        first, last = max(first, self.base), min(last, self.top)
        length = self.spec.span_periods
        for number in range(first // length, (last - 1) // length + 1) if first < last else ():
            low = max(first - number * length, 0)
            for column, counters in self.blocks.get(number, {}).items():
                yield number * length + low, column, counters[low : last - number * length]

    def move(self, operation: np.ufunc, sums: Array, period: int) -> None:
        """Adds a period to excess sums int64[COLUMNS, at least all series], or subtracts it: `operation`."""
        for _, column, counters in self._counters(period, period + 1):
            held = min(sums.shape[1], counters.shape[1])
            operation(sums[column, :held], counters[0, :held], out=sums[column, :held])


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A stored stretch of one ring: periods [number · span_periods, (number + 1) · span_periods)."""

    ring: int
    number: int


@dataclass(slots=True)
class _Running:
    """The sums of the window of one length: periods from `first` of the ring of its old edge, minutes before `end`.

    They are moved on as minutes close, and corrected by what is added within them.
    """

    ring: Ring
    first: int
    end: int
    excess: Array
    values: Array | None = None  # as they were last returned, until something changes

    def grow(self, series: int) -> None:
        """Makes room for new series."""
        missing = series - self.excess.shape[1]
        if missing > 0:
            self.excess = np.pad(self.excess, ((0, 0), (0, missing)))
            self.values = None

    def advance(self, minutes: Ring, first: int, end: int) -> None:
        """Moves on to a later window of the same length."""
        self.grow(minutes.series)
        for minute in range(self.end, end):
            minutes.move(np.add, self.excess, minute)
        for period in range(self.first, first):
            self.ring.move(np.subtract, self.excess, period)
        if end != self.end:
            self.values = None
        self.first, self.end = first, end

    def add(self, series: Array, minutes: Array, excess: Array, columns: Sequence[int]) -> None:
        """Adds what lies within."""
        inside = (minutes >= self.first * self.ring.spec.period_minutes) & (minutes < self.end)
        if inside.any():
            series, self.values = series[inside], None
            self.grow(int(series.max()) + 1)
            for column in columns:
                np.add.at(self.excess[column], series, excess[column, inside])

    def sums(self) -> Array:
        """Returns int64[COLUMNS, series], not to be written to."""
        if self.values is None:
            self.values = whole_weights(self.excess)
            self.values.flags.writeable = False
        return self.values


class Cells(Generic[Key]):
    """The cells of many series, with the rings of `specs`: minutes first, then the coarser ones.

    `forgot` is set when periods are forgotten; whoever looks at it takes it back.
    """

    def __init__(self, specs: Sequence[RingSpec]) -> None:
        self.rings = tuple(Ring(spec) for spec in specs)
        self.index: dict[Key, int] = {}
        self.forgot = False
        self._free: list[int] = []
        self._sorted: list[Key] | None = None
        self._running: dict[int, _Running] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self.index

    def series(self, key: Key) -> int:
        """Returns the row of a series in the arrays, made if it is new."""
        row = self.index.get(key)
        if row is None:
            row = self._free.pop() if self._free else self._new_row()
            self.index[key] = row
            self._sorted = None
        return row

    def _new_row(self) -> int:
        row = self.rings[0].series
        for ring in self.rings:
            ring.series = row + 1
        return row

    def keys(self) -> list[Key]:
        """Returns the series in order."""
        if self._sorted is None:
            self._sorted = sorted(self.index)
        return self._sorted

    def drop(self, keys: Iterable[Key]) -> None:
        """Forgets series and everything counted for them."""
        for key in keys:
            row = self.index.pop(key)
            for ring in self.rings:
                ring.drop(row)
            for running in self._running.values():
                running.excess[:, row : row + 1], running.values = 0, None
            self._free.append(row)
        self._sorted = None

    def add(self, series: Array, minutes: Array, values: Array) -> None:
        """Adds `values` int64[COLUMNS, n] at (series int64[n], minute int64[n]) to every ring."""
        self.add_excess(series, minutes, excess_weights(values))

    def add_excess(self, series: Array, minutes: Array, excess: Array) -> None:
        """Does what `add` does with what `excess_weights` returned."""
        if not len(minutes):
            return
        columns: list[int] = np.flatnonzero(excess.any(axis=1)).tolist()
        for ring in self.rings:
            ring.add(series, minutes, excess, columns)
        oldest = int(minutes.min())
        for running in self._running.values():
            if oldest < running.end:
                running.add(series, minutes, excess, columns)

    def minute(self, minute: int) -> Array:
        """Returns int64[COLUMNS, rows]: the cells of one minute."""
        return self.rings[0].sum(minute, minute + 1)

    def window(self, end_minute: int, length_minutes: int) -> Array:
        """Returns int64[COLUMNS, rows], not to be written to: sums over the window that ends before `end_minute`.

        The newest part comes from minute cells, so the end is exact. The old edge of a window longer than 6 h lies on
        a multiple of 10 min, of one longer than 3 d on a full hour, at or before the nominal edge.

        The newest window of each length that was asked for is kept and moved on to the next minutes; one that ends
        before it is summed from the rings.
        """
        running = self._running.get(length_minutes)
        ring = self._ring_of(length_minutes)
        first = (end_minute - length_minutes) // ring.spec.period_minutes
        if running is not None and running.end <= end_minute <= running.end + _ADVANCE_MAX_MINUTES:
            running.advance(self.rings[0], first, end_minute)
            return running.sums()
        summed = _Running(ring, first, end_minute, self._excess(ring, first, end_minute))
        if self._holds(summed) and (running is None or running.end < end_minute):
            self._running[length_minutes] = summed
        return summed.sums()

    def _ring_of(self, length_minutes: int) -> Ring:
        """Returns the ring in which the old edge of a window lies."""
        minutes, tens, hours = self.rings
        if length_minutes <= 6 * HOUR_MINUTES:
            return minutes
        return tens if length_minutes <= 3 * DAY_MINUTES else hours

    def _excess(self, ring: Ring, first: int, end_minute: int) -> Array:
        whole = end_minute // ring.spec.period_minutes
        return ring.excess(first, whole) + self.rings[0].excess(whole * ring.spec.period_minutes, end_minute)

    def _holds(self, window: _Running) -> bool:
        """Returns whether the rings still hold all that a window is summed from."""
        period = window.ring.spec.period_minutes
        minutes, coarse = self.rings[0].floor, window.ring.floor
        return (minutes is None or window.end // period * period >= minutes) and (
            coarse is None or window.first >= coarse
        )

    def retire(self, closed_minute: int) -> None:
        """Forgets the hours older than each ring's retention behind `closed_minute`."""
        forgot = [ring.retire(closed_minute - ring.spec.retention_minutes) for ring in self.rings]
        if any(forgot):
            self.forgot = True
            self._running = {length: window for length, window in self._running.items() if self._holds(window)}

    def spans_of_hour(self, hour: int) -> list[Span]:
        """Returns the spans that hold an hour when it is stored: of minutes, or of coarser periods once these are gone.

        While the minute ring holds an hour, the coarser periods are not stored: they are its sums.
        """
        minutes, *coarse = self.rings
        if minutes.floor is None or hour * HOUR_MINUTES >= minutes.floor:
            return [Span(0, hour * HOUR_MINUTES // minutes.spec.span_periods)]
        lengths = [ring.spec.period_minutes * ring.spec.span_periods for ring in coarse]
        return [Span(number, hour * HOUR_MINUTES // length) for number, length in enumerate(lengths, start=1)]

    def stores(self, span: Span) -> bool:
        """Returns whether there is anything of a span to store: it is not forgotten, nor the sum of minute cells."""
        ring, length = self.rings[span.ring], self.rings[span.ring].spec.span_periods
        if ring.floor is not None and (span.number + 1) * length <= ring.floor:
            return False
        return self._stored_until(span) > span.number * length

    def read_span(self, span: Span, keys: Sequence[Key]) -> tuple[Array, Array, Array]:
        """Returns (position in `keys` int64[n], period int64[n], excess int64[COLUMNS, n]) of the cells to store.

        These are the non-zero ones, of a coarser ring without the hours that the minute ring holds.
        """
        ring = self.rings[span.ring]
        begin = span.number * ring.spec.span_periods
        first, last = max(begin, ring.base), min(self._stored_until(span), ring.top)
        rows = [self.index[key] for key in keys]
        counted = np.zeros((max(0, last - first), len(rows)), bool)
        found: list[tuple[int, Array]] = []
        for column, counters in ring.blocks.get(span.number, {}).items() if counted.size else ():
            held = counters[first - begin : last - begin].take(rows, axis=1, mode="clip")
            if max(rows) >= counters.shape[1]:
                held[:, np.array(rows) >= counters.shape[1]] = 0
            counted |= held != 0
            found.append((column, held.T))
        position, offset = np.nonzero(counted.T)
        excess = np.zeros((COLUMNS, len(position)), np.int64)
        for column, held in found:
            excess[column] = held[position, offset]
        return position, first + offset, excess

    def _stored_until(self, span: Span) -> int:
        """Returns the end of the periods of a span that are stored, before its beginning where none is."""
        ring, reach = self.rings[span.ring], self.rings[0].floor
        end = (span.number + 1) * ring.spec.span_periods
        if span.ring == 0:
            return end
        return min(end, end - ring.spec.span_periods if reach is None else reach // ring.spec.period_minutes)

    def write_span(self, span: Span, keys: Sequence[Key], position: Array, period: Array, excess: Array) -> None:
        """Puts back what `read_span` returned, but for periods forgotten since. At the end follows `sum_coarse`."""
        ring = self.rings[span.ring]
        first = span.number * ring.spec.span_periods
        kept = (period >= (first if ring.floor is None else ring.floor)) & (period < self._stored_until(span))
        if not kept.all():
            position, period, excess = position[kept], period[kept], excess[:, kept]
        self._running.clear()
        if not len(position):
            return
        ring.include(int(period.min()), int(period.max()))
        rows = np.array([self.series(key) for key in keys], np.int64)[position]
        for column in np.flatnonzero(excess.any(axis=1)).tolist():
            ring.counters(span.number, column, int(rows.max()) + 1)[period - first, rows] = excess[column]

    def sum_coarse(self) -> None:
        """Sums the coarser cells of the hours that the minute ring holds from its cells."""
        minutes, *coarse = self.rings
        for number, block in minutes.blocks.items():
            for ring in coarse:
                length, period_minutes = ring.spec.span_periods, ring.spec.period_minutes
                first = number * minutes.spec.span_periods // period_minutes
                ring.include(first, first + minutes.spec.span_periods // period_minutes - 1)
                for column, counters in block.items():
                    held = min(self.rings[0].series, counters.shape[1])
                    sums = counters[:, :held].reshape(-1, period_minutes, held).sum(axis=1)
                    into = ring.counters(first // length, column, held)
                    into[first % length : first % length + len(sums), :held] = sums
