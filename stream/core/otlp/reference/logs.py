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

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError

from stream.core.columns import NO_CODE, Kind, RejectReason, RowFlag, Signal, Status, fixed_weight
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Message, Messages, Reading, semconv
from stream.core.otlp.attributes import Value
from stream.core.otlp.reference import schema
from stream.core.otlp.reference.batch import Batch, Refusal, Row
from stream.core.otlp.reference.traces import names_of
from stream.core.otlp.sampling import adjusted_count
from stream.core.units import TIME_NS_MAX, WEIGHT_ONE

# Messages are made of descriptors at run time: they have no static type.
AnyValue = Any
KeyValue = Any
Attributes = Mapping[bytes, AnyValue]
"""Wanted attributes by key; of a duplicated key the first."""

EXCEPTION_TYPE = "exception.type"
EVENT_NAME = "event.name"
THRESHOLD, RANDOMNESS = "sampling.threshold", "sampling.randomness"
LOG_ATTRIBUTES = frozenset((*semconv.SPAN_ATTRIBUTES, EXCEPTION_TYPE, EVENT_NAME, THRESHOLD, RANDOMNESS))

EXCEPTION = b"exception"
SEVERITY_MAX = 127
SEVERITY_ERROR = 17
"""Source: opentelemetry-specification, `logs/data-model.md`, "Mapping of SeverityNumber"."""

_HEXADECIMAL = re.compile(rb"[0-9a-f]+")
_GRPC_CODES = {name.encode(): code for name, code in semconv.GRPC_CODES.items()}
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
    if len(value) > limits.message_bytes:
        detail = f"this message has {len(value)} bytes, more than limits.message_bytes allows: {limits.message_bytes}"
        return _whole(RejectReason.TOO_LARGE, detail)
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
        self._names = {key: tuple(name.encode() for name in names_of(key)) for key in reading.attributes}
        listed = {name for names in self._names.values() for name in names}
        self._of_resources = listed.union(name.encode() for name in semconv.RESOURCE_ATTRIBUTES)
        self._of_records = listed.union(name.encode() for name in LOG_ATTRIBUTES)

    def read(self, request: Any) -> None:
        """Adds the rows and the receipt of a request to the batch."""
        rows: list[Row] = []
        refused: dict[RejectReason, int] = {}
        for resource_logs in request.resource_logs:
            resource = self._resource(resource_logs.resource)
            for scope_logs in resource_logs.scope_logs:
                too_many = resource.too_many or len(scope_logs.scope.attributes) > self._limits.attributes
                for record in scope_logs.log_records:
                    found = _first_of_each(record.attributes, self._of_records)
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
        found = _first_of_each(resource.attributes, self._of_resources)
        environment = next(filter(None, (_bytes(found, name) for name in semconv.ENVIRONMENTS)), b"")
        namespace, name = _bytes(found, semconv.SERVICE_NAMESPACE), _bytes(found, semconv.SERVICE_NAME)
        version = _bytes(found, semconv.SERVICE_VERSION)
        return _Resource(
            service=self._batch.service(_text(environment) or None, _text(namespace) or None, _text(name) or None),
            version=self._batch.version(_text(version)),
            attributes=found,
            too_many=len(resource.attributes) > self._limits.attributes,
            too_long=self._too_long(found),
            flags=_invalid(*(value.string_value for value in found.values())),
        )

    def _refused(self, resource: _Resource, too_many: bool, record: Any, found: Attributes) -> RejectReason | None:
        if too_many or len(record.attributes) > self._limits.attributes:
            return RejectReason.TOO_MANY_ATTRIBUTES
        if resource.too_long or self._too_long(found) or len(record.event_name) > self._limits.value_bytes:
            return RejectReason.VALUE_TOO_LONG
        if not record.time_unix_nano and not record.observed_time_unix_nano:
            return RejectReason.MISSING_FIELD
        return None

    def _row(self, resource: _Resource, record: Any, found: Attributes) -> Row:
        severity = record.severity_number if 1 <= record.severity_number <= SEVERITY_MAX else 0
        status = int(Status.ERROR if severity >= SEVERITY_ERROR else Status.UNSET)
        exception_type = _bytes(found, EXCEPTION_TYPE)
        error_type = _bytes(found, semconv.ERROR_TYPE) or exception_type
        name = record.event_name or _bytes(found, EVENT_NAME)
        code = _code(found)
        weight, flags = _weight(found, record.trace_id)
        flags |= resource.flags | _invalid(record.event_name, *(value.string_value for value in found.values()))
        if semconv.failed(kind=Kind.UNSPECIFIED, status=status, error_type=_text(error_type), code=code):
            flags |= RowFlag.FAILED
        if exception_type or name == EXCEPTION or name.endswith(b"." + EXCEPTION):
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
            error_type=self._batch.error_type(_text(error_type)),
            end_ns=min(record.time_unix_nano or record.observed_time_unix_nano, TIME_NS_MAX),
            duration_ns=0,
            events=1,
            weight=weight,
            flags=int(flags),
            signal=int(Signal.LOG),
            severity=severity,
            name=self._batch.name(_text(name)),
            attributes=self._batch.attributes(self._listed(found, resource.attributes)),
            trace_hi=trace_hi,
            trace_lo=trace_lo,
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

    def _too_long(self, found: Attributes) -> bool:
        return any(len(value.string_value) > self._limits.value_bytes for value in found.values())


