"""The bytes that producers send: OTLP requests as SDKs and Collectors encode them, and flat JSON events.

Traces and metrics are written in protobuf, logs in JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Histogram as OtlpHistogram
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as OtlpResource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from stream.demo.story import ENVIRONMENT, NAMESPACE, Service

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Of `http.server.request.duration`. Source: OpenTelemetry semantic conventions, HTTP metrics."""

DISPATCHED = "shipment.dispatched"
"""Event name of the log records that the shipping service's objective counts."""

_SEVERITIES = {"DEBUG": 5, "INFO": 9, "ERROR": 17}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span: a request served, or a call made to another service."""

    request: bool
    failed: bool
    end_ns: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Resource:
    """Spans of one version of one service."""

    service: Service
    version: str
    spans: Sequence[Span]


def spans_request(resources: Sequence[Resource], random: np.random.Generator) -> bytes:
    """Returns an `ExportTraceServiceRequest` with the spans of several resources; ids come from `random`."""
    request = ExportTraceServiceRequest(resource_spans=[_resource_spans(resource, random) for resource in resources])
    data: bytes = request.SerializeToString()
    return data


def _resource_spans(resource: Resource, random: np.random.Generator) -> ResourceSpans:
    ids = random.bytes(24 * len(resource.spans))
    spans = [
        _span(span, ids[24 * i : 24 * i + 16], ids[24 * i + 16 : 24 * (i + 1)], resource.service.tracestate)
        for i, span in enumerate(resource.spans)
    ]
    return ResourceSpans(
        resource=_otlp_resource(resource.service, resource.version),
        scope_spans=[ScopeSpans(spans=spans)],
    )


def _otlp_resource(service: Service, version: str, **more: str) -> OtlpResource:
    attributes = _resource_attributes(service, version) | more
    return OtlpResource(attributes=[_text(key, value) for key, value in attributes.items()])


def _resource_attributes(service: Service, version: str) -> dict[str, str]:
    return {
        "service.name": service.name,
        "service.namespace": NAMESPACE,
        "service.version": version,
        "deployment.environment.name": ENVIRONMENT,
        "telemetry.sdk.language": "python",
    }


def _span(span: Span, trace_id: bytes, span_id: bytes, tracestate: str) -> OtlpSpan:
    """A server answers 404 now and then, which is its caller's fault; half of its failures say no more than 500."""
    if span.failed:
        code = 503 if span_id[0] % 2 else 500
    else:
        code = 404 if span.request and span_id[0] == 0 else 200
    attributes = [_text("http.request.method", "GET"), _number("http.response.status_code", code)]
    status = None
    if span.failed and (code == 503 or not span.request):
        status = Status(code=Status.STATUS_CODE_ERROR)
        attributes.append(_text("error.type", str(code)))
    return OtlpSpan(
        trace_id=trace_id,
        span_id=span_id,
        trace_state=tracestate,
        name="GET",
        kind=OtlpSpan.SPAN_KIND_SERVER if span.request else OtlpSpan.SPAN_KIND_CLIENT,
        start_time_unix_nano=span.end_ns - span.duration_ns,
        end_time_unix_nano=span.end_ns,
        attributes=attributes,
        status=status,
    )


def _text(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _number(key: str, value: int) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(int_value=value))


def flat_event(service: Service, version: str, end_ns: int, duration_ns: int, failed: bool) -> bytes:
    """Returns a flat JSON event of a request: what a service without OpenTelemetry sends."""
    event = {
        "time": end_ns,
        "environment": ENVIRONMENT,
        "namespace": NAMESPACE,
        "service": service.name,
        "version": version,
        "kind": "consumer",
        "duration_ms": duration_ns / 1e6,
        "status": "error" if failed else "ok",
    }
    return orjson.dumps(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The requests of a route since its process started: how many in each bucket, and how long they took together."""

    route: str
    counts: Sequence[int]
    sum_ns: int


def metrics_request(
    service: Service, instance: str, histograms: Sequence[Histogram], *, start_ns: int, time_ns: int
) -> bytes:
    """Returns an `ExportMetricsServiceRequest` with one point, cumulative, for each histogram of a process."""
    points = [
        HistogramDataPoint(
            start_time_unix_nano=start_ns,
            time_unix_nano=time_ns,
            count=sum(histogram.counts),
            sum=histogram.sum_ns / 1e9,
            bucket_counts=histogram.counts,
            explicit_bounds=BOUNDS_S,
            attributes=[
                _text("http.request.method", "GET"),
                _text("http.route", histogram.route),
                _number("http.response.status_code", 200),
            ],
        )
        for histogram in histograms
    ]
    metric = Metric(
        name="http.server.request.duration",
        unit="s",
        histogram=OtlpHistogram(
            data_points=points, aggregation_temporality=AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        ),
    )
    scope = InstrumentationScope(name="opentelemetry.instrumentation.asgi")
    measured = ResourceMetrics(
        resource=_otlp_resource(service, "v1", **{"service.instance.id": instance}),
        scope_metrics=[ScopeMetrics(scope=scope, metrics=[metric])],
    )
    data: bytes = ExportMetricsServiceRequest(resource_metrics=[measured]).SerializeToString()
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A log record: of a parcel that was dispatched, or was not, or (no `parcel`) of no event."""

    time_ns: int
    parcel: bool
    failed: bool


def logs_request(service: Service, entries: Sequence[Entry]) -> bytes:
    """Returns an `ExportLogsServiceRequest` in OTLP/JSON."""
    attributes = _resource_attributes(service, "v1")
    logged = {
        "resource": {"attributes": [{"key": key, "value": {"stringValue": attributes[key]}} for key in attributes]},
        "scopeLogs": [{"scope": {"name": service.name}, "logRecords": [_log_record(entry) for entry in entries]}],
    }
    return orjson.dumps({"resourceLogs": [logged]})


def _log_record(entry: Entry) -> dict[str, object]:
    if entry.parcel:
        severity, body = ("ERROR", "the carrier refused the label") if entry.failed else ("INFO", "parcel dispatched")
    else:
        severity, body = ("ERROR", "the label printer is out of paper") if entry.failed else ("DEBUG", "rates read")
    record: dict[str, object] = {
        "timeUnixNano": str(entry.time_ns),
        "observedTimeUnixNano": str(entry.time_ns),
        "severityNumber": _SEVERITIES[severity],
        "severityText": severity,
        "body": {"stringValue": body},
    }
    if entry.parcel:
        record["eventName"] = DISPATCHED
    return record
