"""Reference decoder of OTLP traces in protobuf: `ExportTraceServiceRequest`, the same bytes as `TracesData`.

Rules that every decoder of OTLP traces keeps:

* Every span is one item and one row, whatever its kind.
* Of a duplicated attribute key the first counts. A value of another type than the conventions give it (a
  numeric `service.name`, an HTTP status as text) counts as absent, and so does an empty string.
* An RPC status is more specific than the HTTP status that carried it, so it wins where a span has both.
* A kind or status that this version does not know is UNSPECIFIED or UNSET.
* A message that cannot be read, is nested too deep (100 levels) or holds invalid UTF-8 is refused as a whole.
* A message of another signal is refused as `wrong_type`. One that holds only a resource is the same bytes in
  every signal: it has no items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message as ProtobufMessage
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from stream.core.columns import NO_CODE, Kind, RejectReason, RowFlag, Status, fixed_weight
from stream.core.otlp import Decoded, Message, semconv
from stream.core.otlp.batch import Batch, Row
from stream.core.otlp.sampling import adjusted_count
from stream.core.units import TIME_NS_MAX, WEIGHT_ONE

_KIND_MAX = int(max(Kind))
_STATUS_MAX = int(max(Status))
_FAILED = int(RowFlag.FAILED)
_SAMPLING_UNKNOWN = int(RowFlag.SAMPLING_UNKNOWN)
_WEIGHT_CAPPED = int(RowFlag.WEIGHT_CAPPED)
_NEGATIVE_DURATION = int(RowFlag.NEGATIVE_DURATION)

Attributes = Mapping[str, AnyValue]


def decode(messages: Sequence[Message]) -> Decoded:
    """Returns the rows and receipts of OTLP protobuf trace messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    batch = Batch()
    for message in messages:
        if not message.value:
            batch.accept(message, ())
            continue
        try:
            request = ExportTraceServiceRequest.FromString(message.value)
        except ProtobufDecodeError as error:
            batch.reject(message, *_unreadable(message.value, error))
            continue
        # Every span that ended has an end time; a metric or log that happens to parse as a span has none.
        if not _any_span_ended(request) and (foreign := _foreign(message.value, request)):
            batch.reject(message, RejectReason.WRONG_TYPE, foreign)
            continue
        batch.accept(message, _rows(message, request, batch))
    return batch.decoded()


def _rows(message: Message, request: ExportTraceServiceRequest, batch: Batch) -> list[Row]:
    rows: list[Row] = []
    for resource_spans in request.resource_spans:
        service, version = _service(resource_spans.resource, batch)
        for scope_spans in resource_spans.scope_spans:
            rows.extend(
                (message.source, message.offset, service, version, *_span(span, batch)) for span in scope_spans.spans
            )
    return rows


def _service(resource: Resource, batch: Batch) -> tuple[int, int]:
    """Returns the indices of the resource's service key and version."""
    attributes = _first_of_each(resource.attributes, semconv.RESOURCE_ATTRIBUTES)
    environments = (_text(attributes, name) for name in semconv.ENVIRONMENTS)
    service = batch.service(
        next(filter(None, environments), None),
        _text(attributes, semconv.SERVICE_NAMESPACE) or None,
        _text(attributes, semconv.SERVICE_NAME) or None,
    )
    return service, batch.version(_text(attributes, semconv.SERVICE_VERSION))


def _span(span: Span, batch: Batch) -> tuple[int, int, int, int, int, int, int, int, int]:
    """Returns the values of a span from `kind` on, in the order of `Rows.DTYPES`."""
    attributes = _first_of_each(span.attributes, semconv.SPAN_ATTRIBUTES)
    kind = span.kind if 0 <= span.kind <= _KIND_MAX else 0
    status = span.status.code if 0 <= span.status.code <= _STATUS_MAX else 0
    code, error_type = NO_CODE, ""
    if attributes:
        code, error_type = _code(attributes), _text(attributes, semconv.ERROR_TYPE)
    weight, flags = _weight(span)
    if semconv.failed(kind=kind, status=status, error_type=error_type, code=code):
        flags |= _FAILED
    end_ns = span.end_time_unix_nano
    # From the times as sent: two clipped times would have no distance.
    duration_ns = end_ns - span.start_time_unix_nano
    if duration_ns < 0:
        duration_ns = 0
        flags |= _NEGATIVE_DURATION
    return (
        kind,
        status,
        code,
        batch.error_type(error_type),
        min(end_ns, TIME_NS_MAX),
        min(duration_ns, TIME_NS_MAX),
        1,
        weight,
        flags,
    )


