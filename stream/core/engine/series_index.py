"""Where the series of each pair (a version of a service) are in the cells, for look-ups by vectors of pairs.

All of it follows from the rest of the state, so it is no part of a checkpoint. What is found once stays valid until a
series is dropped or the objectives change; then everything is found anew, as records name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.core.cells import Cells
from stream.core.columns import Array
from stream.core.engine.services import ObjectiveState, Service
from stream.core.engine.tally import Predicate
from stream.core.exemplars import Candidates, Found

NONE, NEW = -1, -2
"""Instead of an objective: the service has none there; instead of a row: the series is not in the cells yet."""

_VERSION_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An objective, its state, and where it comes in its service."""

    service: Service
    digest: str
    state: ObjectiveState
    position: int


class Numbers:
    """An int64 array that grows at its end."""

    def __init__(self) -> None:
        self._room = np.empty(64, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: Sequence[int]) -> None:
        """Appends values."""
        size = self._size + len(values)
        if size > len(self._room):
            self._room = np.concatenate([self._room, np.empty(size, np.int64)])
        self._room[self._size : size] = values
        self._size = size

    @property
    def values(self) -> Array:
        """All of them, to read and to write."""
        return self._room[: self._size]


@dataclass(slots=True)
class Layer:
    """One objective of each service among those that share a predicate.

    `objective` has the number of the objective by that of the service, `NONE` where it has none.
    """

    predicate: Predicate
    objective: Numbers = field(default_factory=Numbers)

    def add(self, service: int, objective: int) -> None:
        """Takes in an objective of a service that has none here yet."""
        self.widen(service)
        self.objective.extend([objective])

    def widen(self, services: int) -> None:
        """Makes it known that so many services have an objective here or none."""
        self.objective.extend([NONE] * (services - len(self.objective)))


