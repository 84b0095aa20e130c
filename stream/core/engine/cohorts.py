"""Cohorts that are found: a value of an attribute becomes an objective of its own when it arrives.

A predicate that finds cohorts is tallied once, by the value of its attribute, however many cohorts there are. Values
that are new become cohorts, in order of service, objective and value, while there is room. Those that find none, and
what has no value, are of the cohort `__other__`, and so is what comes too late to be the first of a cohort.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stream.core.cells import Column
from stream.core.columns import Array
from stream.core.engine.overflow import Room
from stream.core.engine.series_index import NONE
from stream.core.engine.services import Service
from stream.core.engine.state import State
from stream.core.engine.tally import Tally
from stream.core.events import Output
from stream.core.grouping import numbered
from stream.core.otlp.attributes import parse
from stream.core.slo.cohorts import can_be_cohort, found_cohort
from stream.core.slo.selection import text_of
from stream.core.slo.spec import Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Items by pair and by value of an attribute: each pair and value that occur together are a part.

    Shapes: `of` int64[n], the part of each item; `pair` int64[parts]. `values` is by part, '' for none.
    """

    of: Array
    pair: Array
    values: Sequence[str]

    @classmethod
    def by(cls, key: str, pair: Array, attributes: Array, attribute_sets: Sequence[str]) -> Parts:
        """Returns the parts of items by the attribute `key`.

        Args:
            key: Its name.
            pair: int64[n], n at least 1.
            attributes: int[n], an index into `attribute_sets`.
            attribute_sets: Canonical texts, as in `Rows`.
        """
        texts = [text_of(parse(one), key) for one in attribute_sets]
        words = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        word = np.array([words[text] for text in texts], np.int64)[attributes]
        of, codes = numbered(pair * len(words) + word, (int(pair.max()) + 1) * len(words))
        named = list(words)
        return cls(of=of, pair=codes // len(words), values=[named[at] for at in (codes % len(words)).tolist()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Divided:
    """What a predicate that finds cohorts selects: `sums` by part instead of by pair."""

    parts: Parts
    sums: Tally

    def newest(self) -> Array:
        """Returns int64[parts]: the newest minute in which anything counts, -1 for none.

        Of two counters the one of what is good, or bad, may come first: it counts, and is no event by itself.
        """
        newest = np.full(len(self.parts.pair), -1, np.int64)
        counted = self.sums.excess[: Column.N_EXCLUDED].any(axis=0)
        np.maximum.at(newest, self.sums.pair[counted], self.sums.minute[counted])
        return newest

    def cohorts(self, state: State, rest: Array) -> Array:
        """Returns int64[parts]: the numbers of the objectives that the parts count for.

        Args:
            state: The partition's, which takes note of what counts for no cohort although it has a value.
            rest: int64[pairs], the objective of each pair that finds cohorts, or `NONE`.
        """
        rests, values = rest[self.parts.pair], self.parts.values
        found = [state.index.cohort(at, value) for at, value in zip(rests.tolist(), values, strict=True)]
        numbers = np.array(found, np.int64)
        beyond = (numbers == rests) & (rests != NONE) & np.array([value != "" for value in values], bool)
        state.overflowed["cohorts"] += int(self.sums.excess[Column.N][beyond[self.sums.pair]].sum())
        return numbers


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A value that has no cohort yet, the objective that may find one, and the newest minute of its events."""

    service: Service
    rest: Objective
    value: str
    minute: int

    @property
    def order(self) -> tuple[str, str, str]:
        return self.service.key, self.rest.name, self.value


def find_cohorts(state: State, divided: Sequence[tuple[Divided, Array]]) -> tuple[list[Output], bool]:
    """Takes in the values that are new, in order, while there is room for them or an idle cohort makes room.

    Returns what follows from making room, and whether any cohort came: then everything is to be numbered anew.

    Args:
        state: The partition's.
        divided: Of each predicate, and each objective int64[pairs] that finds cohorts by it, what was tallied.
    """
    assert state.bundle is not None
    room = Room(state)
    came: dict[str, Service] = {}
    arrivals: dict[tuple[str, str, str], _Arrival] = {}
    for one, rest in divided:
        for arrival in _arrivals(state, room, one, rest):
            known = arrivals.get(arrival.order)
            if known is None or known.minute < arrival.minute:
                arrivals[arrival.order] = arrival
    for _, arrival in sorted(arrivals.items()):
        if room.for_cohort(arrival.service, arrival.rest):
            _begin(state, arrival)
            came[arrival.service.key] = arrival.service
    for service in came.values():
        service.exclude(state.bundle.adjustments)
    if came:
        state.renumber()
    return room.outputs, bool(came)


def _arrivals(state: State, room: Room, divided: Divided, rest: Array) -> list[_Arrival]:
    """Returns the values that may become cohorts, after the cohorts of the others were told of their newest minutes."""
    newest, parts, index = divided.newest(), divided.parts, state.index
    unknown: dict[int, list[tuple[str, int]]] = {}  # by objective
    for part in np.flatnonzero((newest >= 0) & (rest[parts.pair] != NONE)).tolist():
        value, minute, at = parts.values[part], int(newest[part]), int(rest[parts.pair[part]])
        number = index.cohort(at, value)
        own = index.targets[number].state
        if number != at:
            own.newest_minute = max(minute, own.newest_minute or minute)
        elif state.next_minute is None or minute >= state.next_minute:
            unknown.setdefault(at, []).append((value, minute))
    arrivals = []
    for at, values in unknown.items():
        service, position = index.targets[at].service, index.targets[at].position
        if room.may_find(service, service.objectives[position]):
            found = [(value, minute) for value, minute in values if can_be_cohort(value)]
            arrivals += [_Arrival(service, service.objectives[position], *one) for one in found]
    return arrivals


def _begin(state: State, arrival: _Arrival) -> None:
    service, rest = arrival.service, arrival.rest
    cohort = found_cohort(rest, arrival.value)
    own = service.new_state(service.states[rest.digest].since, state.clocks.frontier_ns)
    own.newest_minute = arrival.minute
    service.cohorts[rest.digest].add(arrival.value)
    insort(service.objectives, cohort, key=lambda o: o.name)
    service.states[cohort.digest] = own
