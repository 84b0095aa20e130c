"""The bytes that producers send: OTLP requests as SDKs and Collectors encode them, and flat JSON events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as OtlpResource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from stream.demo.story import ENVIRONMENT, NAMESPACE, Service


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
    attributes = (
        ("service.name", resource.service.name),
        ("service.namespace", NAMESPACE),
        ("service.version", resource.version),
        ("deployment.environment.name", ENVIRONMENT),
        ("telemetry.sdk.language", "python"),
    )
    return ResourceSpans(
        resource=OtlpResource(attributes=[_text(key, value) for key, value in attributes]),
        scope_spans=[ScopeSpans(spans=spans)],
    )


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
