"""Reference decoder of OTLP logs in protobuf: `ExportLogsServiceRequest`, the same bytes as `LogsData`.

Rules that every decoder of OTLP logs keeps:

* Every log record is one item and one row of one event. It has no kind and no duration.
* It ends at its time, else at the time when it was observed; without either it is refused.
* The severity number is kept as it was sent up to 127, also one above the 24 of the data model; others count as 0.
  From ERROR on (17) the status is ERROR, below it is UNSET.
* Codes and `error.type` are attributes, read as those of spans are; where `error.type` is absent, `exception.type` is
  the error type. An exception is a record with that attribute, or with the event name `exception` or `*.exception`.
* The event name is the record's field, else its attribute `event.name`.
* The weight is that of the threshold in `sampling.threshold`, checked against `sampling.randomness`, else against the
  trace id, as in a tracestate. Both are texts.
* What is checked of a record, in this order; the first that fails names the reason: too many attributes (of its
  resource, its scope or itself), a text of its resource or itself that is read too long, no time.
* Duplicated keys, values of other types, invalid UTF-8 and messages of other signals are treated as in traces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import Kind, RejectReason, RowFlag, Signal, Status, fixed_weight
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
    sent_text,
    service_of,
    status_code,
    text,
    too_large,
)
from stream.core.otlp.sampling import adjusted_count
from stream.core.units import TIME_NS_MAX, WEIGHT_ONE

EXCEPTION_TYPE = "exception.type"
EVENT_NAME = "event.name"
THRESHOLD, RANDOMNESS = "sampling.threshold", "sampling.randomness"
LOG_ATTRIBUTES = frozenset((*semconv.SPAN_ATTRIBUTES, EXCEPTION_TYPE, EVENT_NAME, THRESHOLD, RANDOMNESS))

SEVERITY_MAX = 127
SEVERITY_ERROR = 17
"""Source: opentelemetry-specification, `logs/data-model.md`, "Mapping of SeverityNumber"."""

_HEXADECIMAL = re.compile(rb"[0-9a-f]+")
_TRACE_ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resource:
    service: int
    version: int
    attributes: Attributes
    too_many: bool
    too_long: bool
    flags: int


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP protobuf log messages; never raises on what a producer sent.

    A tombstone and an empty request (zero bytes) are received and hold no items.
    """
    batch = Batch()
    for message in messages:
        if not message.value:
            batch.accept(message)
            continue
        request = parsed(message.value, reading.limits)
        if isinstance(request, Refusal):
            batch.reject(message, request.reason, request.detail)
        else:
            _Reader(message, batch, reading).read(request)
    return batch.decoded()


def parsed(value: bytes, limits: Limits) -> Any | Refusal:
    """Returns a request, or why the message is refused as a whole."""
    if reason := too_large(value, limits):
        return _whole(*reason)
    try:
        request = schema.LOGS.FromString(value)
    except ProtobufDecodeError as error:
        return _whole(*schema.unreadable(value, Signal.LOG, error))
    # A span or a metric that happens to parse as a log record has no time.
    if not schema.is_timed(request) and (foreign := schema.foreign(value, Signal.LOG, request)):
        return _whole(RejectReason.WRONG_TYPE, foreign)
    items = sum(1 for _ in _records(request))
    if items > limits.items:
        return too_many_items(limits)
    return request


def _whole(reason: RejectReason, detail: str) -> Refusal:
    return Refusal(reason=reason, items=1, detail=detail)


def too_many_items(limits: Limits) -> Refusal:
    """Returns the refusal of a message for the number of its log records."""
    return _whole(
        RejectReason.TOO_MANY_ITEMS, f"this message has more log records than limits.items allows: {limits.items}"
    )


def _records(request: Any) -> Iterator[Any]:
    for resource_logs in request.resource_logs:
        for scope_logs in resource_logs.scope_logs:
            yield from scope_logs.log_records


