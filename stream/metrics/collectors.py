"""Prometheus collectors over what a process already knows. Nothing is counted here: a scrape reads the state.

Names follow Prometheus: prefix, base unit, `_total` for counters. Series of a partition that moved to another worker
disappear with the next scrape, so every figure is exposed by exactly one worker at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.core.engine import Engine
from stream.core.units import SECOND_NS
from stream.metrics import objectives
from stream.metrics import sloth as sloth_series
from stream.metrics.rendering import RenderedSection


class StateView(Protocol):
    """What the collector reads of a state worker."""

    @property
    def engines(self) -> Mapping[int, Engine]:
        """The fold of each partition that this worker owns."""

    @property
    def checkpoint_at_s(self) -> Mapping[int, float]:
        """Monotonic time of each partition's last checkpoint."""

    @property
    def checkpoint_duration_s(self) -> Mapping[int, float]:
        """How long it took."""

    @property
    def log_lag(self) -> Mapping[int, int]:
        """Records of the log not yet applied."""


class IngestView(Protocol):
    """What the collector reads of an ingest process."""

    messages: int
    rows: int
    records: int
    bytes: int
    cycles: int
    commits_rejected: int
    lost_offsets: int
    invalid_utf8: Counter[str]
    lag: dict[str, int]
    committed_at_s: float | None
    compiled: dict[str, bool]


class StateCollector(Collector):
    """Objectives, certificates, ledger and progress of the partitions of a state worker.

    Args:
        view: The worker.
        sloth: Whether the series of Sloth are shown, too.
    """

    def __init__(self, view: StateView, *, sloth: bool = False) -> None:
        self._view = view
        shown = (*objectives.SECTIONS, *(sloth_series.SECTIONS if sloth else ()))
        self._sections = [RenderedSection(section) for section in shown]

    def collect(self) -> Iterator[Metric]:
        """Yields every family; series are ordered by partition."""
        engines = [engine for _, engine in sorted(self._view.engines.items())]
        for section in self._sections:
            yield from section.families(engines)
        yield from _ledger(engines)
        yield from self._progress(engines)

    def _progress(self, engines: list[Engine]) -> Iterator[Metric]:
        frontier = GaugeMetricFamily(
            "qma_frontier_timestamp_seconds",
            "Time up to which every source has been read; absent while one was never heard of.",
            labels=["log_partition"],
        )
        lag = GaugeMetricFamily(
            "qma_frontier_lag_seconds", "The log's now minus its frontier, in log time.", labels=["log_partition"]
        )
        for engine in engines:
            if engine.frontier_ns is not None:
                labels = [str(engine.partition)]
                frontier.add_metric(labels, engine.frontier_ns / SECOND_NS)
                lag.add_metric(labels, max(0, engine.now_ns - engine.frontier_ns) / SECOND_NS)
        yield frontier
        yield lag
        yield _sources(engines[:1])
        now_s = time.monotonic()
        ages = {partition: now_s - at_s for partition, at_s in self._view.checkpoint_at_s.items()}
        yield _by_partition("qma_checkpoint_age_seconds", "Time since the last checkpoint.", ages)
        yield _by_partition(
            "qma_checkpoint_duration_seconds",
            "How long the last checkpoint took to commit.",
            self._view.checkpoint_duration_s,
        )
        yield _by_partition("qma_log_lag_records", "Records of the log not yet applied.", self._view.log_lag)