def _weight(span: Span) -> tuple[int, int]:
    """Returns the adjusted count in 2^-16 and the flags that it sets."""
    tracestate = span.trace_state
    count = adjusted_count(tracestate, span.trace_id) if tracestate else None
    if count is None:
        return WEIGHT_ONE, _SAMPLING_UNKNOWN
    weight, capped = fixed_weight(count)
    return weight, _WEIGHT_CAPPED if capped else 0


def _first_of_each(attributes: Iterable[KeyValue], wanted: frozenset[str]) -> Attributes:
    """Returns the wanted attributes by key; of a duplicated key the first."""
    found: dict[str, AnyValue] = {}
    for attribute in attributes:
        key = attribute.key
        if key in wanted and key not in found:
            found[key] = attribute.value
    return found


def _text(attributes: Attributes, name: str) -> str:
    value = attributes.get(name)
    return value.string_value if value is not None else ""  # of another type: the empty default


def _code(attributes: Attributes) -> int:
    """Returns the gRPC status code, else the HTTP one, else `NO_CODE`; out of its range it is absent."""
    for name in semconv.RPC_STATUS_CODES:
        value = attributes.get(name)
        if value is None:
            continue
        if value.HasField("int_value") and semconv.is_grpc_code(value.int_value):
            return value.int_value
        if value.string_value in semconv.GRPC_CODES:
            return semconv.GRPC_CODES[value.string_value]
    for name in semconv.HTTP_STATUS_CODES:
        value = attributes.get(name)
        # An absent or differently typed integer reads as 0, which is no HTTP status.
        if value is not None and semconv.is_http_code(value.int_value):
            return value.int_value
    return NO_CODE


def _any_span_ended(request: ExportTraceServiceRequest) -> bool:
    return any(
        span.end_time_unix_nano
        for resource_spans in request.resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    )


def _unreadable(value: bytes, error: ProtobufDecodeError) -> tuple[RejectReason, str]:
    """Returns why bytes that do not parse are refused: another signal, another encoding or broken."""
    if signal := _other_signal(value):
        return RejectReason.WRONG_TYPE, _signal_detail(signal)
    if value.lstrip()[:1] == b"{":
        return RejectReason.WRONG_TYPE, "this looks like JSON; this source is read as OTLP protobuf"
    cause = str(error).rpartition("': ")[2]
    return RejectReason.MALFORMED, f"these {len(value)} bytes are no OTLP traces request: {cause}"


def _foreign(value: bytes, request: ExportTraceServiceRequest) -> str | None:
    """Returns what a message is instead of traces, when no span in it ended; None where it may be traces."""
    if signal := _other_signal(value):
        return _signal_detail(signal)
    if _has_unknown_fields(request):
        return "these bytes have fields that an OTLP traces request does not have, and no span that ended"
    return None


def _signal_detail(signal: str) -> str:
    return f"this is an OTLP {signal} request; this source is read as OTLP traces"


def _other_signal(value: bytes) -> str | None:
    """Returns `metrics` or `logs` where the bytes are a request of that signal with at least one timed item.

    Times decide because a span can not imitate them: a span's fields of these numbers have other wire types.
    """
    try:
        if _has_timed_point(ExportMetricsServiceRequest.FromString(value)):
            return "metrics"
    except ProtobufDecodeError:
        pass
    try:
        if _has_timed_record(ExportLogsServiceRequest.FromString(value)):
            return "logs"
    except ProtobufDecodeError:
        pass
    return None


def _has_timed_point(request: ExportMetricsServiceRequest) -> bool:
    return any(
        point.time_unix_nano
        for resource_metrics in request.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
        if (data := metric.WhichOneof("data"))
        for point in getattr(metric, data).data_points
    )


def _has_timed_record(request: ExportLogsServiceRequest) -> bool:
    return any(
        record.time_unix_nano or record.observed_time_unix_nano
        for resource_logs in request.resource_logs
        for scope_logs in resource_logs.scope_logs
        for record in scope_logs.log_records
    )


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
