"""What a notifier counts, and how `/metrics` shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.core.units import SECOND_NS

_LABELS = ("alertmanager",)


@dataclass(slots=True)
class NotifyStats:
    """Figures of one process, by the Alertmanager's address.

    Args:
        sent: Alerts that it accepted, each time that they were sent.
        failed: Alerts that it refused or that did not reach it, each time that they were sent.
        success_ns: When it accepted something last.
        status_ns: When the newest status that was read was published; None before the first.
        is_ready: The topics were read to their end once.
    """

    sent: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    success_ns: dict[str, int] = field(default_factory=dict)
    status_ns: int | None = None
    is_ready: bool = False


class NotifyCollector(Collector):
    """The families of a notifier."""

    def __init__(self, stats: NotifyStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yields every family, as it is at this moment."""
        stats = self._stats
        sent = CounterMetricFamily(
            "qma_notify_alerts_sent",
            "Alerts that an Alertmanager accepted, each time that they were sent.",
            labels=_LABELS,
        )
        failed = CounterMetricFamily(
            "qma_notify_alerts_failed",
            "Alerts that an Alertmanager refused or that did not reach it, each time that they were sent.",
            labels=_LABELS,
        )
        success = GaugeMetricFamily(
            "qma_notify_last_success_timestamp_seconds",
            "When an Alertmanager accepted what was sent last; something is sent every interval, alerts or none.",
            labels=_LABELS,
        )
        for name in sorted({*stats.sent, *stats.failed, *stats.success_ns}):
            sent.add_metric([name], stats.sent[name])
            failed.add_metric([name], stats.failed[name])
        for name, time_ns in sorted(stats.success_ns.items()):
            success.add_metric([name], time_ns / SECOND_NS)
        status = GaugeMetricFamily(
            "qma_notify_status_timestamp_seconds", "When the newest status that was read was published."
        )
        if stats.status_ns is not None:
            status.add_metric([], stats.status_ns / SECOND_NS)
        yield from (sent, failed, success, status)
