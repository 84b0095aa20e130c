"""The processes of a service that measures its requests: histograms since each process started, exported now and then.

Kept as an SDK keeps them. What the exports must come to is kept beside them, as plain durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.demo.messages import BOUNDS_S, Histogram, metrics_request
from stream.demo.story import Service

Array = np.ndarray[Any, Any]

SEARCHES, HEALTH_CHECKS = "/search", "/healthz"
ROUTES = (SEARCHES, HEALTH_CHECKS)
"""The objective counts the first."""

UP_BEFORE_NS = 3 * 3600 * 1_000_000_000
SERVED_BEFORE = 50_000
"""When the demo begins each process has run for so long, and has served so many of each route."""

_BOUNDS_NS = np.array([round(bound * 1e9) for bound in BOUNDS_S])


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """One export: the message, its points, and the searches that it adds to what was known (their durations)."""

    value: bytes
    points: int
    time_ns: int
    added_ns: list[int]


class Instance:
    """One process. Its first export adds nothing: how much of it happened before anybody looked is not known."""

    def __init__(self, service: Service, number: int, began_ns: int) -> None:
        self._service = service
        self._name = f"{service.name}-{number}"
        self._start_ns = began_ns - UP_BEFORE_NS
        self._histograms = {route: _Buckets() for route in ROUTES}
        self._unexported_ns: list[int] = []
        self._is_known = False
        for buckets in self._histograms.values():
            buckets.add(np.full(SERVED_BEFORE, int(service.median_ms * 1e6)))

    def serve(self, searches_ns: Array, health_checks_ns: Array) -> None:
        """Counts requests of these durations."""
        self._histograms[SEARCHES].add(searches_ns)
        self._histograms[HEALTH_CHECKS].add(health_checks_ns)
        self._unexported_ns += searches_ns.tolist()

    def export(self, time_ns: int) -> Export:
        """Returns all histograms that hold anything, as of `time_ns`."""
        held = [
            Histogram(route=route, counts=buckets.counts.tolist(), sum_ns=buckets.sum_ns)
            for route, buckets in self._histograms.items()
            if buckets.counts.any()
        ]
        added_ns = self._unexported_ns if self._is_known else []
        self._unexported_ns, self._is_known = [], True
        value = metrics_request(self._service, self._name, held, start_ns=self._start_ns, time_ns=time_ns)
        return Export(value=value, points=len(held), time_ns=time_ns, added_ns=added_ns)

    def restart(self, start_ns: int) -> None:
        """Begins again at zero, right after an export: a process that ends in peace exports what it has."""
        assert not self._unexported_ns, self._name
        self._start_ns = start_ns
        self._histograms = {route: _Buckets() for route in ROUTES}


class _Buckets:
    """A histogram with the default bounds; each bucket includes its upper bound."""

    def __init__(self) -> None:
        self.counts = np.zeros(len(BOUNDS_S) + 1, np.int64)
        self.sum_ns = 0

    def add(self, durations_ns: Array) -> None:
        self.counts += np.bincount(np.searchsorted(_BOUNDS_NS, durations_ns), minlength=len(self.counts))
        self.sum_ns += int(durations_ns.sum())
