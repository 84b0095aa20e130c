"""What is read of an OTLP/JSON message: names, types and field numbers, taken from the official descriptors.

Rules that every decoder of OTLP/JSON keeps. A message is read as the protobuf message that it spells, so that what it
means is said in one place, the protobuf decoder of its signal. Where the JSON has to be judged:

* It must be one JSON object (RFC 8259) and white space. What is not read may hold anything that is JSON.
* Names are lowerCamelCase, and only that; other members are ignored. Escapes in names count as what they spell.
* A member is an occurrence of its protobuf field, as the Collector reads it: of a number or a text that occurs twice
  the last counts, lists grow, messages are merged. `null` is no occurrence; in a list of messages it is an empty one.
* A member that is read and holds another type makes the message malformed, in attributes whether they are read or not.
* Integers: a JSON number or a text that spells one, with exponent or fraction where the value is an integer of the
  field's range. Enums: a number, never a name.
* Doubles: likewise, or "NaN", "Infinity", "-Infinity". Beyond the largest double is malformed, as the Collector has it.
  Of the significant digits the first 19 count.
* `traceId`: 32 hexadecimal digits of either case, or none; anything else is malformed, as the Collector has it.
* Other bytes: base64, standard alphabet, padded.
* Texts may hold bytes that are no UTF-8: they go to the protobuf decoder as they are. An escape of a lone surrogate is
  U+FFFD.
* A message with more brackets open than `brackets_max` is `too_deep`: as many as spell attribute values that are nested
  as deep as `Limits.depth` says, each a map of its own. Of several faults the first decides.
* A message with members of which none is of its signal is `wrong_type`; `{}` has no items.

Source: opentelemetry-proto `docs/specification.md`, "JSON Protobuf Encoding"; pdata 1.70 `internal/json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.columns import Signal

_DEPTH_MAX = 32
"""Levels of attribute values whatever the limit says: within them no message is too deep for a protobuf decoder."""
_BRACKETS_AROUND, _BRACKETS_A_LEVEL = 9, 4
"""Open around the value of a span's attribute, and for each map within it: `{"kvlistValue":{"values":[{"value":`."""

DOUBLE_DIGITS = 19
"""Significant digits of a double that count: they fit in 64 bits, and are two more than any double needs."""

TRACE_ID_BYTES = 16


class Kind(IntEnum):
    """How a value is spelled in JSON and written in protobuf."""

    MESSAGE = 0
    TEXT = 1
    TRACE_ID = 2
    BYTES = 3
    BOOL = 4
    ENUM = 5
    INT32 = 6
    SINT32 = 7
    UINT32 = 8
    INT64 = 9
    UINT64 = 10
    FIXED64 = 11
    SFIXED64 = 12
    DOUBLE = 13


RANGES: Mapping[Kind, tuple[int, int]] = {
    Kind.ENUM: (-(1 << 31), (1 << 31) - 1),
    Kind.INT32: (-(1 << 31), (1 << 31) - 1),
    Kind.SINT32: (-(1 << 31), (1 << 31) - 1),
    Kind.UINT32: (0, (1 << 32) - 1),
    Kind.INT64: (-(1 << 63), (1 << 63) - 1),
    Kind.SFIXED64: (-(1 << 63), (1 << 63) - 1),
    Kind.UINT64: (0, (1 << 64) - 1),
    Kind.FIXED64: (0, (1 << 64) - 1),
}
"""The least and the largest value of each kind of integer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field that is read.

    Args:
        name: In JSON.
        number: In protobuf.
        kind: Of a value, or of an element of a list.
        repeated: Whether it is a list.
        message: Full name of the message that it holds; empty where it holds none.
    """

    name: str
    number: int
    kind: Kind
    repeated: bool
    message: str


_KINDS = {
    FieldDescriptor.TYPE_MESSAGE: Kind.MESSAGE,
    FieldDescriptor.TYPE_STRING: Kind.TEXT,
    FieldDescriptor.TYPE_BYTES: Kind.BYTES,
    FieldDescriptor.TYPE_BOOL: Kind.BOOL,
    FieldDescriptor.TYPE_ENUM: Kind.ENUM,
    FieldDescriptor.TYPE_INT32: Kind.INT32,
    FieldDescriptor.TYPE_SINT32: Kind.SINT32,
    FieldDescriptor.TYPE_UINT32: Kind.UINT32,
    FieldDescriptor.TYPE_INT64: Kind.INT64,
    FieldDescriptor.TYPE_UINT64: Kind.UINT64,
    FieldDescriptor.TYPE_FIXED64: Kind.FIXED64,
    FieldDescriptor.TYPE_SFIXED64: Kind.SFIXED64,
    FieldDescriptor.TYPE_DOUBLE: Kind.DOUBLE,
}

_POINT = ("attributes", "start_time_unix_nano", "time_unix_nano", "flags")

