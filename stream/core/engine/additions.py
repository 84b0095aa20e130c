"""What a record adds to the cells of all its services, so that each ring is written once per record."""

from __future__ import annotations

import numpy as np

from stream.core.columns import Array
from stream.core.engine.state import SERIES, VERSIONS, SeriesKey, State, StoredSpan
from stream.core.engine.tally import Tally


class Additions:
    """Tallies of one record, collected service by service."""

    def __init__(self) -> None:
        self._tallies: list[tuple[str, str, tuple[str, ...], Tally]] = []

    def note(self, service: str, digest: str, versions: tuple[str, ...], sums: Tally) -> None:
        """Takes in what one objective gains; `versions` is the dictionary of the tally's version codes."""
        self._tallies.append((service, digest, versions, sums))

    def add_to(self, state: State) -> None:
        """Adds everything to the cells and marks the stored spans that changed."""
        if not self._tallies:
            return
        minutes = np.concatenate([sums.minute for *_, sums in self._tallies])
        values = np.concatenate([sums.values for *_, sums in self._tallies], axis=1)
        state.cells[SERIES].add(self._whole_rows(state), minutes, values)
        state.cells[VERSIONS].add(self._version_rows(state), minutes, values)
        for service, _, _, sums in self._tallies:
            for span in state.cells[SERIES].spans_of(sums.minute):
                state.changes.spans.add(StoredSpan(service, SERIES, span))
                state.changes.spans.add(StoredSpan(service, VERSIONS, span))

    def _whole_rows(self, state: State) -> Array:
        cells = state.cells[SERIES]
        rows = [cells.series((service, digest, "")) for service, digest, _, _ in self._tallies]
        return np.repeat(rows, [len(sums.minute) for *_, sums in self._tallies])

    def _version_rows(self, state: State) -> Array:
        cells = state.cells[VERSIONS]
        rows: list[Array] = []
        for service, digest, versions, sums in self._tallies:
            codes, inverse = np.unique(sums.version, return_inverse=True)
            keys: list[SeriesKey] = [(service, digest, versions[code]) for code in codes]
            rows.append(np.array([cells.series(key) for key in keys])[inverse])
        return np.concatenate(rows)
