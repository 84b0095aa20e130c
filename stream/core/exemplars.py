"""Exemplars: the worst and the newest traced event of a minute, which lead from an indicator to a trace.

Which event is the worst or the newest is a total order over all that is told of it (that of the tuple,
`Exemplar.recency`), so it depends neither on the order of the events nor on how they were split into records.

The ingest thins trace ids out before they go to the log (`thinned`). That changes no exemplar: of the rows that every
objective treats alike the first in either order keeps its trace id. (One exception: where that one is refused as being
from the future, and the others of its minute are not.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from stream.core.columns import Array, RowFlag, Rows
from stream.core.units import HOUR_MINUTES, MINUTE_NS

OPEN_MINUTES_MAX = 6 * HOUR_MINUTES
"""A pipeline whose frontier is further behind publishes the minutes beyond it without exemplars."""

_TABLE_PER_ROW = 64
"""Groups are numbered by a table of at most so many places per row; where it would be larger, the rows are sorted."""

_CODE_MAX = 1 << 62
_WORD = (1 << 64) - 1
_JUDGED_FLAGS = RowFlag.FAILED | RowFlag.NEGATIVE_DURATION


class Exemplar(NamedTuple):
    """One traced event. `trace_hi` and `trace_lo` are the halves of its trace id as in `Rows`.

    As tuples they are ordered by badness: bad before good, then the longest, then the newest.
    """

    bad: bool
    duration_ns: int
    end_ns: int
    trace_hi: int
    trace_lo: int

    @property
    def trace_id(self) -> str:
        """The trace id, 32 hexadecimal digits."""
        return f"{self.trace_hi & _WORD:016x}{self.trace_lo & _WORD:016x}"

    @property
    def recency(self) -> tuple[int, ...]:
        """Greatest for the newest: the last to end, then bad before good, then the longest."""
        return self.end_ns, self.bad, self.duration_ns, self.trace_hi, self.trace_lo


class Exemplars(NamedTuple):
    """The worst and the newest traced event of a minute; they may be one."""

    worst: Exemplar
    newest: Exemplar

    def with_others(self, others: Exemplars) -> Exemplars:
        """Returns the worst and the newest of both."""
        newest = self.newest if self.newest.recency >= others.newest.recency else others.newest
        return Exemplars(worst=max(self.worst, others.worst), newest=newest)


def is_traced(rows: Rows) -> Array:
    """Returns bool[n]: whether a row has a trace id."""
    return np.asarray((rows.trace_hi | rows.trace_lo) != 0)


def thinned(rows: Rows) -> Rows:
    """Returns the rows with the trace ids of those blanked that can be no exemplar of any objective.

    Of the rows that no objective tells apart but by their duration, the longest and the newest keep theirs: those of a
    minute and service that agree in version, signal, kind, name, severity, attributes, and in whether they failed.
    """
    index = np.flatnonzero(is_traced(rows))
    if len(index) <= 1:
        return rows
    traced = rows.take(index) if len(index) < len(rows) else rows
    group, size = _groups(
        traced.signal,
        traced.kind,
        traced.flags & np.uint8(_JUDGED_FLAGS),
        traced.severity,
        traced.name,
        traced.attributes,
        traced.version,
        traced.service,
        traced.end_ns // MINUTE_NS,
    )
    trace = (traced.trace_hi, traced.trace_lo)
    longest = _greatest(group, size, (traced.duration_ns, traced.end_ns, *trace))
    newest = _greatest(group, size, (traced.end_ns, traced.duration_ns, *trace))
    kept = index[np.concatenate([longest, newest])]
    trace_hi, trace_lo = np.zeros_like(rows.trace_hi), np.zeros_like(rows.trace_lo)
    trace_hi[kept], trace_lo[kept] = rows.trace_hi[kept], rows.trace_lo[kept]
    return replace(rows, trace_hi=trace_hi, trace_lo=trace_lo)


def exemplars_of(rows: Rows, index: Array, minute: Array, bad: Array) -> dict[str, dict[int, Exemplars]]:
    """Returns the exemplars by service and minute.

    Args:
        rows: Rows of any services.
        index: int64[n], the rows to look at; all of them have a trace id.
        minute: int64[n], the minute of each of them.
        bad: bool[n], whether it is bad.
    """
    found: dict[str, dict[int, Exemplars]] = {}
    if not len(index):
        return found
    service = rows.service[index]
    group, size = _groups(minute, service)
    duration_ns, end_ns = rows.duration_ns[index], rows.end_ns[index]
    trace = (rows.trace_hi[index], rows.trace_lo[index])
    worst = _greatest(group, size, (bad, duration_ns, end_ns, *trace))
    newest = _greatest(group, size, (end_ns, bad, duration_ns, *trace))
    columns = (bad, duration_ns, end_ns, *trace)
    for at, first, second in zip(worst.tolist(), _exemplars(columns, worst), _exemplars(columns, newest), strict=True):
        key = rows.services[service[at]]
        found.setdefault(key, {})[int(minute[at])] = Exemplars(worst=first, newest=second)
    return found


def _exemplars(columns: Sequence[Array], index: Array) -> Iterable[Exemplar]:
    return map(Exemplar._make, zip(*(column[index].tolist() for column in columns), strict=True))


def _groups(*columns: Array) -> tuple[Array, int]:
    """Returns a number for each row, equal where all columns are, and a bound that all these numbers lie below.

    The bound is at most the number of rows.
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


