"""More services, versions or cohorts than may be kept: the longest idle makes room, and the rest is counted together.

Nothing is dropped: items of a service that finds no room are counted, and of no objective, since a service with one is
always kept; those of a version that finds none are counted for the version `__other__`, which is never certified; those
of a value that finds no cohort, for the cohort `__other__`.
"""

from __future__ import annotations

import numpy as np

from stream.core.certificate.lifecycle import CertificateState, Trigger
from stream.core.engine.certificates import change_certificate
from stream.core.engine.chunks import span_keys_of
from stream.core.engine.services import Service
from stream.core.engine.state import VERSIONS, State
from stream.core.engine.withdrawal import withdraw
from stream.core.events import Output
from stream.core.slo.spec import Objective
from stream.core.units import HOUR_MINUTES, MINUTE_NS, minute_of

OTHER_VERSION = "__other__"

IDLE_MINUTES = HOUR_MINUTES
"""Only what had no item for so long makes room: otherwise two of them would push each other out for ever."""


class Room:
    """Makes room in a partition, in the order of idleness, for the services, versions and cohorts of a record."""

    def __init__(self, state: State) -> None:
        self.outputs: list[Output] = []
        self._state = state
        self._idle_before = state.clocks.now_ns // MINUTE_NS - IDLE_MINUTES
        self._services: list[str] | None = None
        self._versions: dict[str, list[str]] = {}
        self._cohorts: dict[str, list[Objective]] = {}

    def for_service(self) -> bool:
        """Returns whether one more service may be kept, after retiring one where that is needed."""
        assert self._state.bundle is not None
        if len(self._state.services) < self._state.bundle.settings.services_max:
            return True
        if self._services is None:
            self._services = self._idle_services()
        if not self._services:
            return False
        key = self._services.pop(0)
        del self._state.services[key]
        self._state.renumber()
        self._state.changes.retire_service(key)
        return True

    def for_version(self, service: Service) -> bool:
        """Returns whether one more version of a service may be kept, after retiring one where that is needed."""
        assert self._state.bundle is not None
        if len(service.versions) < self._state.bundle.settings.versions_max:
            return True
        idle = self._versions.get(service.key)
        if idle is None:
            idle = self._versions[service.key] = self._idle_versions(service)
        if not idle:
            return False
        self._retire_version(service, idle.pop(0))
        return True

    def may_find(self, service: Service, rest: Objective) -> bool:
        """Returns whether `rest` may find any cohort. Ask before those of the record begin, which are not idle."""
        assert self._state.bundle is not None
        idle = self._cohorts[rest.digest] = self._idle_cohorts(service, rest)
        return bool(idle) or len(service.cohorts.get(rest.digest, ())) < self._state.bundle.settings.cohorts_max

    def for_cohort(self, service: Service, rest: Objective) -> bool:
        """Returns whether one more cohort may be found by `rest`, after retiring one where that is needed."""
        assert self._state.bundle is not None
        values, idle = service.cohorts.setdefault(rest.digest, set()), self._cohorts[rest.digest]
        if len(values) < self._state.bundle.settings.cohorts_max:
            return True
        if not idle:
            return False
        cohort = idle.pop(0)
        self.outputs += withdraw(self._state, service, cohort, "The cohort was idle and made room for another one.")
        service.objectives = [objective for objective in service.objectives if objective is not cohort]
        values.discard(cohort.cohort_value)
        return True

    def _idle_cohorts(self, service: Service, rest: Objective) -> list[Objective]:
        """Returns the cohorts that were found by `rest` and are idle, the longest first.

        What counts is how far everything has been read: while a backlog is, none of them is idle because of that.
        """
        frontier_ns = self._state.clocks.frontier_ns
        if frontier_ns is None:
            return []
        found = [o for o in service.objectives if o.is_found and o.cohort_of == rest.cohort_of]
        newest = [(service.states[o.digest].newest_minute or 0, o.cohort_value, o) for o in found]
        idle_before = minute_of(frontier_ns) - IDLE_MINUTES
        return [o for minute, _, o in sorted(newest, key=lambda one: one[:2]) if minute < idle_before]

    def _idle_services(self) -> list[str]:
        """Returns the services without an objective that are idle, the longest first. None that came a moment ago."""
        idle = (
            (service.newest_minute or 0, key)
            for key, service in self._state.services.items()
            if service.first_seen and not service.objectives and (service.newest_minute or 0) < self._idle_before
        )
        return [key for _, key in sorted(idle)]

    def _idle_versions(self, service: Service) -> list[str]:
        """Returns the versions without a valid certificate that are idle, the longest first."""
        held = {c.version for c in service.certificates.values() if c.state is CertificateState.ISSUED}
        newest = {v: self._newest_minute(service, v) for v in service.first_seen if v not in {*held, OTHER_VERSION}}
        return sorted((v for v, minute in newest.items() if minute < self._idle_before), key=lambda v: (newest[v], v))

    def _newest_minute(self, service: Service, version: str) -> int:
        """Returns the end of the newest period in which anything was counted for a version, at most an hour late."""
        cells, newest = self._state.cells[VERSIONS], service.first_seen.get(version, 0)
        for digest in service.states:
            row = cells.index.get((service.key, digest, version))
            if row is None:
                continue
            for ring in cells.rings:
                counted = np.flatnonzero(ring.row(row, ring.base, ring.top).any(axis=0))
                if len(counted):
                    newest = max(newest, (ring.base + int(counted[-1]) + 1) * ring.spec.period_minutes)
                    break
        return newest

    def _retire_version(self, service: Service, version: str) -> None:
        state = self._state
        for key, certificate in sorted(service.certificates.items()):
            if certificate.version == version:
                self.outputs += change_certificate(state, service, certificate, Trigger.VERSION_RETIRED)
                del service.certificates[key]
        state.changes.spans.update(span_keys_of(state, service.key))
        series = [(service.key, digest, version) for digest in sorted(service.states)]
        state.cells[VERSIONS].drop([key for key in series if key in state.cells[VERSIONS]])
        state.renumber()
        service.versions.discard(version)
        service.first_seen.pop(version, None)
        state.changes.heads.add(service.key)
