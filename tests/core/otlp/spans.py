"""Makes OTLP attributes and spans from plain values."""

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

T0 = 1_767_323_045_000_000_000


def attribute(key, value):
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    if isinstance(value, list):
        return KeyValue(key=key, value=AnyValue(array_value=ArrayValue()))
    return KeyValue(key=key)


def attributes(*pairs):
    return [attribute(key, value) for key, value in pairs]


def span(*pairs, **fields):
    made = {"start_time_unix_nano": T0, "end_time_unix_nano": T0 + 5, "kind": Span.SPAN_KIND_SERVER, **fields}
    return Span(attributes=attributes(*pairs), **made)