_READ: Mapping[str, tuple[str, ...]] = {
    "ExportTraceServiceRequest": ("resource_spans",),
    "ExportMetricsServiceRequest": ("resource_metrics",),
    "ExportLogsServiceRequest": ("resource_logs",),
    "Resource": ("attributes",),
    "InstrumentationScope": ("name", "version", "attributes"),
    "KeyValue": ("key", "value"),
    "AnyValue": (
        *("string_value", "bool_value", "int_value", "double_value", "array_value", "kvlist_value", "bytes_value"),
        "string_value_strindex",
    ),
    "ArrayValue": ("values",),
    "KeyValueList": ("values",),
    "ResourceSpans": ("resource", "scope_spans"),
    "ScopeSpans": ("scope", "spans"),
    "Span": (
        *("trace_id", "trace_state", "kind", "start_time_unix_nano", "end_time_unix_nano", "attributes", "events"),
        "status",
    ),
    "Event": ("name",),
    "Status": ("code",),
    "ResourceLogs": ("resource", "scope_logs"),
    "ScopeLogs": ("scope", "log_records"),
    "LogRecord": (
        *("time_unix_nano", "observed_time_unix_nano", "severity_number", "attributes", "trace_id", "event_name"),
    ),
    "ResourceMetrics": ("resource", "scope_metrics"),
    "ScopeMetrics": ("scope", "metrics"),
    "Metric": ("name", "unit", "gauge", "sum", "histogram", "exponential_histogram", "summary"),
    "Gauge": ("data_points",),
    "Sum": ("data_points", "aggregation_temporality", "is_monotonic"),
    "Histogram": ("data_points", "aggregation_temporality"),
    "ExponentialHistogram": ("data_points", "aggregation_temporality"),
    "Summary": ("data_points",),
    "NumberDataPoint": (*_POINT, "as_double", "as_int"),
    "HistogramDataPoint": (*_POINT, "count", "sum", "bucket_counts", "explicit_bounds"),
    "ExponentialHistogramDataPoint": (
        *(*_POINT, "count", "sum", "scale", "zero_count", "zero_threshold", "positive", "negative"),
    ),
    "Buckets": ("offset", "bucket_counts"),
    "SummaryDataPoint": _POINT,
}
"""Per message the fields that some decoder reads, of every signal."""

REQUESTS: Mapping[Signal, str] = {
    Signal.SPAN: ExportTraceServiceRequest.DESCRIPTOR.full_name,
    Signal.METRIC: ExportMetricsServiceRequest.DESCRIPTOR.full_name,
    Signal.LOG: ExportLogsServiceRequest.DESCRIPTOR.full_name,
}
"""Full name of a signal's request."""

_ROOTS = {
    message.DESCRIPTOR.full_name: message.DESCRIPTOR
    for message in (ExportTraceServiceRequest, ExportMetricsServiceRequest, ExportLogsServiceRequest)
}


def brackets_max(depth: int) -> int:
    """Returns how many brackets may be open at once in a message whose values may be nested `depth` levels deep."""
    return _BRACKETS_AROUND + _BRACKETS_A_LEVEL * min(depth, _DEPTH_MAX)


@cache
def fields(signal: Signal) -> Mapping[str, Mapping[str, Field]]:
    """Returns, of each message in a signal's request, the fields that are read, by their names in JSON."""
    found: dict[str, Mapping[str, Field]] = {}
    waiting = [_ROOTS[REQUESTS[signal]]]
    while waiting:
        message = waiting.pop()
        if message.full_name in found:
            continue
        read = [_field(descriptor) for descriptor in _descriptors(message)]
        found[message.full_name] = {field.name: field for field in read}
        waiting.extend(d.message_type for d in _descriptors(message) if d.message_type is not None)
    return found


def _descriptors(message: Descriptor) -> list[FieldDescriptor]:
    # A release of the descriptors that has not yet a field has no value of it to read either.
    return [message.fields_by_name[name] for name in _READ[message.name] if name in message.fields_by_name]


def _field(descriptor: FieldDescriptor) -> Field:
    kind = Kind.TRACE_ID if descriptor.name == "trace_id" else _KINDS[descriptor.type]
    message = descriptor.message_type
    return Field(
        name=descriptor.json_name,
        number=descriptor.number,
        kind=kind,
        repeated=descriptor.is_repeated,
        message=message.full_name if message is not None else "",
    )


def request_member(signal: Signal) -> str:
    """Returns the one member of a signal's request, as `resourceSpans`."""
    (name,) = fields(signal)[REQUESTS[signal]]
    return name


def nothing_of(signal: Signal, value: bytes) -> str:
    """Returns a sentence on a message that has members, but none of its signal."""
    own = request_member(signal)
    for other in REQUESTS:
        if other != signal and f'"{request_member(other)}"'.encode() in value:
            name = request_member(other)
            return f"this is an OTLP/JSON message of another signal: it has {name}; this source is read for {own}"
    return f"this is JSON but no OTLP request of this signal: there is no {own} in it (names are lowerCamelCase)"
