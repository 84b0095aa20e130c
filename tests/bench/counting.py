"""What the peers do with a span: the plain loop over official protobuf classes, counters in a dict and the pure-Python
`tdigest`. Also what every side's result is compared by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tdigest import TDigest

from stream.core.cells import Column
from stream.core.engine import Engine
from stream.core.engine.state import VERSIONS
from stream.core.service_key import service_key
from stream.core.units import MINUTE_NS, SECOND_NS
from tests.bench.workload import LATENCY_NS

Event = tuple[str, str, int, bool, int]
"""Service key, version, minute, failed, duration in ns."""

_REQUESTS = (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CONSUMER)
_SERVER_ERROR = 500


def requests_of(value: bytes) -> Iterator[Event]:
    """Yields the spans of a message that count as requests. Sampling is not looked at: the workload has none."""
    for resource in ExportTraceServiceRequest.FromString(value).resource_spans:
        names = {entry.key: entry.value.string_value for entry in resource.resource.attributes}
        service = service_key(
            names.get("deployment.environment.name"), names.get("service.namespace"), names.get("service.name")
        )
        version = names.get("service.version", "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                if span.kind in _REQUESTS:
                    end_ns = span.end_time_unix_nano
                    yield service, version, end_ns // MINUTE_NS, _failed(span), end_ns - span.start_time_unix_nano


def _failed(span: Any) -> bool:
    if span.status.code == Status.STATUS_CODE_ERROR:
        return True
    for attribute in span.attributes:
        if attribute.key == "http.response.status_code":
            return bool(attribute.value.int_value >= _SERVER_ERROR)
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a side counted.

    Args:
        cells: By service, version and minute: requests, those that failed, those that took too long.
        digested: By service and minute: how many durations its digest holds. None: not looked at.
    """

    cells: dict[tuple[str, str, int], tuple[int, int, int]]
    digested: dict[tuple[str, int], int] | None = None

    def demand_equal(self, other: Counts, name: str) -> None:
        """Ends the program where the two differ: then their speeds are not those of the same work."""
        if self.cells != other.cells:
            differing = self.cells.items() ^ other.cells.items()
            raise SystemExit(f"{name} counted otherwise, in {len(differing)} cells: {sorted(differing)[:4]}")
        if None not in (self.digested, other.digested) and self.digested != other.digested:
            raise SystemExit(f"{name} digested another number of durations")

    def dump(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        digested = None if self.digested is None else [[*key, n] for key, n in self.digested.items()]
        return {"cells": [[*key, *values] for key, values in self.cells.items()], "digested": digested}

    @classmethod
    def load(cls, body: dict[str, Any]) -> Counts:
        """Returns what `dump` wrote."""
        digested = body["digested"]
        return cls(
            cells={(service, version, minute): (n, f, s) for service, version, minute, n, f, s in body["cells"]},
            digested=None if digested is None else {(service, minute): n for service, minute, n in digested},
        )


class Counting:
    """Counters in a dict and a digest per service and minute, one event at a time.

    Args:
        digests: Whether durations are digested.
    """

    def __init__(self, *, digests: bool = True) -> None:
        self._cells: dict[tuple[str, str, int], list[int]] = {}
        self._digests: dict[tuple[str, int], TDigest] | None = {} if digests else None

    def add(self, event: Event) -> None:
        """Counts one event."""
        service, version, minute, failed, duration_ns = event
        cell = self._cells.get((service, version, minute))
        if cell is None:
            cell = self._cells[service, version, minute] = [0, 0, 0]
        cell[0] += 1
        cell[1] += failed
        cell[2] += duration_ns > LATENCY_NS
        if self._digests is not None:
            digest = self._digests.get((service, minute))
            if digest is None:
                digest = self._digests[service, minute] = TDigest()
            digest.update(duration_ns / SECOND_NS)

    def take(self, value: bytes) -> None:
        """Counts the requests of a message."""
        for event in requests_of(value):
            self.add(event)

    def merge(self, other: Counting) -> None:
        """Takes over what another one counted of other services or minutes."""
        assert not self._cells.keys() & other._cells.keys()
        self._cells.update(other._cells)
        if self._digests is not None and other._digests is not None:
            self._digests.update(other._digests)

    def counts(self) -> Counts:
        """Returns the result."""
        digested = None if self._digests is None else {key: int(digest.n) for key, digest in self._digests.items()}
        return Counts(
            cells={key: (cell[0], cell[1], cell[2]) for key, cell in self._cells.items()},
            digested=digested,
        )


def counts_of(engine: Engine) -> dict[tuple[str, str, int], tuple[int, int, int]]:
    """Returns what the product counted in one partition, in the shape of the peers' result."""
    state = engine.state
    names = {
        (service.key, objective.digest): objective.name.partition("-")[0]
        for service in state.services.values()
        for objective in service.objectives
    }
    cells = state.cells[VERSIONS]
    counted: dict[tuple[str, str, int], list[int]] = {}
    for minute in range(cells.rings[0].base, cells.rings[0].top):
        sums = cells.minute(minute)
        for (service, digest, version), row in cells.index.items():
            n, bad = int(sums[Column.N, row]), int(sums[Column.N_BAD, row])
            if n:
                cell = counted.setdefault((service, version, minute), [n, 0, 0])
                assert cell[0] == n, (service, version, minute)
                cell[1 if names[service, digest] == "availability" else 2] = bad
    return {key: (cell[0], cell[1], cell[2]) for key, cell in counted.items()}
