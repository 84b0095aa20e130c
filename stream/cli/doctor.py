"""`qma doctor`: what arrives, what counts and why not the rest, what is wrong, and the exact line that changes it.

It reads the newest messages of the topics and, with `--pipeline`, the last checkpoints. It writes and commits nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson

from stream.cli.arguments import positive
from stream.cli.connection import Connection, add_arguments, connected
from stream.cli.findings import Finding, Level, TopicReport, findings, in_order
from stream.cli.sampled import Observed, ServiceSample, TopicSample
from stream.cli.standing import Checkpoints, Standing, standing_findings, standing_of
from stream.config.exit_codes import FAIL
from stream.config.problems import printable
from stream.config.sources import TOPICS, telemetry
from stream.core.columns import Kind, Signal
from stream.core.engine import balance
from stream.core.engine.chunks import MANIFEST, clocks_of, ledger_of
from stream.core.errors import ConfigError
from stream.core.otlp import Limits
from stream.core.slo.spec import Bundle, Source, SourceSignal
from stream.core.units import SECOND_NS
from stream.kafka.clients import ConsumerRecord
from stream.kafka.config_topic import read_bundle
from stream.kafka.log_topic import log_has_create_time, log_partitions
from stream.kafka.newest import read_newest
from stream.kafka.source_ends import source_ends
from stream.kafka.state_reader import read_latest

_MESSAGES = 100
_BYTES_MAX = 64 << 20
_SERVICES_SHOWN = 20
_NAMES_SHOWN = 6

_SIGNALS = {
    SourceSignal.TRACES: Signal.SPAN,
    SourceSignal.METRICS: Signal.METRIC,
    SourceSignal.LOGS: Signal.LOG,
    SourceSignal.EVENTS: Signal.EVENT,
}
_ITEMS = {Signal.SPAN: "spans", Signal.METRIC: "points", Signal.LOG: "log records", Signal.EVENT: "events"}
_KEYS = {
    "none": "no key",
    "empty": "empty key",
    "trace id": "trace id (partition_traces_by_id)",
    "16 bytes": "hash of the resource (partition_…_by_resource_attributes)",
    "other": "other keys",
}

EXPORTER = """\
exporters:
  kafka:
    brokers: [HOST:PORT]
    producer: {required_acks: -1, compression: zstd}
    traces: {topic: otlp_spans, encoding: otlp_proto}
    metrics: {topic: otlp_metrics, encoding: otlp_proto}
    logs: {topic: otlp_logs, encoding: otlp_proto}
    sending_queue: {storage: file_storage}
extensions:
  file_storage: {directory: /var/lib/otelcol}