def detail_of(reason: RejectReason, limits: Limits) -> str:
    """Returns a sentence that says why log records were refused."""
    if reason == RejectReason.TOO_MANY_ATTRIBUTES:
        return f"a log record, its scope or its resource has more than limits.attributes allows: {limits.attributes}"
    if reason == RejectReason.VALUE_TOO_LONG:
        return f"a text of a log record is longer than limits.value_bytes allows: {limits.value_bytes}"
    assert reason == RejectReason.MISSING_FIELD
    return "a log record has neither time_unix_nano nor observed_time_unix_nano"


def _first_of_each(attributes: Iterable[KeyValue], wanted: set[bytes]) -> Attributes:
    """Returns the wanted attributes by key; of a duplicated key the first."""
    found: dict[bytes, AnyValue] = {}
    for attribute in attributes:
        key = attribute.key
        if key in wanted and key not in found:
            found[key] = attribute.value
    return found


def _bytes(attributes: Attributes, name: str) -> bytes:
    """Returns a text as sent; empty where it is absent or something else."""
    value = attributes.get(name.encode())
    return value.string_value if value is not None else b""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _invalid(*texts: bytes) -> int:
    """Returns the flag of texts that are no UTF-8, 0 where all are."""
    try:
        b"\n".join(texts).decode()
    except UnicodeDecodeError:
        return int(RowFlag.INVALID_UTF8)
    return 0


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


def _weight(attributes: Attributes, trace_id: bytes) -> tuple[int, int]:
    """Returns the adjusted count in 2^-16 and the flags that it sets."""
    threshold, randomness = _bytes(attributes, THRESHOLD), _bytes(attributes, RANDOMNESS)
    count = None
    if _HEXADECIMAL.fullmatch(threshold) and (not randomness or _HEXADECIMAL.fullmatch(randomness)):
        rv = f";rv:{randomness.decode()}" if randomness else ""
        count = adjusted_count(f"ot=th:{threshold.decode()}{rv}", trace_id)
    if count is None:
        return WEIGHT_ONE, int(RowFlag.SAMPLING_UNKNOWN)
    weight, capped = fixed_weight(count)
    return weight, int(RowFlag.WEIGHT_CAPPED) if capped else 0


def _kept(value: AnyValue) -> Value | None:
    """Returns the value of an allow-listed attribute; None where it counts as absent."""
    match value.WhichOneof("value"):
        case "string_value":
            return _text(value.string_value)
        case "bool_value" | "int_value" as name:
            number: bool | int = getattr(value, name)
            return number
        case "double_value" if math.isfinite(value.double_value):
            return float(value.double_value)
    return None


def _trace_id(trace_id: bytes) -> tuple[int, int]:
    """Returns the two halves of a trace id as signed words, 0 and 0 for what is none."""
    if len(trace_id) != _TRACE_ID_BYTES:
        return 0, 0
    high, low = (int.from_bytes(half, "big", signed=True) for half in (trace_id[:8], trace_id[8:]))
    return high, low
