"""What a record adds to the cells of all its services, so that each ring is written once per record."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stream.core.columns import Array
from stream.core.engine.state import SERIES, VERSIONS, SeriesKey, State, StoredSpan


class Additions:
    """Sums of one record, collected series by series."""

    def __init__(self) -> None:
        self._keys: list[SeriesKey] = []
        self._minutes: list[Array] = []
        self._values: list[Array] = []

    def note(self, key: SeriesKey, minutes: Array, values: Array) -> None:
        """Takes in what the series of one version gains: minutes int64[n], values int64[COLUMNS, n]."""
        self._keys.append(key)
        self._minutes.append(minutes)
        self._values.append(values)

    def add_to(self, state: State) -> None:
        """Adds everything to the cells, of each version and of all together, and marks the spans that changed."""
        if not self._keys:
            return
        minutes, values = np.concatenate(self._minutes), np.concatenate(self._values, axis=1)
        lengths = [len(part) for part in self._minutes]
        for store, keys in ((VERSIONS, self._keys), (SERIES, [(key[0], key[1], "") for key in self._keys])):
            cells = state.cells[store]
            cells.add(np.repeat([cells.series(key) for key in keys], lengths), minutes, values)
        for service, touched in self._minutes_of("service").items():
            for span in state.cells[SERIES].spans_of(touched):
                state.changes.spans.add(StoredSpan(service, SERIES, span))
                state.changes.spans.add(StoredSpan(service, VERSIONS, span))

    def minutes_of_objectives(self) -> Mapping[str, set[int]]:
        """Returns the minutes that each objective gained something in, by its digest."""
        return self._minutes_of("objective")

    def _minutes_of(self, part: str) -> dict[str, set[int]]:
        position = ("service", "objective").index(part)
        minutes: dict[str, set[int]] = {}
        for key, touched in zip(self._keys, self._minutes, strict=True):
            minutes.setdefault(key[position], set()).update(touched.tolist())
        return minutes