service:
  extensions: [file_storage]"""
"""Of a Collector: every replica acknowledges, and what is not sent yet survives a restart."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_arguments(parser)
    parser.add_argument(
        "topics",
        nargs="*",
        metavar="TOPIC",
        help=f"topics to look at (default: the configured sources, or those of {', '.join(TOPICS)} that exist)",
    )
    parser.add_argument(
        "--messages",
        type=positive,
        default=_MESSAGES,
        metavar="N",
        help=f"of each partition, look at the newest N messages ({_MESSAGES})",
    )
    parser.add_argument(
        "--pipeline",
        action="store_true",
        help="also say how far the pipeline of this prefix has read each source, and what it refused",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    with connected(arguments) as connection:
        bundle, reports, checkpoints = asyncio.run(_look(connection, arguments))
    found = findings(reports, bundle)
    standing = None
    if checkpoints is not None:
        standing = standing_of(checkpoints)
        found = in_order([*found, *standing_findings(checkpoints, standing, wall_ns=time.time_ns())])
    if arguments.json:
        print(orjson.dumps(as_object(reports, standing, found), option=orjson.OPT_NON_STR_KEYS).decode())
    else:
        for line in lines(reports, standing, found, wall_ns=time.time_ns()):
            print(printable(line))
    return exit_code(found)


def exit_code(found: Sequence[Finding]) -> int:
    """Returns 1 where something needs a change, else 0."""
    return FAIL if any(finding.level is Level.CHANGE for finding in found) else 0


async def _look(
    connection: Connection, arguments: argparse.Namespace
) -> tuple[Bundle | None, list[TopicReport], Checkpoints | None]:
    """Returns the configuration, what was read of the topics and, where asked for, the checkpoints."""
    bundle = await _configured(connection, required=arguments.pipeline)
    sources = {source.topic: source for source in telemetry(bundle.sources)} if bundle is not None else {}
    limits = bundle.settings.limits if bundle is not None else Limits()
    reports = []
    for topic in dict.fromkeys(arguments.topics or sources or TOPICS):
        report = await _read(connection, topic, sources.get(topic), limits, arguments.messages)
        if report.newest.partitions is not None or arguments.topics or sources:
            reports.append(report)
    if not reports:
        raise ConfigError(
            f"there is no topic {', '.join(TOPICS)} at {connection.bootstrap}; name those that telemetry is written "
            "to: qma doctor TOPIC…, or create them: qma topics apply"
        )
    return bundle, reports, await _checkpoints(connection, bundle) if arguments.pipeline else None


async def _configured(connection: Connection, *, required: bool) -> Bundle | None:
    """Returns the configuration; without one the topics can be looked at all the same."""
    try:
        found = await read_bundle(connection.bootstrap, connection.prefix)
    except ConfigError:
        if required:
            raise
        return None
    return found[1] if found is not None else None


async def _read(
    connection: Connection, topic: str, source: Source | None, limits: Limits, messages: int
) -> TopicReport:
    named = next((signal for name, signal in TOPICS.items() if f".{topic}".endswith(f".{name}")), None)
    expected = SourceSignal(source.signal) if source is not None else named
    signal = _SIGNALS[expected] if expected is not None else None
    sample = TopicSample(topic=topic, signal=signal, limits=limits, now_ns=time.time_ns())

    def take(records: Sequence[ConsumerRecord]) -> None:
        sample.add([Observed(key=r.key, value=r.value, time_ns=max(0, r.timestamp) * 1_000_000) for r in records])

    newest = await read_newest(connection.bootstrap, topic, per_partition=messages, bytes_max=_BYTES_MAX, take=take)
    return TopicReport(sample=sample, newest=newest, source=source)


async def _checkpoints(connection: Connection, bundle: Bundle | None) -> Checkpoints:
    bootstrap, prefix = connection.bootstrap, connection.prefix
    partitions = await log_partitions(bootstrap, prefix)
    latest = await read_latest(bootstrap, f"{prefix}state", range(partitions), {MANIFEST})
    manifests = [values[MANIFEST] for values in latest.values() if MANIFEST in values]
    balances = balance([ledger_of(manifest) for manifest in manifests])
    topics = [source.topic for source in telemetry(bundle.sources)] if bundle is not None else []
    read = {(entry.topic_id, entry.partition): entry.next_offset for entry in balances}
    unread = tuple(
        (
            end.topic,
            end.partition,
            max(0, end.next_offset - max(end.first_offset, read.get((end.topic_id, end.partition), 0))),
        )
        for end in await source_ends(bootstrap, topics)
    )
    return Checkpoints(
        bundle=bundle,
        clocks=[clocks_of(manifest) for manifest in manifests],
        partitions=partitions,
        balances=balances,
        unread=unread,
        log_is_timed_by_broker=not await log_has_create_time(bootstrap, prefix),
    )


def as_object(reports: Sequence[TopicReport], standing: Standing | None, found: Sequence[Finding]) -> dict[str, Any]:
    """Returns everything as plain values."""
    return {
        "topics": [_topic_object(report) for report in reports],
        "pipeline": asdict(standing) if standing is not None else None,
        "findings": [asdict(finding) for finding in found],
        "exporter": EXPORTER,
        "needs_change": exit_code(found) != 0,
    }


def _topic_object(report: TopicReport) -> dict[str, Any]:
    sample, newest = report.sample, report.newest
    return {
        "topic": report.topic,
        "configured": asdict(report.source) if report.source is not None else None,
        "partitions": newest.partitions,
        "held_messages": newest.held,
        "looked_at": {"messages": sample.messages, "bytes": sample.size_bytes, "items": sample.items},
        "encodings": [{"signal": s, "encoding": e, "messages": n} for (s, e), n in sample.forms.most_common()],
        "codecs": dict(newest.batches),
        "keys": dict(sample.keys),
        "newest_ns": sample.newest_ns or None,
        "tombstones": sample.tombstones,
        "repeated": sample.repeated,
        "invalid_texts": sample.invalid_texts,
        "future": sample.future,
        "late": sample.late,
        "services": {key: _service_object(service) for key, service in sample.services.items()},
        "metrics": {name: asdict(metric) for name, metric in sample.metrics.items()},
        "log_events": dict(sample.log_events),
        "rejected": {reason: asdict(refusals) for reason, refusals in sample.rejected.items()},
        "refused_batches": [
            {"reason": b.reason.value, "first_offset": b.first_offset, "messages": b.records, "detail": b.detail}
            for b in newest.refused
        ],
    }


def _service_object(service: ServiceSample) -> dict[str, Any]:
    return {
        "items": service.items,
        "versions": dict(service.versions),
        "kinds": dict(service.kinds),
        "unknown_sampling": service.unknown_sampling,
        "weight": service.weight,
    }


def lines(
    reports: Sequence[TopicReport], standing: Standing | None, found: Sequence[Finding], *, wall_ns: int
) -> Iterator[str]:
    """Yields the report for people: each topic, the pipeline, then what to change."""
    for report in reports:
        yield from _topic_lines(report, wall_ns)
        yield ""
    if standing is not None:
        yield from _standing_lines(standing)
        yield ""
    for level, title in ((Level.CHANGE, "to change"), (Level.ADVICE, "advice")):
        chosen = [finding for finding in found if finding.level is level]
        if chosen:
            yield title
        for number, finding in enumerate(chosen, 1):
            yield f"  {number}. {finding.about}: {finding.says}"
            yield from (f"       {line}" for line in finding.fix)
    if not any(finding.level is Level.CHANGE for finding in found):
        yield "nothing needs a change"
    if any(report.signal is not SourceSignal.EVENTS for report in reports):
        yield ""
        yield "a Collector's exporter that loses nothing:"
        yield from (f"  {line}" for line in EXPORTER.splitlines())


def _topic_lines(report: TopicReport, wall_ns: int) -> Iterator[str]:
    sample, newest = report.sample, report.newest
    if newest.partitions is None:
        yield f"{report.topic}: does not exist"
        return
    noun = _ITEMS[_SIGNALS[report.signal]] if report.signal is not None else "items"
    part = "" if newest.is_whole else ", and no further: they are large"
    yield (
        f"{report.topic}: {newest.partitions} partitions, {newest.held:,} messages; looked at the newest "
        f"{sample.messages:,} with {sample.items:,} {noun}{part}"
    )
    if not sample.messages:
        return
    forms = [f"{signal} as {encoding} {count:,}" for (signal, encoding), count in sample.forms.most_common()]
    forms += [f"{label} {count:,}" for label, count in (("tombstones", sample.tombstones),) if count]
    yield f"  messages     {', '.join(forms) or 'none that can be read'}"
    yield f"  compression  {_counts(newest.batches, 'batches')}"
    yield f"  keys         {_counts(Counter({_KEYS[use]: count for use, count in sample.keys.items()}))}"
    yield f"  newest       {_time(sample.newest_ns)}, {max(0, wall_ns - sample.newest_ns) / SECOND_NS:,.0f} s ago"
    yield from _service_lines(report, noun)
    if sample.metrics:
        named = [f"{name} ({metric.type}, {metric.temporality})" for name, metric in sample.metrics.items()]
        yield f"  metrics      {_some(named)}"
    if named := [f"{name} {count:,}" for name, count in sample.log_events.most_common() if name]:
        yield f"  events       {_some(named)}"
    yield from _request_lines(report)
    refused = Counter({reason: refusals.items for reason, refusals in sample.rejected.items()})
    for batch in newest.refused:
        refused[batch.reason.value] += batch.records
    refused += Counter(future=sample.future)
    yield f"  refused      {_counts(refused) if refused else 'nothing'}"


def _service_lines(report: TopicReport, noun: str) -> Iterator[str]:
    services = sorted(report.sample.services.items(), key=lambda entry: -entry[1].items)
    for at, (key, service) in enumerate(services[:_SERVICES_SHOWN]):
        versions = [version or "no version" for version, _ in service.versions.most_common()]
        label = "services" if at == 0 else ""
        yield f"  {label:<12} {key}   {service.items:,} {noun}, {_some(versions)}"
    if len(services) > _SERVICES_SHOWN:
        yield f"  {'':<12} and {len(services) - _SERVICES_SHOWN:,} more"


def _request_lines(report: TopicReport) -> Iterator[str]:
    """Which spans count as requests, why the rest does not, and whether sampling is known."""
    if report.signal not in (SourceSignal.TRACES, SourceSignal.EVENTS):
        return
    kinds: Counter[str] = Counter()
    services = report.sample.services.values()
    for service in services:
        kinds += service.kinds
    requests = Counter({kind: kinds[kind] for kind in (Kind.SERVER.name, Kind.CONSUMER.name) if kinds[kind]})
    rest = kinds - requests
    total = kinds.total()
    yield f"  requests     {requests.total():,} of {total:,} by their kind: {_counts(requests) if requests else 'none'}"
    if rest:
        yield f"  {'':<12} not the others: {_counts(rest)}"
    if total:
        known = total - sum(service.unknown_sampling for service in services)
        each = f"; a span stands for {_weight(report, total)} on average" if known else ""
        yield f"  sampling     known of {known / total:.0%}{each}"


def _weight(report: TopicReport, total: int) -> str:
    return f"{sum(service.weight for service in report.sample.services.values()) / total:.3g}"


def _standing_lines(standing: Standing) -> Iterator[str]:
    now, frontier = (_time(at) if at is not None else "not known" for at in (standing.now_ns, standing.frontier_ns))
    yield f"pipeline: now {now}, every source read up to {frontier}"
    yield (
        f"  items        {standing.received:,} received, {standing.counted:,} counted, "
        f"{standing.duplicate:,} duplicate, {standing.late:,} late, {sum(standing.rejected.values()):,} refused"
    )
    if standing.rejected:
        yield f"  refused      {_counts(Counter(standing.rejected))}"
    for at, source in enumerate(standing.sources):
        label = "sources" if at == 0 else ""
        until = f"read up to {_time(source.until_ns)}" if source.until_ns is not None else "never heard of"
        lag = f", {source.lag_s:,.0f} s before now" if source.lag_s is not None else ""
        yield f"  {label:<12} {source.topic}/{source.partition}   {until}{lag}; {source.unread:,} not read"


def _counts(counts: Counter[str], noun: str = "") -> str:
    return ", ".join(
        f"{name} {count:,}{f' {noun}' if noun and at == 0 else ''}"
        for at, (name, count) in enumerate(counts.most_common())
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
