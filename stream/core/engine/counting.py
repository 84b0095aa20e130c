"""Counting: what was admitted is added to the cells of every objective that counts it, a predicate at a time.

The work per record grows with the services and versions that it names, by a dictionary look-up each; everything that
grows with its items, and the sums over them, are vector operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from stream.core.columns import Array
from stream.core.engine.admission import Admitted
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.state import SERIES, VERSIONS, State
from stream.core.engine.tally import Predicate, Tally
from stream.core.exemplars import Exemplars
from stream.core.log import LogRecord
from stream.core.slo.spec import SliSignal
from stream.core.units import HOUR_MINUTES

_UNWANTED, _NEW = -1, -2
"""Marks of a pair whose service has no such objective, and of one whose series has no row in the cells yet."""


def count(
    state: State,
    record: LogRecord,
    admitted: Admitted,
    signals: frozenset[SliSignal],
    tally: Callable[[Predicate, Array], Tally],
) -> None:
    """Adds what was admitted to the cells of the objectives that count one of `signals`.

    Args:
        state: The partition's.
        record: Where it is from; what was decoded before an objective was known does not count for it.
        admitted: At least one item.
        signals: What the items are.
        tally: Returns the sums of the items of some pairs (bool[pairs]) that a predicate selects. Called once per
            predicate, whatever the number of services.
    """
    services, of_pair = _services(state, admitted)
    additions = _Additions(state, services, of_pair)
    for predicate, layers in _layers(state, record, admitted, services, signals).items():
        rows = [layer.arrays() for layer in layers]
        sums = tally(predicate, np.logical_or.reduce([of_version != _UNWANTED for of_version, _ in rows]))
        for layer, (of_version, of_all) in zip(layers, rows, strict=True):
            layer.show(sums.exemplars)
            if len(sums.pair):
                additions.take(layer, sums, of_version, of_all)
    additions.add()


@dataclass(slots=True, kw_only=True)
class _Named:
    """A service of the record, its pairs, and the newest minute among their items."""

    service: Service
    pairs: list[tuple[int, str]] = field(default_factory=list)
    newest_minute: int = 0


def _services(state: State, admitted: Admitted) -> tuple[list[_Named], Array]:
    """Returns the services that have items, each with its pairs and their versions; and int64[pairs], which of them."""
    newest = np.full(len(admitted.pairs), -1, np.int64)
    np.maximum.at(newest, admitted.pair, admitted.minute)
    named: dict[str, _Named] = {}
    numbers: dict[str, int] = {}
    of_pair = np.full(len(admitted.pairs), -1, np.int64).tolist()
    for pair, ((key, version), minute) in enumerate(zip(admitted.pairs, newest.tolist(), strict=True)):
        if minute < 0:
            continue  # all of its items were refused
        entry = named.get(key)
        if entry is None:
            entry = named[key] = _Named(service=state.services[key])
            numbers[key] = len(numbers)
        entry.pairs.append((pair, version))
        entry.newest_minute = max(entry.newest_minute, minute)
        of_pair[pair] = numbers[key]
    return list(named.values()), np.array(of_pair, np.int64)


class _Layer:
    """One objective of each service among those that share a predicate: where their pairs are in the cells.

    `of_version` and `of_all` are rows in the cells of versions and of all versions together, by pair.
    """

    def __init__(self, pairs: int) -> None:
        self.of_version = [_UNWANTED] * pairs
        self.of_all = [_UNWANTED] * pairs
        self.targets: list[tuple[Service, str, str, ObjectiveState] | None] = [None] * pairs
        self._states: dict[str, ObjectiveState] = {}

    def add(self, named: _Named, digest: str, state: ObjectiveState) -> None:
        """Takes in an objective of a service that has none here yet."""
        self._states[named.service.key] = state
        for pair, version in named.pairs:
            self.of_version[pair] = state.version_rows.get(version, _NEW)
            self.of_all[pair] = state.row if state.row is not None else _NEW
            self.targets[pair] = named.service, digest, version, state

    def arrays(self) -> tuple[Array, Array]:
        """Returns both as int64[pairs]."""
        return np.array(self.of_version, np.int64), np.array(self.of_all, np.int64)

    def show(self, exemplars: Mapping[str, Mapping[int, Exemplars]]) -> None:
        """Hands each service's exemplars to its objective."""
        for key, found in exemplars.items():
            if key in self._states:
                self._states[key].exemplars.add(found)


