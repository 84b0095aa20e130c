"""Counting: what was admitted is added to the cells of every objective that counts it, a predicate at a time.

The work per record grows with the services and versions that it names, by a dictionary look-up each; everything that
grows with its items, and the sums over them, are vector operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stream.core.columns import Array
from stream.core.engine.admission import Admitted
from stream.core.engine.cohorts import Divided, Parts, find_cohorts
from stream.core.engine.series_index import NONE, Layer
from stream.core.engine.state import SERIES, VERSIONS, State
from stream.core.engine.tally import Predicate, Tally
from stream.core.log import LogRecord
from stream.core.slo.spec import SliSignal
from stream.core.units import HOUR_MINUTES

Layers = dict[Predicate, list[Layer]]
"""The objectives to count for, by predicate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Countable:
    """What was admitted, as objectives count it.

    Args:
        signals: What the items are.
        attributes: int[n], an index into `attribute_sets`.
        attribute_sets: Canonical texts, as in `Rows`.
        tally: Returns the sums of the items of some parts (bool[parts]) that a predicate selects, by the part of each
            item (int64[n]); None: by its pair. Called once per predicate, whatever the number of services.
    """

    signals: frozenset[SliSignal]
    attributes: Array
    attribute_sets: Sequence[str]
    tally: Callable[[Predicate, Array, Array | None], Tally]


def count(state: State, record: LogRecord, admitted: Admitted, items: Countable) -> Array:
    """Adds what was admitted to the cells of the objectives that count it.

    Returns int64[pairs]: the number of the service of each pair.

    Args:
        state: The partition's.
        record: Where it is from; what was decoded before an objective was known does not count for it.
        admitted: At least one item.
        items: The same as objectives see it.
    """
    services = _note_minutes(state, record, admitted)
    layers = _layers(state, services, items.signals)
    divided = _divided(state, record, admitted, items, layers)
    number = admitted.number
    if divided:
        number, layers = _with_cohorts(state, record, admitted, layers, divided)
    service = state.index.service_of(number)
    additions = _Additions(state, number, service)
    for predicate, some in layers.items():
        objectives, wanted = _wanted(state, record, number, predicate, some)
        if not wanted.any():
            continue
        own = divided.get(predicate)
        if own is None:
            sums, pair = items.tally(predicate, wanted, None), None
        else:
            sums, pair = own.sums, own.parts.pair
            objectives = [own.cohorts(state, objective) for objective in objectives]
        for objective in objectives:
            if sums.found is not None:
                state.index.show(objective[sums.found.pair], sums.found)
            additions.take(objective, sums, pair)
    additions.add()
    return service


def _divided(
    state: State, record: LogRecord, admitted: Admitted, items: Countable, layers: Layers
) -> dict[Predicate, Divided]:
    """Returns what the predicates that find cohorts select, by the value of their attribute."""
    divided: dict[Predicate, Divided] = {}
    for predicate, some in layers.items():
        if predicate.finds:
            _, wanted = _wanted(state, record, admitted.number, predicate, some)
            parts = Parts.by(predicate.finds, admitted.pair, items.attributes, items.attribute_sets)
            divided[predicate] = Divided(parts=parts, sums=items.tally(predicate, wanted[parts.pair], parts.of))
    return divided


def _with_cohorts(
    state: State, record: LogRecord, admitted: Admitted, layers: Layers, divided: dict[Predicate, Divided]
) -> tuple[Array, Layers]:
    """Lets the cohorts begin that are new. Returns the numbers of the pairs and the layers, with them."""
    number = admitted.number
    finders = [
        (own, objective)
        for predicate, own in divided.items()
        for objective in _wanted(state, record, number, predicate, layers[predicate])[0]
    ]
    names = state.index.names(number)
    outputs, came = find_cohorts(state, finders)
    if not came:
        return number, layers
    admitted.outputs.extend(outputs)
    number = state.index.numbers(names, state.services)
    services = np.unique(state.index.service_of(number)).tolist()
    return number, _layers(state, [at for at in services if at != NONE], frozenset(p.signal for p in layers))


def _wanted(
    state: State, record: LogRecord, number: Array, predicate: Predicate, layers: list[Layer]
) -> tuple[list[Array], Array]:
    """Returns the objective of each pair (int64[pairs]) in each layer, and whether any counts it (bool[pairs])."""
    service = state.index.service_of(number)
    objectives = [_objectives(state, record, layer, service) for layer in layers]
    wanted = np.logical_or.reduce([objective != NONE for objective in objectives])
    if predicate.versions:
        wanted &= state.index.of_versions(number, predicate.versions)
    return objectives, wanted