class SeriesIndex:
    """The numbers of pairs, services and objectives, and the rows of their series.

    Args:
        series: Cells of all versions of a service together.
        versions: Cells of each version.
    """

    def __init__(self, series: Cells[tuple[str, str, str]], versions: Cells[tuple[str, str, str]]) -> None:
        self._series = series
        self._versions = versions
        self._candidates = Candidates()
        self._forget()

    def _forget(self) -> None:
        self.services: list[Service] = []
        self.targets: list[Target] = []
        self.layers: list[Layer] = []
        self.since = -1
        """Records of this configuration or a later one count for all objectives."""
        self._keys: list[tuple[str, str]] = []
        self._numbers: dict[int, int] = {}  # of pairs, by `_codes`
        self._sorted = np.empty(0, np.int64), np.empty(0, np.int64)  # the codes and numbers of pairs, when last looked
        self._version_numbers: dict[str, int] = {}
        self._service_numbers: dict[str, int] = {}
        self._service = Numbers()  # by pair
        self._first = Numbers()  # by pair: where the rows of its objectives begin in `_version_rows`
        self._version_rows = Numbers()
        self._rows = Numbers()  # by objective
        self._position = Numbers()  # by objective
        self._layers_of: list[tuple[int, ...]] = []  # by service
        self._levels: dict[tuple[Predicate, int], int] = {}
        self._cohorts: dict[tuple[int, str], int] = {}  # of the one that finds them, and value

    def clear(self) -> None:
        """Forgets what was found: series were dropped, or objectives or services came or went."""
        self.hand_over_exemplars()
        self._forget()

    def find(self, services: Sequence[str], versions: Sequence[str], service: Array, version: Array) -> Array:
        """Returns int64[n]: the number of each pair, `NONE` where it was not named since everything was found anew.

        Args:
            services: Keys of services.
            versions: Names of versions.
            service: int64[n], an index into `services`.
            version: int64[n], an index into `versions`.
        """
        of_services = np.array([self._service_numbers.get(key, NONE) for key in services], np.int64)
        of_versions = np.array([self._version_numbers.get(name, NONE) for name in versions], np.int64)
        if not self._numbers:
            return np.full(len(service), NONE)
        if len(self._sorted[0]) != len(self._numbers):
            known = np.fromiter(self._numbers, np.int64, len(self._numbers))  # in the order of their numbers
            order = np.argsort(known)
            self._sorted = known[order], order
        known, numbers = self._sorted
        codes = _codes(of_services[service], of_versions[version])
        at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        return np.where(known[at] == codes, numbers[at], NONE)

    def numbers(self, pairs: Iterable[tuple[str, str] | None], services: Mapping[str, Service]) -> Array:
        """Returns int64[n]: the number of each pair, all of which are of kept services; `NONE` for None."""
        return np.array([NONE if pair is None else self._number(pair, services) for pair in pairs], np.int64)

    def of_versions(self, pairs: Array, versions: Sequence[str]) -> Array:
        """Returns bool[n]: whether each pair is of one of these versions."""
        return np.array([number != NONE and self._keys[number][1] in versions for number in pairs.tolist()], bool)

    def service_of(self, pairs: Array) -> Array:
        """Returns int64[n]: the number of the service of each pair, `NONE` for `NONE`."""
        return np.where(pairs == NONE, NONE, self._service.values[pairs])

    def layers_of(self, services: Iterable[int]) -> list[Layer]:
        """Returns the layers in which any of the services has an objective."""
        found = {layer for service in services for layer in self._layers_of[service]}
        return [self.layers[number] for number in sorted(found)]

    def objectives(self, layer: Layer, services: Array) -> Array:
        """Returns int64[n]: the number of the objective of each service in a layer, or `NONE`."""
        layer.widen(len(self.services))
        return layer.objective.values[services]

    def cohort(self, rest: int, value: str) -> int:
        """Returns the number of the cohort of a value; `rest`, the objective that finds them, where it has none."""
        return self._cohorts.get((rest, value), rest)

    def names(self, pairs: Array) -> list[tuple[str, str] | None]:
        """Returns the service and version of each pair; None for `NONE`."""
        return [None if number == NONE else self._keys[number] for number in pairs.tolist()]

    def rows(self, pairs: Array, objectives: Array) -> tuple[Array, Array]:
        """Returns the rows of series, both int64[n], of the version of each pair and of all versions together.

        A series that is not in the cells yet is put there.
        """
        places = self._first.values[pairs] + self._position.values[objectives]
        of_version, of_all = self._version_rows.values[places], self._rows.values[objectives]
        new = np.flatnonzero((of_version == NEW) | (of_all == NEW))
        if not len(new):
            return of_version, of_all
        named = (column[new].tolist() for column in (pairs, objectives, places))
        for pair, objective, place in zip(*named, strict=True):
            target = self.targets[objective]
            key, digest = target.service.key, target.digest
            self._version_rows.values[place] = self._versions.series((key, digest, self._keys[pair][1]))
            self._rows.values[objective] = self._series.series((key, digest, ""))
        return self._version_rows.values[places], self._rows.values[objectives]

    def show(self, objectives: Array, found: Found) -> None:
        """Keeps what may be exemplars of the objectives int64[n], of which some may be `NONE`."""
        shown = np.flatnonzero(objectives != NONE)
        if len(shown):
            self._candidates.add(objectives[shown], found.minute[shown], found.told.take(shown, axis=1))

    def hand_over_exemplars(self) -> None:
        """Hands all exemplars to the states of their objectives; before anybody looks at these."""
        if len(self._candidates):
            self._candidates.hand_over([target.state.exemplars for target in self.targets])

    def _number(self, pair: tuple[str, str], services: Mapping[str, Service]) -> int:
        key, version = pair
        of_service = self._service_numbers.get(key)
        if of_service is None:
            of_service = self._add_service(services[key])
        code = _codes(of_service, self._version_numbers.setdefault(version, len(self._version_numbers)))
        number = self._numbers.get(code)
        if number is not None:
            return number
        number = self._numbers[code] = len(self._keys)
        self._keys.append(pair)
        self._service.extend([of_service])
        self._first.extend([len(self._version_rows)])
        digests = [digest for _, digest, _ in self.services[of_service].targets()]
        self._version_rows.extend([self._versions.index.get((key, digest, version), NEW) for digest in digests])
        return number

    def _add_service(self, service: Service) -> int:
        number = self._service_numbers[service.key] = len(self.services)
        self.services.append(service)
        levels: dict[Predicate, int] = {}
        layers: list[int] = []
        first, named = len(self.targets), enumerate(service.objectives)
        rests = {o.cohort_of: first + at for at, o in named if o.finds and not o.is_found}
        for position, (objective, digest, predicate) in enumerate(service.targets()):
            state = service.states[digest]
            if objective.is_found:
                self._cohorts[rests[objective.cohort_of], objective.cohort_value] = len(self.targets)
            else:
                level = levels[predicate] = levels.get(predicate, -1) + 1
                layer = self._levels.setdefault((predicate, level), len(self.layers))
                if layer == len(self.layers):
                    self.layers.append(Layer(predicate))
                self.layers[layer].add(number, len(self.targets))
                layers.append(layer)
            self.targets.append(Target(service=service, digest=digest, state=state, position=position))
            self._rows.extend([self._series.index.get((service.key, digest, ""), NEW)])
            self._position.extend([position])
            self.since = max(self.since, state.since)
        self._layers_of.append(tuple(layers))
        return number


def _codes(service: Any, version: Any) -> Any:
    """Returns one number for that of a service and that of a version, below 0 where one of them is `NONE`."""
    return service << _VERSION_BITS | version
