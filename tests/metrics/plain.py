"""The families of objectives as a plain prometheus-client collector shows them: oracle of what we render ourselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream import __version__
from stream.core.certificate.lifecycle import CertificateState
from stream.core.engine import Engine
from stream.core.engine.alerting import rules_of
from stream.core.engine.certificates import certifications
from stream.core.events import SliEvent
from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import duration

_SLO = ["service", "objective"]
_SLOTH = ["sloth_id", "sloth_service", "sloth_slo"]
SLOTH_WINDOWS = {5: "5m", 30: "30m", 60: "1h", 120: "2h", 360: "6h", 1440: "1d", 4320: "3d", 43_200: "30d"}


class PlainCollector(Collector):
    """Everything is made and written anew at each scrape."""

    def __init__(self, engines: Iterable[Engine], *, sloth: bool = False) -> None:
        self._engines = list(engines)
        self._sloth = sloth

    def collect(self) -> Iterator[Metric]:
        events = [event for engine in self._engines for event in engine.latest.values()]
        yield from _objectives(events)
        yield _alerts(self._engines)
        yield from _certificates(self._engines)
        if self._sloth:
            yield from _sloth(events)


def _objectives(events: list[SliEvent]) -> Iterator[Metric]:
    target = GaugeMetricFamily("qma_objective_target_ratio", "", labels=_SLO)
    ratio = GaugeMetricFamily("qma_sli_ratio", "", labels=[*_SLO, "window"])
    events_total = GaugeMetricFamily("qma_sli_events", "", labels=[*_SLO, "window"])
    coverage = GaugeMetricFamily("qma_window_coverage_ratio", "", labels=_SLO)
    budget = GaugeMetricFamily("qma_error_budget_remaining_ratio", "", labels=[*_SLO, "bound"])
    burn = GaugeMetricFamily("qma_burn_rate", "", labels=[*_SLO, "window"])
    for event in events:
        slo = [event.objective.service, event.objective.name]
        target.add_metric(slo, float(event.objective.target_ratio))
        for window, sli in (("1m", event.minute_sli), (duration(event.objective.window_minutes), event.window_sli)):
            events_total.add_metric([*slo, window], sli.n)
            if sli.ratio is not None:
                ratio.add_metric([*slo, window], sli.ratio)
        coverage.add_metric(slo, event.coverage)
        for bound, left in (("min", event.budget.remaining_min_ratio), ("max", event.budget.remaining_max_ratio)):
            if left is not None:
                budget.add_metric([*slo, bound], left)
        for minutes, rate in event.burn_rates:
            if rate is not None:
                burn.add_metric([*slo, duration(minutes)], rate)
    yield from (target, ratio, events_total, coverage, budget, burn)


def _alerts(engines: Iterable[Engine]) -> Metric:
    family = GaugeMetricFamily("qma_alert_firing", "", labels=[*_SLO, "severity", "rule"])
    for engine in engines:
        for key, service in engine.services.items():
            for objective, digest, _ in service.targets():
                alerts = service.states[digest].alerts
                for rule in rules_of(objective):
                    firing = rule.name in alerts and alerts[rule.name].state is AlertState.FIRING
                    family.add_metric([key, objective.name, rule.severity, rule.name], float(firing))
    return family


def _certificates(engines: Iterable[Engine]) -> Iterator[Metric]:
    family = GaugeMetricFamily("qma_certificate_state", "", labels=["service", "version", "state"])
    took = GaugeMetricFamily("qma_certification_seconds", "", labels=["service", "version"])
    for engine in engines:
        for key, service in engine.services.items():
            newest = {c.version: c for c in sorted(service.certificates.values(), key=lambda c: c.began_minute)}
            for version, certificate in newest.items():
                for state in CertificateState:
                    family.add_metric([key, version, state], float(certificate.state is state))
        for certificate, minutes in certifications(engine.state):
            took.add_metric([certificate.service, certificate.version], minutes * 60)
    yield from (family, took)


def _sloth(events: list[SliEvent]) -> Iterator[Metric]:
    """From the counts of the window where there are any: bad ÷ total, not by way of a burn rate."""
    names = (
        *("objective:ratio", "error_budget:ratio", "time_period:days"),
        *("current_burn_rate:ratio", "period_burn_rate:ratio", "period_error_budget_remaining:ratio"),
    )
    made = {name: GaugeMetricFamily(f"slo:{name}", "", labels=_SLOTH) for name in names}
    errors = {
        minutes: GaugeMetricFamily(f"slo:sli_error:ratio_rate{window}", "", labels=[*_SLOTH, "sloth_window"])
        for minutes, window in SLOTH_WINDOWS.items()
    }
    about = ["sloth_mode", "sloth_spec", "sloth_version", "sloth_objective"]
    info = GaugeMetricFamily("sloth_slo_info", "", labels=[*_SLOTH, *about])
    for event in events:
        o = event.objective
        ids = [f"{o.service}-{o.name}", o.service, o.name]
        budget = float(1 - o.target_ratio)
        info.add_metric([*ids, "qma-stream", "openslo/v1", __version__, f"{float(o.target_ratio) * 100:.10g}"], 1)
        made["objective:ratio"].add_metric(ids, float(o.target_ratio))
        made["error_budget:ratio"].add_metric(ids, budget)
        made["time_period:days"].add_metric(ids, o.window_minutes / 1440)
        for minutes, rate in event.burn_rates:
            if rate is not None:
                errors[minutes].add_metric([*ids, SLOTH_WINDOWS[minutes]], rate * budget)
                if minutes == 5:
                    made["current_burn_rate:ratio"].add_metric(ids, rate)
        window = event.window_sli
        if window.total:
            bad = (window.total - window.good) / window.total
            errors[o.window_minutes].add_metric([*ids, SLOTH_WINDOWS[o.window_minutes]], bad)
            made["period_burn_rate:ratio"].add_metric(ids, bad / budget)
            made["period_error_budget_remaining:ratio"].add_metric(ids, 1 - bad / budget)
    yield from errors.values()
    yield from made.values()
    yield info
