"""Telemetry as the instrumentation that the examples read would send it, message by message.

Spans follow the semantic conventions 1.44; what receivers of the Collector send is as their `metadata.yaml` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, DataPointFlags, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from stream.core.units import MINUTE_NS, SECOND_NS
from tests.core.otlp.spans import attributes

T0_NS = 1_796_518_500 * SECOND_NS
"""2026-12-06 00:55 UTC: a slice of five minutes before the exclusion of `planned-exclusion.yaml`."""

SPANS, METRICS, LOGS, EVENTS = "otlp_spans", "otlp_metrics", "otlp_logs", "telemetry.events"
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK

Attributes = Mapping[str, object]
Number = int | float

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a source topic, in the minute that what it holds ended in."""

    topic: str
    minute: int
    body: Any


Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Of:
    """The process that sends: its service and the rest of its resource."""

    service: str = "checkout"
    version: str = "1.10"
    namespace: str = "shop"
    resource: tuple[tuple[str, object], ...] = ()

    def describe(self, resource: Any) -> None:
        """Writes the resource's attributes."""
        names = {
            "service.name": self.service,
            "service.namespace": self.namespace,
            "service.version": self.version,
            "deployment.environment.name": "production",
        }
        resource.attributes.extend(attributes(*{**names, **dict(self.resource)}.items()))


CHECKOUT = Of()


def of(service: str = "checkout", *, version: str = "1.10", namespace: str = "shop", **resource: object) -> Of:
    """Returns a process; `__` stands for the dot in the names of further attributes of its resource."""
    return Of(service=service, version=version, namespace=namespace, resource=tuple(dotted(resource).items()))


def dotted(names: Mapping[str, object]) -> dict[str, object]:
    """Returns attributes of keyword arguments: `http__route` is `http.route`."""
    return {name.replace("__", "."): value for name, value in names.items()}


def spans(
    kind: str = "server",
    found: Attributes | None = None,
    *,
    by: Of = CHECKOUT,
    failed: bool = False,
    seconds: float = 0.1,
    times: int = 1,
    minute: int = 0,
    threshold: str = "",
) -> Messages:
    """Returns one message with some spans; `threshold` is that of their sampling, as in a tracestate."""
    request = ExportTraceServiceRequest()
    part = request.resource_spans.add()
    by.describe(part.resource)
    scope = part.scope_spans.add()
    end_ns = _within(minute)
    for _ in range(times):
        scope.spans.append(
            Span(
                trace_id=b"\xff" * 8 + next(_ids).to_bytes(8, "big"),
                span_id=next(_ids).to_bytes(8, "big"),
                trace_state=f"ot=th:{threshold};rv:ffffffffffffff" if threshold else "",
                kind=Span.SpanKind.Value(f"SPAN_KIND_{kind.upper()}"),
                name="operation",
                start_time_unix_nano=end_ns - round(seconds * SECOND_NS),
                end_time_unix_nano=end_ns,
                attributes=attributes(*(found or {}).items()),
                status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
            )
        )
    return (Message(topic=SPANS, minute=minute, body=request),)


def http(code: int = 200, route: str = "/orders", *, method: str = "GET", **rest: Any) -> Messages:
    """Returns server spans of requests. Source: semantic conventions, `docs/http/http-spans.md`, HTTP server span."""
    found: dict[str, object] = {
        "http.request.method": method,
        "url.scheme": "https",
        "url.path": route,
        "http.route": route,
        "http.response.status_code": code,
        **({"error.type": str(code)} if code >= 500 else {}),
        **rest.pop("found", {}),
    }
    return spans("server", found, failed=code >= 500, **rest)


def http_call(code: int | None = 200, *, peer: str = "", error: str = "", **rest: Any) -> Messages:
    """Returns client spans of requests. Source: semantic conventions, `docs/http/http-spans.md`, HTTP client span.

    Args:
        code: Of the answer; None where there was none.
        peer: `service.peer.name`.
        error: What went wrong, where it was not the code.
        rest: As of `spans`.
    """
    failed = bool(error) or (code is not None and code >= 400)
    found: dict[str, object] = {
        "http.request.method": "GET",
        "server.address": "10.0.0.7",
        "server.port": 8443,
        "url.full": "https://10.0.0.7:8443/",
        **({} if code is None else {"http.response.status_code": code}),
        **({"error.type": error or str(code)} if failed else {}),
        **({"service.peer.name": peer} if peer else {}),
        **rest.pop("found", {}),
    }
    return spans("client", found, failed=failed, **rest)


