"""Reference decoder of OTLP traces in protobuf: `ExportTraceServiceRequest`, the same bytes as `TracesData`.

Rules that every decoder of OTLP traces keeps:

* Every span is one item and one row, whatever its kind.
* Of a duplicated attribute key the first counts. A value of another type than the conventions give it (a
  numeric `service.name`, an HTTP status as text) counts as absent, and so does an empty string.
* An RPC status is more specific than the HTTP status that carried it, so it wins where a span has both.
* A kind or status that this version does not know is UNSPECIFIED or UNSET.
* An attribute of the allow-list is looked for in the span under its name, then its older name, then in the resource
  likewise. Only a string, a boolean, an integer or a finite number is kept; anything else counts as absent.
* A text is read when it is a tracestate, or the first value of a key that is wanted from a resource or a span. One that
  is no UTF-8 flags its span, or the spans of its resource.
* A span has an exception when the name of one of its events is `exception` or ends in `.exception`.
* What is checked of a span, in this order: the attributes of its resource, its scope and itself are too many; a text
  of its resource or itself is too long.
* A message that is too large, cannot be read, is nested too deep (100 levels) or has too many spans is refused as a
  whole, in this order. A compiled decoder may accept attributes that nobody reads at any depth.
* A message of another signal is refused as `wrong_type`. One that holds only a resource is the same bytes in
  every signal: it has no items.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import NO_CODE, Kind, RejectReason, RowFlag, Signal, Status, fixed_weight
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Message, Messages, Reading, semconv
from stream.core.otlp.attributes import Value
from stream.core.otlp.reference import schema
from stream.core.otlp.reference.batch import Batch, Refusal, Row
from stream.core.otlp.sampling import adjusted_count
from stream.core.units import TIME_NS_MAX, WEIGHT_ONE

# Messages are made of descriptors at run time: they have no static type.
AnyValue = Any
Attributes = Mapping[bytes, AnyValue]
"""Wanted attributes by key; of a duplicated key the first."""

_KIND_MAX = int(max(Kind))
_STATUS_MAX = int(max(Status))
_FAILED = int(RowFlag.FAILED)
_SAMPLING_UNKNOWN = int(RowFlag.SAMPLING_UNKNOWN)
_WEIGHT_CAPPED = int(RowFlag.WEIGHT_CAPPED)
_NEGATIVE_DURATION = int(RowFlag.NEGATIVE_DURATION)
_INVALID_UTF8 = int(RowFlag.INVALID_UTF8)
_EXCEPTION = int(RowFlag.EXCEPTION)

_TRACE_ID = struct.Struct(">qq")
_NO_TRACE_ID = (0, 0)
_EXCEPTION_NAME = b"exception"
_GRPC_CODES = {name.encode(): code for name, code in semconv.GRPC_CODES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resource:
    service: int
    version: int
    attributes: Attributes
    too_many: bool
    too_long: bool
    flags: int


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP protobuf trace messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    batch = Batch()
    for message in messages:
        if not message.value:
            batch.accept(message, ())
            continue
        if reason := too_large(message.value, reading.limits):
            batch.reject(message, *reason)
            continue
        try:
            request = schema.TRACES.FromString(message.value)
        except ProtobufDecodeError as error:
            batch.reject(message, *schema.unreadable(message.value, Signal.SPAN, error))
            continue
        # Every span that ended has an end time; a metric or log that happens to parse as a span has none.
        if not schema.is_timed(request) and (detail := schema.foreign(message.value, Signal.SPAN, request)):
            batch.reject(message, RejectReason.WRONG_TYPE, detail)
            continue
        spans = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        if reason := too_many_items(spans, reading.limits):
            batch.reject(message, *reason)
            continue
        batch.accept(message, *_Reader(message, batch, reading).read(request))
    return batch.decoded()


def too_large(value: bytes, limits: Limits) -> tuple[RejectReason, str] | None:
    """Returns why a message is refused for its size, or None."""
    if len(value) <= limits.message_bytes:
        return None
    detail = f"this message has {len(value)} bytes, more than limits.message_bytes allows: {limits.message_bytes}"
    return RejectReason.TOO_LARGE, detail


def too_many_items(spans: int, limits: Limits) -> tuple[RejectReason, str] | None:
    """Returns why a message is refused for the number of its spans, or None."""
    if spans <= limits.items:
        return None
    detail = f"this message has {spans} spans, more than limits.items allows: {limits.items}"
    return RejectReason.TOO_MANY_ITEMS, detail


def refusals(too_many: int, too_long: int, limits: Limits) -> list[Refusal]:
    """Returns the refusals of a message's spans.

    Args:
        too_many: Spans with too many attributes.
        too_long: Spans with a text that is too long.
        limits: What was exceeded.
    """
    detail = f"a span, its scope or its resource has more than limits.attributes: {limits.attributes}"
    many = Refusal(reason=RejectReason.TOO_MANY_ATTRIBUTES, items=too_many, detail=detail)
    detail = f"a text of a span or its resource is longer than limits.value_bytes: {limits.value_bytes}"
    long = Refusal(reason=RejectReason.VALUE_TOO_LONG, items=too_long, detail=detail)
    return [refusal for refusal in (many, long) if refusal.items]


def names_of(key: str) -> tuple[str, ...]:
    """Returns the names of an attribute of the allow-list, in the order in which they are looked for."""
    old = semconv.OLD_NAMES.get(key)
    return (key,) if old is None else (key, old)


class _Reader:
    """Reads the spans of one message."""

    def __init__(self, message: Message, batch: Batch, reading: Reading) -> None:
        self._message = message
        self._batch = batch
        self._limits = reading.limits
        self._names = {key: tuple(name.encode() for name in names_of(key)) for key in reading.attributes}
        listed = {name for names in self._names.values() for name in names}
        self._of_resources = listed.union(name.encode() for name in semconv.RESOURCE_ATTRIBUTES)
        self._of_spans = listed.union(name.encode() for name in semconv.SPAN_ATTRIBUTES)
        self._too_many = 0
        self._too_long = 0

    def read(self, request: Any) -> tuple[list[Row], list[Refusal]]:
        """Returns the rows of a request, and its spans that are refused."""
        rows: list[Row] = []
        limit = self._limits.attributes
        for resource_spans in request.resource_spans:
            resource = self._resource(resource_spans.resource)
            for scope_spans in resource_spans.scope_spans:
                too_many = resource.too_many or len(scope_spans.scope.attributes) > limit
                for span in scope_spans.spans:
                    if too_many or len(span.attributes) > limit:
                        self._too_many += 1
                        continue
                    found = _first_of_each(span.attributes, self._of_spans) if span.attributes else {}
                    if resource.too_long or self._is_too_long(span.trace_state, found):
                        self._too_long += 1
                    else:
                        rows.append(self._row(resource, span, found))
        return rows, refusals(self._too_many, self._too_long, self._limits)

    def _is_too_long(self, tracestate: bytes, found: Attributes) -> bool:
        limit = self._limits.value_bytes
        return len(tracestate) > limit or any(len(value.string_value) > limit for value in found.values())

    def _resource(self, resource: Any) -> _Resource:
        found = _first_of_each(resource.attributes, self._of_resources)
        environments = (_text(found, name) for name in semconv.ENVIRONMENTS)
        service = self._batch.service(
            next(filter(None, environments), None),
            _text(found, semconv.SERVICE_NAMESPACE) or None,
            _text(found, semconv.SERVICE_NAME) or None,
        )
        return _Resource(
            service=service,
            version=self._batch.version(_text(found, semconv.SERVICE_VERSION)),
            attributes=found,
            too_many=len(resource.attributes) > self._limits.attributes,
            too_long=self._is_too_long(b"", found),
            flags=_utf8_flag(found),
        )

    def _row(self, resource: _Resource, span: Any, found: Attributes) -> Row:
        kind = span.kind if 0 <= span.kind <= _KIND_MAX else 0
        status = span.status.code if 0 <= span.status.code <= _STATUS_MAX else 0
        flags = resource.flags
        code, error_type = NO_CODE, ""
        if found:
            code, error_type = _code(found), _text(found, semconv.ERROR_TYPE)
            flags |= _utf8_flag(found)
        weight, weight_flags = _weight(span)
        flags |= weight_flags
        if semconv.failed(kind=kind, status=status, error_type=error_type, code=code):
            flags |= _FAILED
        if span.events and any(_is_exception(event.name) for event in span.events):
            flags |= _EXCEPTION
        end_ns = span.end_time_unix_nano
        # From the times as sent: two clipped times would have no distance.
        duration_ns = end_ns - span.start_time_unix_nano
        if duration_ns < 0:
            duration_ns = 0
            flags |= _NEGATIVE_DURATION
        trace_id = span.trace_id
        return Row(
            self._message.source,
            self._message.offset,
            resource.service,
            resource.version,
            kind,
            status,
            code,
            self._batch.error_type(error_type),
            min(end_ns, TIME_NS_MAX),
            min(duration_ns, TIME_NS_MAX),
            1,
            weight,
            flags,
            Signal.SPAN,
            0,
            0,
            self._batch.attributes(self._listed(found, resource.attributes)) if self._names else 0,
            *(_TRACE_ID.unpack(trace_id) if len(trace_id) == _TRACE_ID.size else _NO_TRACE_ID),
        )

    def _listed(self, *places: Attributes) -> dict[str, Value]:
        """Returns the attributes of the allow-list."""
        values: dict[str, Value] = {}
        for key, names in self._names.items():
            candidates = (_kept(place[name]) for place in places for name in names if name in place)
            value = next((candidate for candidate in candidates if candidate is not None), None)
            if value is not None:
                values[key] = value
        return values


def _first_of_each(attributes: Iterable[Any], wanted: set[bytes]) -> Attributes:
    """Returns the wanted attributes by key; of a duplicated key the first."""
    found: dict[bytes, AnyValue] = {}
    for attribute in attributes:
        key = attribute.key
        if key in wanted and key not in found:
            found[key] = attribute.value
    return found


def _text(attributes: Attributes, name: str) -> str:
    value = attributes.get(name.encode())
    return value.string_value.decode("utf-8", "replace") if value is not None else ""  # of another type: the default


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _utf8_flag(attributes: Attributes) -> int:
    return 0 if all(_is_utf8(value.string_value) for value in attributes.values()) else _INVALID_UTF8


def _weight(span: Any) -> tuple[int, int]:
    """Returns the adjusted count in 2^-16 and the flags that the tracestate sets."""
    tracestate = span.trace_state
    if not tracestate:
        return WEIGHT_ONE, _SAMPLING_UNKNOWN
    flags = 0 if _is_utf8(tracestate) else _INVALID_UTF8
    count = adjusted_count(tracestate.decode("utf-8", "replace"), span.trace_id)
    if count is None:
        return WEIGHT_ONE, flags | _SAMPLING_UNKNOWN
    weight, capped = fixed_weight(count)
    return weight, flags | _WEIGHT_CAPPED if capped else flags


def _is_exception(name: bytes) -> bool:
    return name == _EXCEPTION_NAME or name.endswith(b"." + _EXCEPTION_NAME)


def _code(attributes: Attributes) -> int:
    """Returns the gRPC status code, else the HTTP one, else `NO_CODE`; out of its range it is absent."""
    for name in semconv.RPC_STATUS_CODES:
        value = attributes.get(name.encode())
        if value is None:
            continue
        if value.HasField("int_value") and semconv.is_grpc_code(value.int_value):
            return int(value.int_value)
        if value.string_value in _GRPC_CODES:
            return _GRPC_CODES[value.string_value]
    for name in semconv.HTTP_STATUS_CODES:
        value = attributes.get(name.encode())
        # An absent or differently typed integer reads as 0, which is no HTTP status.
        if value is not None and semconv.is_http_code(value.int_value):
            return int(value.int_value)
    return NO_CODE


def _kept(value: AnyValue) -> Value | None:
    """Returns the value of an allow-listed attribute; None where it counts as absent."""
    match value.WhichOneof("value"):
        case "string_value":
            return str(value.string_value, "utf-8", "replace")
        case "bool_value" | "int_value" as name:
            number: bool | int = getattr(value, name)
            return number
        case "double_value" if math.isfinite(value.double_value):
            return float(value.double_value)
    return None
