"""Exemplars: the worst and the newest traced event of a minute, which lead from an indicator to a trace.

Which event is the worst or the newest is a total order over all that is told of it (that of the tuple,
`Exemplar.recency`), so it depends neither on the order of the events nor on how they were split into records.

The ingest thins trace ids out before they go to the log (`thinned`). That changes no exemplar: of the rows that every
objective treats alike the first in either order keeps its trace id. (One exception: where that one is refused as being
from the future, and the others of its minute are not.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from stream.core.columns import Array, RowFlag, Rows
from stream.core.grouping import groups
from stream.core.units import HOUR_MINUTES, MINUTE_NS

OPEN_MINUTES_MAX = 6 * HOUR_MINUTES
"""A pipeline whose frontier is further behind publishes the minutes beyond it without exemplars."""

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
    group, size = groups(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The worst and the newest traced row of each owner and minute of a record.

    Shapes: `row` int64[n], a row of the owner; `minute` int64[n]; `worst` and `newest` int64[5, n], in the order of
    the fields of `Exemplar`.
    """

    row: Array
    minute: Array
    worst: Array
    newest: Array

    def take(self, chosen: Array) -> Found:
        """Returns the ones at `chosen`."""
        worst, newest = self.worst[:, chosen], self.newest[:, chosen]
        return Found(row=self.row[chosen], minute=self.minute[chosen], worst=worst, newest=newest)


def exemplars_of(rows: Rows, index: Array, minute: Array, bad: Array, owner: Array) -> Found:
    """Returns the exemplars by owner and minute.

    Args:
        rows: Rows of any services.
        index: int64[n], the rows to look at; at least one, and all of them have a trace id.
        minute: int64[n], the minute of each of them.
        bad: bool[n], whether it is bad.
        owner: int[n], whose it is.
    """
    group, size = groups(minute, owner)
    columns = (rows.duration_ns, rows.end_ns, rows.trace_hi, rows.trace_lo)
    told = np.stack([bad, *(column[index] for column in columns)], dtype=np.int64)
    worst, newest = _greatest_of(group, size, told, _BADNESS), _greatest_of(group, size, told, _RECENCY)
    return Found(row=index[worst], minute=minute[worst], worst=told[:, worst], newest=told[:, newest])


class Candidates:
    """What records hold of exemplars, until somebody asks for them: then that of all records is reduced at once."""

    def __init__(self) -> None:
        self._held: list[tuple[Array, Found]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, owner: Array, found: Found) -> None:
        """Takes in exemplars of minutes that are not closed, each for the objective numbered `owner` int64[n]."""
        self._held.append((owner, found))
        self._size += len(owner)

    def hand_over(self, owners: Sequence[OpenExemplars]) -> None:
        """Hands all of them, at least one, to their objectives."""
        numbers, held = zip(*self._held, strict=True)
        self._held, self._size = [], 0
        owner, minute = np.concatenate(numbers), np.concatenate([found.minute for found in held])
        worst = np.concatenate([found.worst for found in held], axis=1)
        newest = np.concatenate([found.newest for found in held], axis=1)
        group, size = groups(minute, owner)
        first, last = _greatest_of(group, size, worst, _BADNESS), _greatest_of(group, size, newest, _RECENCY)
        both = zip(_exemplars(worst[:, first]), _exemplars(newest[:, last]), strict=True)
        for number, at, exemplars in zip(owner[first].tolist(), minute[first].tolist(), both, strict=True):
            owners[number].add(at, Exemplars(*exemplars))


_BADNESS = (0, 1, 2, 3, 4)
_RECENCY = (2, 0, 1, 3, 4)
"""The fields of an `Exemplar` in the order in which they decide which one is the worst, and which one the newest."""


def _greatest_of(group: Array, size: int, told: Array, order: Sequence[int]) -> Array:
    return _greatest(group, size, [told[field] for field in order])


def _exemplars(told: Array) -> Iterable[Exemplar]:
    return map(Exemplar._make, zip((told[0] != 0).tolist(), *told[1:].tolist(), strict=True))


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
        if np.bincount(group[index]).max(initial=0) <= 1:
            break  # the keys before have decided
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

    def add(self, minute: int, others: Exemplars) -> None:
        """Takes in exemplars of a minute that is not closed. Of these, the newest `OPEN_MINUTES_MAX` are held."""
        held = self.held.get(minute)
        self.held[minute] = others if held is None else held.with_others(others)
        if len(self.held) > OPEN_MINUTES_MAX:
            del self.held[min(self.held)]

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