def _compact(code: Array, size: int) -> tuple[Array, int]:
    """Returns the codes, which lie below `size`, renumbered without gaps and in the same order, and their number."""
    if size > _TABLE_PER_ROW * len(code):
        values, number = np.unique(code, return_inverse=True)
        return number.astype(np.int64, copy=False), len(values)
    occurs = np.zeros(size, bool)
    occurs[code] = True
    values = np.flatnonzero(occurs)
    numbers = np.empty(size, np.int64)
    numbers[values] = np.arange(len(values))
    return numbers[code], len(values)


def _greatest(group: Array, size: int, keys: Sequence[Array]) -> Array:
    """Returns the row of each group with the greatest keys, in the order of the groups' numbers.

    The first key decides, then the second, and so on; of rows that are equal in all of them it is the first.

    Args:
        group: int64[n], below `size`.
        size: Groups, of which some may be empty.
        keys: bool[n] or int64[n] each.
    """
    index = np.flatnonzero(_is_greatest(group, size, keys[0]))
    for key in keys[1:]:
        index = index[_is_greatest(group[index], size, key[index])]
    first = np.full(size, len(group))
    np.minimum.at(first, group[index], index)
    return np.asarray(first[first < len(group)])


def _is_greatest(group: Array, size: int, key: Array) -> Array:
    """Returns bool[n]: whether no row of the same group has a greater key."""
    value = key.astype(np.int64, copy=False)
    top = np.full(size, np.iinfo(np.int64).min)
    np.maximum.at(top, group, value)
    return np.asarray(value == top[group])


@dataclass(slots=True)
class OpenExemplars:
    """The exemplars of one objective's minutes that are still open, by minute."""

    held: dict[int, Exemplars] = field(default_factory=dict)

    def add(self, found: Mapping[int, Exemplars]) -> None:
        """Takes in exemplars of minutes that are not closed. Of these, the newest `OPEN_MINUTES_MAX` are held."""
        for minute, others in found.items():
            held = self.held.get(minute)
            self.held[minute] = others if held is None else held.with_others(others)
        for minute in sorted(self.held)[:-OPEN_MINUTES_MAX]:
            del self.held[minute]

    def close(self, minute: int) -> Exemplars | None:
        """Closes a minute and all before it. Returns its exemplars; None where it has none."""
        found = self.held.get(minute)
        for old in [m for m in self.held if m <= minute]:
            del self.held[old]
        return found

    def dump(self) -> list[Any]:
        """Returns the open minutes as plain values; `load` gives back an equal object."""
        return [(minute, tuple(held.worst), tuple(held.newest)) for minute, held in sorted(self.held.items())]

    @classmethod
    def load(cls, body: list[Any]) -> OpenExemplars:
        """Returns what `dump` wrote."""
        return cls({minute: Exemplars(Exemplar(*worst), Exemplar(*newest)) for minute, worst, newest in body})