class _Reader:
    """Reads the log records of one message."""

    def __init__(self, message: Message, batch: Batch, reading: Reading) -> None:
        self._message = message
        self._batch = batch
        self._limits = reading.limits
        self._listed = AllowList(reading.attributes)
        self._of_resources = self._listed.with_fields(semconv.RESOURCE_ATTRIBUTES)
        self._of_records = self._listed.with_fields(LOG_ATTRIBUTES)

    def read(self, request: Any) -> None:
        """Adds the rows and the receipt of a request to the batch."""
        rows: list[Row] = []
        refused: dict[RejectReason, int] = {}
        for resource_logs in request.resource_logs:
            resource = self._resource(resource_logs.resource)
            for scope_logs in resource_logs.scope_logs:
                too_many = resource.too_many or len(scope_logs.scope.attributes) > self._limits.attributes
                for record in scope_logs.log_records:
                    found = first_of_each(record.attributes, self._of_records)
                    reason = self._refused(resource, too_many, record, found)
                    if reason is None:
                        rows.append(self._row(resource, record, found))
                    else:
                        refused[reason] = refused.get(reason, 0) + 1
        refusals = [
            Refusal(reason=reason, items=refused[reason], detail=detail_of(reason, self._limits))
            for reason in RejectReason
            if reason in refused
        ]
        self._batch.accept(self._message, rows, refusals)

    def _resource(self, resource: Any) -> _Resource:
        found = first_of_each(resource.attributes, self._of_resources)
        return _Resource(
            service=service_of(found, self._batch),
            version=self._batch.version(text(found, semconv.SERVICE_VERSION)),
            attributes=found,
            too_many=len(resource.attributes) > self._limits.attributes,
            too_long=any_longer(found, self._limits.value_bytes),
            flags=0 if all_utf8(found) else int(RowFlag.INVALID_UTF8),
        )

    def _refused(self, resource: _Resource, too_many: bool, record: Any, found: Attributes) -> RejectReason | None:
        if too_many or len(record.attributes) > self._limits.attributes:
            return RejectReason.TOO_MANY_ATTRIBUTES
        if (
            resource.too_long
            or any_longer(found, self._limits.value_bytes)
            or len(record.event_name) > self._limits.value_bytes
        ):
            return RejectReason.VALUE_TOO_LONG
        if not record.time_unix_nano and not record.observed_time_unix_nano:
            return RejectReason.MISSING_FIELD
        return None

    def _row(self, resource: _Resource, record: Any, found: Attributes) -> Row:
        severity = record.severity_number if 1 <= record.severity_number <= SEVERITY_MAX else 0
        status = int(Status.ERROR if severity >= SEVERITY_ERROR else Status.UNSET)
        exception_type = sent_text(found, EXCEPTION_TYPE)
        error_type = sent_text(found, semconv.ERROR_TYPE) or exception_type
        name = record.event_name or sent_text(found, EVENT_NAME)
        code = status_code(found)
        weight, flags = _weight(found, record.trace_id)
        flags |= resource.flags
        if not (is_utf8(record.event_name) and all_utf8(found)):
            flags |= RowFlag.INVALID_UTF8
        if semconv.failed(kind=Kind.UNSPECIFIED, status=status, error_type=as_text(error_type), code=code):
            flags |= RowFlag.FAILED
        if exception_type or is_exception(name):
            flags |= RowFlag.EXCEPTION
        trace_hi, trace_lo = _trace_id(record.trace_id)
        return Row(
            source=self._message.source,
            offset=self._message.offset,
            service=resource.service,
            version=resource.version,
            kind=int(Kind.UNSPECIFIED),
            status=status,
            code=code,
            error_type=self._batch.error_type(as_text(error_type)),
            end_ns=min(record.time_unix_nano or record.observed_time_unix_nano, TIME_NS_MAX),
            duration_ns=0,
            events=1,
            weight=weight,
            flags=int(flags),
            signal=int(Signal.LOG),
            severity=severity,
            name=self._batch.name(as_text(name)),
            attributes=self._batch.attributes(self._listed.found(found, resource.attributes)),
            trace_hi=trace_hi,
            trace_lo=trace_lo,
        )


def detail_of(reason: RejectReason, limits: Limits) -> str:
    """Returns a sentence that says why log records were refused."""
    if reason == RejectReason.TOO_MANY_ATTRIBUTES:
        return f"a log record, its scope or its resource has more than limits.attributes allows: {limits.attributes}"
    if reason == RejectReason.VALUE_TOO_LONG:
        return f"a text of a log record is longer than limits.value_bytes allows: {limits.value_bytes}"
    assert reason == RejectReason.MISSING_FIELD
    return "a log record has neither time_unix_nano nor observed_time_unix_nano"


def _weight(attributes: Attributes, trace_id: bytes) -> tuple[int, int]:
    """Returns the adjusted count in 2^-16 and the flags that it sets."""
    threshold, randomness = sent_text(attributes, THRESHOLD), sent_text(attributes, RANDOMNESS)
    count = None
    if _HEXADECIMAL.fullmatch(threshold) and (not randomness or _HEXADECIMAL.fullmatch(randomness)):
        rv = f";rv:{randomness.decode()}" if randomness else ""
        count = adjusted_count(f"ot=th:{threshold.decode()}{rv}", trace_id)
    if count is None:
        return WEIGHT_ONE, int(RowFlag.SAMPLING_UNKNOWN)
    weight, capped = fixed_weight(count)
    return weight, int(RowFlag.WEIGHT_CAPPED) if capped else 0


def _trace_id(trace_id: bytes) -> tuple[int, int]:
    """Returns the two halves of a trace id as signed words, 0 and 0 for what is none."""
    if len(trace_id) != _TRACE_ID_BYTES:
        return 0, 0
    high, low = (int.from_bytes(half, "big", signed=True) for half in (trace_id[:8], trace_id[8:]))
    return high, low
