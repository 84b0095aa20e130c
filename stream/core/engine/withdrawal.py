"""Objectives that are no longer kept leave nothing behind."""

from __future__ import annotations

from stream.core.engine.alerting import end_alerts
from stream.core.engine.chunks import span_keys_of
from stream.core.engine.services import Service
from stream.core.engine.state import SERIES, VERSIONS, State
from stream.core.events import Output, StatusGone
from stream.core.slo.spec import Objective


def withdraw(state: State, service: Service, objective: Objective, explanation: str) -> list[Output]:
    """Forgets an objective and its cells. Its alerts end, so that nobody waits, and its status is gone."""
    own = service.states.pop(objective.digest)
    outputs = end_alerts(state, objective, own.alerts, (), explanation)
    state.latest.pop(objective.digest, None)
    state.changes.spans.update(span_keys_of(state, service.key))
    for store in (SERIES, VERSIONS):
        cells = state.cells[store]
        cells.drop([key for key in cells.index if key[0] == service.key and key[1] == objective.digest])
    return [*outputs, StatusGone(objective=objective)]