class IngestCollector(Collector):
    """What an ingest process has read and sent."""

    def __init__(self, view: IngestView) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Yields every family."""
        view = self._view
        for name, text, value in (
            ("messages", "Source messages acknowledged in the log.", view.messages),
            ("rows", "Rows sent to the log.", view.rows),
            ("records", "Log records sent.", view.records),
            ("bytes", "Bytes of the log records sent.", view.bytes),
            ("cycles", "Cycles committed: one read, its records acknowledged, its offsets committed.", view.cycles),
            ("commits_rejected", "Commits that a rebalance rejected; the next owner replays.", view.commits_rejected),
            ("lost_offsets", "Source offsets that expired before they were read.", view.lost_offsets),
        ):
            yield CounterMetricFamily(f"qma_ingest_{name}", text, value=value)
        invalid = CounterMetricFamily(
            "qma_ingest_invalid_text_items",
            "Items with a text that is no UTF-8: they count, and what cannot be read of it is U+FFFD.",
            labels=["topic"],
        )
        for topic, items in sorted(view.invalid_utf8.items()):
            invalid.add_metric([topic], items)
        yield invalid
        lag = GaugeMetricFamily(
            "qma_ingest_lag_messages", "Messages of a source partition not yet read.", labels=["topic", "partition"]
        )
        for source, messages in sorted(view.lag.items()):
            lag.add_metric(source.rsplit("/", 1), messages)
        yield lag
        compiled = GaugeMetricFamily(
            "qma_ingest_decoder_compiled",
            "Whether messages of a format are decoded by machine code: "
            "0 while it is being made, and where it cannot be.",
            labels=["format"],
        )
        for name, done in sorted(view.compiled.items()):
            compiled.add_metric([name], done)
        yield compiled
        if view.committed_at_s is not None:
            age_s = time.monotonic() - view.committed_at_s
            yield GaugeMetricFamily("qma_ingest_commit_age_seconds", "Time since the last commit.", value=age_s)


def _sources(engines: Iterable[Engine]) -> Metric:
    """Every partition of the log hears of every source, so one engine tells."""
    family = GaugeMetricFamily(
        "qma_source_lag_seconds",
        "The log's now minus the time up to which a source has been read: the largest holds the frontier back. "
        "Infinite for a source that was never heard of.",
        labels=["topic", "partition"],
    )
    for engine in engines:
        for topic, partition, until_ns in engine.laggards():
            lag_s = max(0, engine.now_ns - until_ns) / SECOND_NS if until_ns is not None else float("inf")
            family.add_metric([topic, str(partition)], lag_s)
    return family


def _by_partition(name: str, text: str, values: Mapping[int, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["log_partition"])
    for partition, value in sorted(values.items()):
        family.add_metric([str(partition)], value)
    return family


def _ledger(engines: Iterable[Engine]) -> Iterator[Metric]:
    labels = ["topic", "log_partition"]
    totals: dict[str, Counter[tuple[str, str]]] = {
        name: Counter() for name in ("received", "counted", "duplicate", "late", "replayed")
    }
    rejected: Counter[tuple[str, str, str]] = Counter()
    for engine in engines:
        for account in engine.ledger.sources.values():
            where = (account.topic, str(engine.partition))
            for name, total in totals.items():
                total[where] += getattr(account, name)
            for reason, items in account.rejected.items():
                rejected[(*where, reason)] += items
    for name, total in totals.items():
        family = CounterMetricFamily(f"qma_items_{name}", _LEDGER_TEXT[name], labels=labels)
        for where, items in sorted(total.items()):
            family.add_metric(where, items)
        yield family
    family = CounterMetricFamily("qma_items_rejected", "Items refused, by reason.", labels=[*labels, "reason"])
    for refused, items in sorted(rejected.items()):
        family.add_metric(refused, items)
    yield family
    overflow = CounterMetricFamily(
        "qma_items_overflowed",
        "Items counted that found no service, no version or, by objective, no cohort of their own.",
        labels=["log_partition", "beyond"],
    )
    for engine in engines:
        for beyond, items in sorted(engine.state.overflowed.items()):
            overflow.add_metric([str(engine.partition), beyond], items)
    yield overflow


_LEDGER_TEXT = {
    "received": "Items received from the sources; equals counted + duplicate + late + rejected.",
    "counted": "Items applied to state, selected by an objective or not.",
    "duplicate": "Items that the producer sent twice.",
    "late": "Items too late for their minute: more than 6 h behind the frontier.",
    "replayed": "Items read again after a crash and dropped; outside the equation.",
}
