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

import struct
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import NO_CODE, Kind, RejectReason, RowFlag, Signal, Status, fixed_weight
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Message, Messages, Reading, semconv
from stream.core.otlp.reference import schema
from stream.core.otlp.reference.batch import Batch, Refusal, Row
from stream.core.otlp.reference.reading import (
    AllowList,
    Attributes,
    all_utf8,
    any_longer,
    as_text,
    first_of_each,
    is_exception,
    is_utf8,
    service_of,
    status_code,
    text,
    too_large,
)
from stream.core.otlp.sampling import adjusted_count
from stream.core.units import TIME_NS_MAX, WEIGHT_ONE

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


class _Reader:
    """Reads the spans of one message."""

    def __init__(self, message: Message, batch: Batch, reading: Reading) -> None:
        self._message = message
        self._batch = batch
        self._limits = reading.limits
        self._listed = AllowList(reading.attributes)
        self._of_resources = self._listed.with_fields(semconv.RESOURCE_ATTRIBUTES)
        self._of_spans = self._listed.with_fields(semconv.SPAN_ATTRIBUTES)
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
                    found = first_of_each(span.attributes, self._of_spans) if span.attributes else {}
                    if resource.too_long or self._is_too_long(span.trace_state, found):
                        self._too_long += 1
                    else:
                        rows.append(self._row(resource, span, found))
        return rows, refusals(self._too_many, self._too_long, self._limits)

    def _is_too_long(self, tracestate: bytes, found: Attributes) -> bool:
        limit = self._limits.value_bytes
        return len(tracestate) > limit or any_longer(found, limit)

    def _resource(self, resource: Any) -> _Resource:
        found = first_of_each(resource.attributes, self._of_resources)
        return _Resource(
            service=service_of(found, self._batch),
            version=self._batch.version(text(found, semconv.SERVICE_VERSION)),
            attributes=found,
            too_many=len(resource.attributes) > self._limits.attributes,
            too_long=self._is_too_long(b"", found),
            flags=0 if all_utf8(found) else _INVALID_UTF8,
        )

    def _row(self, resource: _Resource, span: Any, found: Attributes) -> Row:
        kind = span.kind if 0 <= span.kind <= _KIND_MAX else 0
        status = span.status.code if 0 <= span.status.code <= _STATUS_MAX else 0
        flags = resource.flags
        code, error_type = NO_CODE, ""
        if found:
            code, error_type = status_code(found), text(found, semconv.ERROR_TYPE)
            flags |= 0 if all_utf8(found) else _INVALID_UTF8
        weight, weight_flags = _weight(span)
        flags |= weight_flags
        if semconv.failed(kind=kind, status=status, error_type=error_type, code=code):
            flags |= _FAILED
        if span.events and any(is_exception(event.name) for event in span.events):
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
            self._batch.attributes(self._listed.found(found, resource.attributes)) if self._listed else 0,
            *(_TRACE_ID.unpack(trace_id) if len(trace_id) == _TRACE_ID.size else _NO_TRACE_ID),
        )


def _weight(span: Any) -> tuple[int, int]:
    """Returns the adjusted count in 2^-16 and the flags that the tracestate sets."""
    tracestate = span.trace_state
    if not tracestate:
        return WEIGHT_ONE, _SAMPLING_UNKNOWN
    flags = 0 if is_utf8(tracestate) else _INVALID_UTF8
    count = adjusted_count(as_text(tracestate), span.trace_id)
    if count is None:
        return WEIGHT_ONE, flags | _SAMPLING_UNKNOWN
    weight, capped = fixed_weight(count)
    return weight, flags | _WEIGHT_CAPPED if capped else flags
