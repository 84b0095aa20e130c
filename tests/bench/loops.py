"""The loops that decoders are measured against: a library parses, Python reads the same fields item by item.

Each reads what the columns hold and makes a tuple an item: no limits, no checks, no receipts. The tuples of a message
are forgotten before the next one; what is returned is their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

Loop = Callable[[Sequence[bytes]], int]

_READ = frozenset(("http.response.status_code", "rpc.grpc.status_code", "error.type", "http.route"))
_RESOURCE = frozenset(("deployment.environment.name", "service.namespace", "service.name", "service.version"))


def traces(values: Sequence[bytes]) -> int:
    """Reads the spans of protobuf messages."""
    count = 0
    for value in values:
        items: list[Any] = []
        for resource in ExportTraceServiceRequest.FromString(value).resource_spans:
            names = _protobuf(resource.resource.attributes, _RESOURCE)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    read = _protobuf(span.attributes, _READ)
                    end_ns = span.end_time_unix_nano
                    duration_ns = end_ns - span.start_time_unix_nano
                    seen = any(event.name == "exception" for event in span.events)
                    state = span.trace_state, span.trace_id, span.status.code, span.kind, seen
                    items.append((names, read, end_ns, duration_ns, state))
        count += len(items)
    return count


def metrics(values: Sequence[bytes]) -> int:
    """Reads the points of protobuf messages."""
    count = 0
    for value in values:
        items: list[Any] = []
        for resource in ExportMetricsServiceRequest.FromString(value).resource_metrics:
            names = _protobuf(resource.resource.attributes, _RESOURCE)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data: Any = getattr(metric, str(metric.WhichOneof("data")))
                    histogram = metric.HasField("histogram")
                    head = names, metric.name, metric.unit, data.aggregation_temporality
                    for point in data.data_points:
                        read = tuple((entry.key, entry.value.WhichOneof("value")) for entry in point.attributes)
                        times = point.start_time_unix_nano, point.time_unix_nano, point.flags
                        if histogram:
                            sizes: Any = tuple(point.explicit_bounds), tuple(point.bucket_counts), point.count
                        else:
                            sizes = point.as_int
                        items.append((head, read, times, sizes))
        count += len(items)
    return count


def logs(values: Sequence[bytes]) -> int:
    """Reads the log records of protobuf messages."""
    count = 0
    for value in values:
        items: list[Any] = []
        for resource in ExportLogsServiceRequest.FromString(value).resource_logs:
            names = _protobuf(resource.resource.attributes, _RESOURCE)
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    read = _protobuf(record.attributes, _READ)
                    when = record.time_unix_nano or record.observed_time_unix_nano
                    items.append((names, read, when, record.severity_number, record.event_name, record.trace_id))
        count += len(items)
    return count


def json_traces(values: Sequence[bytes]) -> int:
    """Reads the spans of OTLP/JSON messages."""
    count = 0
    for value in values:
        items: list[Any] = []
        for resource in orjson.loads(value)["resourceSpans"]:
            names = _json(resource["resource"]["attributes"], _RESOURCE)
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    read = _json(span["attributes"], _READ)
                    end_ns = int(span["endTimeUnixNano"])
                    duration_ns = end_ns - int(span["startTimeUnixNano"])
                    trace = bytes.fromhex(span["traceId"])
                    seen = any(event["name"] == "exception" for event in span.get("events", ()))
                    state = span.get("traceState"), trace, span.get("status", {}).get("code"), span["kind"], seen
                    items.append((names, read, end_ns, duration_ns, state))
        count += len(items)
    return count


def flat(values: Sequence[bytes]) -> int:
    """Parses flat events and looks at nothing."""
    for value in values:
        orjson.loads(value)
    return len(values)


def _protobuf(attributes: Any, keys: frozenset[str]) -> dict[str, Any]:
    read = {}
    for entry in attributes:
        key = entry.key
        if key in keys:
            read[key] = entry.value.int_value or entry.value.string_value
    return read


def _json(attributes: Any, keys: frozenset[str]) -> dict[str, Any]:
    read = {}
    for entry in attributes:
        if entry["key"] in keys:
            read[entry["key"]] = entry["value"].get("stringValue") or entry["value"].get("intValue")
    return read