def _layers(
    state: State, record: LogRecord, admitted: Admitted, services: list[_Named], signals: frozenset[SliSignal]
) -> dict[Predicate, list[_Layer]]:
    """Returns the objectives to count for, by predicate: a service's second one with the same is in a second layer."""
    layers: dict[Predicate, list[_Layer]] = {}
    for named in services:
        service = named.service
        used: dict[Predicate, int] = {}
        for objective, digest, predicate in service.targets():
            objective_state = service.states[digest]
            if record.config_version < objective_state.since:
                # Decoded before the objective was known: its history begins after the last such minute.
                start_minute = max(objective_state.start_minute or 0, named.newest_minute + 1)
                objective_state.start_minute = start_minute
            elif objective.signal in signals:
                level = used[predicate] = used.get(predicate, -1) + 1
                listed = layers.setdefault(predicate, [])
                if level == len(listed):
                    listed.append(_Layer(len(admitted.pairs)))
                listed[level].add(named, digest, objective_state)
        service.newest_minute = max(named.newest_minute, service.newest_minute or named.newest_minute)
        state.changes.heads.add(service.key)
    return layers


class _Additions:
    """What a record adds to the cells of all its services, so that each ring is written once per record."""

    def __init__(self, state: State, services: list[_Named], of_pair: Array) -> None:
        self._state = state
        self._services = services
        self._of_pair = of_pair
        self._rows: dict[str, list[Array]] = {SERIES: [], VERSIONS: []}
        self._minutes: list[Array] = []
        self._values: list[Array] = []
        self._hours: list[Array] = []

    def take(self, layer: _Layer, sums: Tally, of_version: Array, of_all: Array) -> None:
        """Takes in the sums of a predicate for the objectives of a layer."""
        rows = of_version[sums.pair]
        wanted = rows != _UNWANTED
        pair, minute, values = sums.pair, sums.minute, sums.values
        if not wanted.all():
            pair, minute, values, rows = pair[wanted], minute[wanted], values[:, wanted], rows[wanted]
        every = of_all[pair]
        for at in np.flatnonzero((rows == _NEW) | (every == _NEW)).tolist():
            rows[at], every[at] = self._new_rows(layer, int(pair[at]))
        self._rows[VERSIONS].append(rows)
        self._rows[SERIES].append(every)
        self._minutes.append(minute)
        self._values.append(values)
        self._hours.append(self._of_pair[pair] << 32 | minute // HOUR_MINUTES)
        self._note_revisions(layer, pair, minute)

    def _new_rows(self, layer: _Layer, pair: int) -> tuple[int, int]:
        """Returns the rows of a pair's series, made where they are new."""
        target = layer.targets[pair]
        assert target is not None
        service, digest, version, objective_state = target
        row = self._state.cells[VERSIONS].series((service.key, digest, version))
        every = self._state.cells[SERIES].series((service.key, digest, ""))
        objective_state.version_rows[version], objective_state.row = row, every
        return row, every

    def _note_revisions(self, layer: _Layer, pair: Array, minute: Array) -> None:
        """What comes to a minute that is closed corrects what was published of it, once the next minute closes."""
        next_minute = self._state.next_minute
        if next_minute is None:
            return
        late = np.flatnonzero(minute < next_minute)
        for one, at in zip(pair[late].tolist(), minute[late].tolist(), strict=True):
            target = layer.targets[one]
            assert target is not None
            start = target[3].start_minute
            if start is not None and start <= at:
                target[3].revised.add(at)

    def add(self) -> None:
        """Adds everything to the cells, of each version and of all together, and marks the hours that changed."""
        if not self._minutes:
            return
        minutes, values = np.concatenate(self._minutes), np.concatenate(self._values, axis=1)
        if not len(minutes):
            return
        for store, rows in self._rows.items():
            self._state.cells[store].add(np.concatenate(rows), minutes, values)
        for code in np.unique(np.concatenate(self._hours)).tolist():
            self._state.changes.hours.add((self._services[code >> 32].service.key, code & 0xFFFFFFFF))