def _note_minutes(state: State, record: LogRecord, admitted: Admitted) -> list[int]:
    """Notes the newest minute of each service that has items. Returns the numbers of these services."""
    service_of = state.index.service_of(admitted.number)
    newest = np.full(len(state.index.services), -1, np.int64)
    np.maximum.at(newest, service_of[admitted.pair], admitted.minute)
    numbers: list[int] = np.flatnonzero(newest >= 0).tolist()
    for number, minute in zip(numbers, newest[numbers].tolist(), strict=True):
        service = state.index.services[number]
        if record.config_version < state.index.since:
            for objective_state in service.states.values():
                if record.config_version < objective_state.since:
                    # Decoded before the objective was known: its history begins after the last such minute.
                    objective_state.start_minute = max(objective_state.start_minute or 0, minute + 1)
        service.newest_minute = max(minute, service.newest_minute or minute)
        state.changes.heads.add(service.key)
    return numbers


def _layers(state: State, services: list[int], signals: frozenset[SliSignal]) -> Layers:
    """Returns the objectives to count for, by predicate: a service's second one with the same is in a second layer."""
    layers: Layers = {}
    for layer in state.index.layers_of(services):
        if layer.predicate.signal in signals:
            layers.setdefault(layer.predicate, []).append(layer)
    return layers


def _objectives(state: State, record: LogRecord, layer: Layer, service: Array) -> Array:
    """Returns int64[pairs]: the number of the objective of a layer that each pair counts for, or `NONE`."""
    objectives = state.index.objectives(layer, service)
    objectives[service == NONE] = NONE
    if record.config_version < state.index.since:
        since = [-1 if at == NONE else state.index.targets[at].state.since for at in objectives.tolist()]
        objectives[np.array(since) > record.config_version] = NONE
    return objectives


class _Additions:
    """What a record adds to the cells of all its services, so that each ring is written once per record."""

    def __init__(self, state: State, number: Array, service: Array) -> None:
        self._state = state
        self._number = number  # by pair
        self._service = service  # by pair
        self._rows: dict[str, list[Array]] = {SERIES: [], VERSIONS: []}
        self._minutes: list[Array] = []
        self._excess: list[Array] = []
        self._hours: list[Array] = []

    def take(self, objectives: Array, sums: Tally, pairs: Array | None) -> None:
        """Takes in the sums of a predicate for the objectives int64[parts] of a layer.

        `pairs` int64[parts] are the pairs of the parts; None: the parts are the pairs.
        """
        pair, minute, excess, objective = sums.pair, sums.minute, sums.excess, objectives[sums.pair]
        pair = pair if pairs is None else pairs[pair]
        wanted = np.flatnonzero(objective != NONE)
        if not len(wanted):
            return
        if len(wanted) < len(pair):
            pair, minute, objective = pair[wanted], minute[wanted], objective[wanted]
            excess = excess.take(wanted, axis=1)
        of_version, of_all = self._state.index.rows(self._number[pair], objective)
        self._rows[VERSIONS].append(of_version)
        self._rows[SERIES].append(of_all)
        self._minutes.append(minute)
        self._excess.append(excess)
        self._hours.append(self._service[pair] << 32 | minute // HOUR_MINUTES)
        self._note_revisions(objective, minute)

    def _note_revisions(self, objectives: Array, minute: Array) -> None:
        """What comes to a minute that is closed corrects what was published of it, once the next minute closes."""
        next_minute = self._state.next_minute
        if next_minute is None:
            return
        late = np.flatnonzero(minute < next_minute)
        for number, at in zip(objectives[late].tolist(), minute[late].tolist(), strict=True):
            own = self._state.index.targets[number].state
            if own.start_minute is not None and own.start_minute <= at:
                own.revised.add(at)

    def add(self) -> None:
        """Adds everything to the cells, of each version and of all together, and marks the hours that changed."""
        if not self._minutes:
            return
        minutes, excess = np.concatenate(self._minutes), np.concatenate(self._excess, axis=1)
        for store, rows in self._rows.items():
            self._state.cells[store].add_excess(np.concatenate(rows), minutes, excess)
        hours = np.concatenate(self._hours)
        for code in set(hours[np.diff(hours, prepend=-1) != 0].tolist()):  # those of a service follow each other
            self._state.changes.hours.add((self._state.index.services[code >> 32].key, code & 0xFFFFFFFF))
