"""Indicators, budgets, burn rates, alerts and certificates under our names."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache

from stream.core.certificate.issuance import Certificate
from stream.core.certificate.lifecycle import CertificateState
from stream.core.engine import Engine
from stream.core.engine.alerting import rules_of
from stream.core.engine.certificates import certifications
from stream.core.engine.services import Service
from stream.core.events import SliEvent
from stream.core.slo.alerts import Alert, AlertState
from stream.core.slo.burn_rate import duration
from stream.core.units import MINUTE_NS, SECOND_NS
from stream.metrics.exposition import Gauge, escape
from stream.metrics.rendering import EventSection, Samples, Section, declaration, latest, ratio

_MINUTE_S = MINUTE_NS / SECOND_NS

_Labelled = Sequence[tuple[str, SliEvent]]
"""The labels of an objective, and its newest event."""


_RATIO = Gauge("qma_sli_ratio", "Good ÷ total; absent without data: no data is not good data.")
_EVENTS = Gauge("qma_sli_events", "Events received in the window, unweighted.")
_COVERAGE = Gauge("qma_window_coverage_ratio", "Share of the window's minutes that were read whole.")
_BUDGET = Gauge(
    "qma_error_budget_remaining_ratio",
    "Error budget left, as bounds; they are equal once the window is covered.",
)
_BURN_RATE = Gauge("qma_burn_rate", "Error ratio ÷ (1 − target); absent without data.")
_OF_EVENTS = (_RATIO, _EVENTS, _COVERAGE, _BUDGET, _BURN_RATE)


def _lines(event: SliEvent) -> Iterator[tuple[Gauge, str]]:
    labels = _labels(event.objective.service, event.objective.name)
    minute, window = labels + _window(1), labels + _window(event.objective.window_minutes)
    yield from ((_RATIO, minute), (_RATIO, window), (_EVENTS, minute), (_EVENTS, window), (_COVERAGE, labels))
    yield from ((_BUDGET, labels + ',bound="min"'), (_BUDGET, labels + ',bound="max"'))
    for minutes, _ in event.burn_rates:
        yield _BURN_RATE, labels + _window(minutes)


def _values(event: SliEvent) -> Sequence[float | None]:
    """Returns the values of `_lines`."""
    minute, window, budget = event.minute_sli, event.window_sli, event.budget
    return (
        *(minute.ratio, window.ratio, minute.n, window.n, event.coverage),
        *(budget.remaining_min_ratio, budget.remaining_max_ratio),
        *[rate for _, rate in event.burn_rates],
    )


@cache
def _window(minutes: int) -> str:
    return f',window="{duration(minutes)}"'


_TARGET = Gauge("qma_objective_target_ratio", "The objective's target.")
_ALERT_FIRING = Gauge("qma_alert_firing", "1 while a burn-rate alert fires, else 0.")
_CERTIFICATE_STATE = Gauge(
    "qma_certificate_state", "1 for the state that the newest certificate of a version is in, else 0."
)
_CERTIFICATION = Gauge(
    "qma_certification_seconds",
    "Time from a version's first minute with events to its certificate, so far where it is pending; "
    "absent once it ended, or after an hour without events.",
)


def _of_targets(engine: Engine) -> Mapping[Gauge, Samples]:
    return {_TARGET: ((labels, ratio(event.objective.target)) for labels, event in _labelled(engine))}


def _labelled(engine: Engine) -> _Labelled:
    return [(_labels(event.objective.service, event.objective.name), event) for event in latest(engine)]


def _labels(service: str, objective: str) -> str:
    return f'service="{escape(service)}",objective="{escape(objective)}"'


def _alert_states(engine: Engine) -> Hashable:
    """Most alerts stay as they are from one evaluation to the next."""
    firing = [
        (digest, name)
        for service in engine.services.values()
        for digest, own in service.states.items()
        for name, alert in own.alerts.items()
        if alert.state is AlertState.FIRING
    ]
    found = [
        (digest, *sorted(values)) for service in engine.services.values() for digest, values in service.cohorts.items()
    ]
    return engine.state.config_version, tuple(firing), tuple(found)


def _alerts(engine: Engine) -> Mapping[Gauge, Samples]:
    return {
        _ALERT_FIRING: (
            (f'{labels},severity="{rule.severity}",rule="{escape(rule.name)}"', _is_firing(alerts.get(rule.name)))
            for key, service in sorted(engine.services.items())
            for objective, digest, _ in service.targets()
            for labels, alerts in [(_labels(key, objective.name), service.states[digest].alerts)]
            for rule in rules_of(objective)
        )
    }


def _is_firing(alert: Alert | None) -> int:
    return int(alert is not None and alert.state is AlertState.FIRING)


def _certificate_states(engine: Engine) -> Hashable:
    """Certificates come and go at evaluations, expire and are revoked between them, and mostly stay as they are."""
    return tuple(
        [
            (key, certificate.version, certificate.began_minute, certificate.state)
            for key, service in engine.services.items()
            for certificate in service.certificates.values()
        ]
    )


def _certificates(engine: Engine) -> Mapping[Gauge, Samples]:
    return {
        _CERTIFICATE_STATE: (
            (f'service="{escape(key)}",version="{escape(version)}",state="{state}"', int(newest.state is state))
            for key, service in sorted(engine.services.items())
            for version, newest in _newest(service)
            for state in CertificateState
        )
    }


def _certifications(engine: Engine) -> Mapping[Gauge, Samples]:
    return {
        _CERTIFICATION: (
            (f'service="{escape(certificate.service)}",version="{escape(certificate.version)}"', minutes * _MINUTE_S)
            for certificate, minutes in certifications(engine.state)
        )
    }


def _certification_states(engine: Engine) -> Hashable:
    """What waits does so for longer with each minute that closes."""
    return engine.state.next_minute, _certificate_states(engine)


def _newest(service: Service) -> list[tuple[str, Certificate]]:
    """Returns the newest certificate of each version."""
    by_age = sorted(service.certificates.values(), key=lambda certificate: certificate.began_minute)
    return sorted({certificate.version: certificate for certificate in by_age}.items())


SECTIONS = (
    Section(gauges=(_TARGET,), version=declaration, samples=_of_targets),
    EventSection(gauges=_OF_EVENTS, families=lambda _: _OF_EVENTS, lines=_lines, values=_values),
    Section(gauges=(_ALERT_FIRING,), version=_alert_states, samples=_alerts),
    Section(gauges=(_CERTIFICATE_STATE,), version=_certificate_states, samples=_certificates),
    Section(gauges=(_CERTIFICATION,), version=_certification_states, samples=_certifications),
)