def log(
    event: str = "",
    found: Attributes | None = None,
    *,
    by: Of = CHECKOUT,
    severity: int = 9,
    times: int = 1,
    minute: int = 0,
) -> Messages:
    """Returns one message with some log records; `event` is their event name."""
    request = ExportLogsServiceRequest()
    part = request.resource_logs.add()
    by.describe(part.resource)
    scope = part.scope_logs.add()
    for _ in range(times):
        scope.log_records.append(
            LogRecord(
                time_unix_nano=_within(minute) + next(_ids),
                event_name=event,
                severity_number=SeverityNumber.ValueType(severity),
                attributes=attributes(*(found or {}).items()),
            )
        )
    return (Message(topic=LOGS, minute=minute, body=request),)


def counter(name: str, *values: Number | None, found: Attributes | None = None, by: Of = CHECKOUT) -> Messages:
    """Returns a cumulative counter as an SDK or a Collector exports it, once a minute, from the one before the first.

    What it holds in minute -1 is 0, so the first value is what was added in minute 0. None: not exported.
    """
    sent = []
    for minute, value in enumerate((0, *values), -1):
        if value is not None:
            metric = Metric(name=name, unit="{item}")
            metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, CUMULATIVE
            metric.sum.data_points.add(start_time_unix_nano=T0_NS - MINUTE_NS, **_point(minute, found), as_int=value)
            sent.append(_metric(metric, by, minute))
    return tuple(sent)


def scraped(name: str, *values: int, found: Attributes | None = None, by: Of = CHECKOUT) -> Messages:
    """Returns a counter of a process that began long ago, as a Prometheus receiver scrapes it: a text has no start.

    So nobody knows when what the first point holds, that of minute -1, was counted.
    """
    sent = []
    for minute, value in enumerate(values, -1):
        metric = Metric(name=name)
        metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, CUMULATIVE
        metric.sum.data_points.add(**_point(minute, found), as_double=value)
        sent.append(_metric(metric, by, minute))
    return tuple(sent)


def gauge(
    name: str, *values: Number | None, found: Attributes | None = None, by: Of = CHECKOUT, unit: str = "1"
) -> Messages:
    """Returns a gauge, once a minute from minute 0 on. None: a point without a value, of what is no longer there."""
    sent = []
    for minute, value in enumerate(values):
        metric = Metric(name=name, unit=unit)
        number = {"as_int": value} if isinstance(value, int) else {"as_double": value}
        metric.gauge.data_points.add(**_point(minute, found), **({"flags": NO_VALUE} if value is None else number))
        sent.append(_metric(metric, by, minute))
    return tuple(sent)


def histogram(
    name: str,
    bounds: Sequence[float],
    *minutes: Iterable[int],
    found: Attributes | None = None,
    by: Of = CHECKOUT,
) -> Messages:
    """Returns a cumulative histogram in seconds: what each minute added, by bucket."""
    sent = []
    counts = [0] * (len(bounds) + 1)
    for minute, added in enumerate((counts, *minutes), -1):
        counts = [a + b for a, b in zip(counts, added, strict=True)]
        metric = Metric(name=name, unit="s")
        metric.histogram.aggregation_temporality = CUMULATIVE
        metric.histogram.data_points.add(
            start_time_unix_nano=T0_NS - MINUTE_NS,
            **_point(minute, found),
            explicit_bounds=bounds,
            bucket_counts=counts,
            count=sum(counts),
        )
        sent.append(_metric(metric, by, minute))
    return tuple(sent)


def event(found: Attributes | None = None, *, minute: int = 0, by: Of = CHECKOUT, **fields: object) -> Messages:
    """Returns a flat event."""
    named = {"environment": "production", "namespace": by.namespace, "service": by.service, "version": by.version}
    body = {**named, "time": _within(minute) + next(_ids), "attributes": dict(found or {}), **fields}
    return (Message(topic=EVENTS, minute=minute, body=body),)


def _within(minute: int) -> int:
    """Returns the time at which what is told of a minute ends: half of it."""
    return T0_NS + minute * MINUTE_NS + MINUTE_NS // 2


def _point(minute: int, found: Attributes | None) -> dict[str, Any]:
    return {"time_unix_nano": _within(minute), "attributes": attributes(*(found or {}).items())}


def _metric(metric: Metric, by: Of, minute: int) -> Message:
    request = ExportMetricsServiceRequest()
    part = request.resource_metrics.add()
    by.describe(part.resource)
    part.scope_metrics.add().metrics.append(metric)
    return Message(topic=METRICS, minute=minute, body=request)
