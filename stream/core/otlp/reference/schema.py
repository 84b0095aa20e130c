"""The official schemas of OTLP with `bytes` in place of `string`, and what a message is that is not what was asked for.

A parser refuses a message as a whole where a `string` in it is no UTF-8. A Collector passes such messages on, and one
bad text must not cost its neighbours: the plain decoders read bytes and decode the texts that they use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message as ProtobufMessage
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from stream.core.columns import RejectReason, Signal

_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_POOL = descriptor_pool.DescriptorPool()
_TOO_DEEP = "MaxDepth"
_JSON = re.compile(rb'\s*\{\s*["}]')


def _add(file: FileDescriptor, added: set[str]) -> None:
    """Adds a file and those it imports to the private pool, with bytes for strings."""
    if file.name in added:
        return
    added.add(file.name)
    for imported in file.dependencies:
        _add(imported, added)
    proto = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    messages = list(proto.message_type)
    while messages:
        message = messages.pop()
        messages.extend(message.nested_type)
        for field in message.field:
            if field.type == _STRING:
                field.type = _BYTES
    _POOL.Add(proto)


def _requests() -> Iterator[Any]:
    added: set[str] = set()
    for service, name in (
        (trace_service_pb2, "ExportTraceServiceRequest"),
        (metrics_service_pb2, "ExportMetricsServiceRequest"),
        (logs_service_pb2, "ExportLogsServiceRequest"),
    ):
        _add(service.DESCRIPTOR, added)
        descriptor = _POOL.FindMessageTypeByName(f"{service.DESCRIPTOR.package}.{name}")
        yield message_factory.GetMessageClass(descriptor)


TRACES, METRICS, LOGS = _requests()
"""Message classes of the export requests. Made at run time, so they have no static type."""

_REQUESTS = {Signal.SPAN: TRACES, Signal.METRIC: METRICS, Signal.LOG: LOGS}
_NAMES = {Signal.SPAN: "traces", Signal.METRIC: "metrics", Signal.LOG: "logs"}


def unreadable(value: bytes, signal: Signal, error: ProtobufDecodeError) -> tuple[RejectReason, str]:
    """Returns why bytes that do not parse are refused: another signal, another encoding, too deep or broken.

    Args:
        value: The message.
        signal: What it was read as.
        error: What the parser said.
    """
    if (other := _other_signal(value, signal)) is not None:
        return RejectReason.WRONG_TYPE, _signal_detail(other, signal)
    if _JSON.match(value):
        return RejectReason.WRONG_TYPE, "this looks like JSON; this source is read as OTLP protobuf"
    if _TOO_DEEP in str(error):
        return RejectReason.TOO_DEEP, f"these {len(value)} bytes are nested too deep: at most 100 levels are read"
    cause = str(error).rpartition("': ")[2]
    return RejectReason.MALFORMED, f"these {len(value)} bytes are no OTLP {_NAMES[signal]} request: {cause}"


def foreign(value: bytes, signal: Signal, request: Any) -> str | None:
    """Returns what a message is instead of what it was read as; None where it may be that.

    Args:
        value: The message.
        signal: What it was read as.
        request: What the parser made of it. None of its items has a time (`is_timed`).
    """
    if (other := _other_signal(value, signal)) is not None:
        return _signal_detail(other, signal)
    if _has_unknown_fields(request):
        return f"these bytes have fields that an OTLP {_NAMES[signal]} request does not have, and no item with a time"
    return None


def is_timed(request: Any) -> bool:
    """Returns whether an item of a request has a time: the end of a span, the time of a point or of a log record.

    Times decide what a message is because no signal can imitate another's: their fields have other wire types.
    """
    if isinstance(request, TRACES):
        return any(span.end_time_unix_nano for span in _leaves(request, "resource_spans", "scope_spans", "spans"))
    if isinstance(request, METRICS):
        return any(
            point.time_unix_nano
            for metric in _leaves(request, "resource_metrics", "scope_metrics", "metrics")
            if (data := metric.WhichOneof("data"))
            for point in getattr(metric, data).data_points
        )
    return any(
        record.time_unix_nano or record.observed_time_unix_nano
        for record in _leaves(request, "resource_logs", "scope_logs", "log_records")
    )


def _leaves(message: Any, *names: str) -> Iterator[Any]:
    """Yields the messages at the end of a path of repeated fields."""
    first, *rest = names
    for part in getattr(message, first):
        if rest:
            yield from _leaves(part, *rest)
        else:
            yield part


def _other_signal(value: bytes, signal: Signal) -> Signal | None:
    """Returns the signal that the bytes are a request of, with at least one timed item, where it is another one."""
    for other, request in _REQUESTS.items():
        if other != signal:
            try:
                if is_timed(request.FromString(value)):
                    return other
            except ProtobufDecodeError:
                pass
    return None


def _signal_detail(other: Signal, signal: Signal) -> str:
    return f"this is an OTLP {_NAMES[other]} request; this source is read as OTLP {_NAMES[signal]}"


def _has_unknown_fields(message: ProtobufMessage) -> bool:
    """Returns whether a message, or any within it, has fields that its schema does not have."""
    if len(UnknownFieldSet(message)):
        return True
    return any(
        _has_unknown_fields(part)
        for field, value in message.ListFields()
        if field.message_type is not None
        for part in ([value] if isinstance(value, ProtobufMessage) else value)
    )
