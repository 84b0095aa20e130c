"""Reference decoder of flat events: one JSON object a message, `schemas/telemetry-event.v1.schema.json`.

Rules that every decoder of flat events keeps:

* A message is one event, or `count` equal ones, and all of it is accepted or refused; a refused message is one item.
* The first field that is wrong names the reason, in the order of `Event`.
* Fields that are not ours are ignored, null counts as absent. Of a duplicated key the last counts, as in most readers
  of JSON.
* JSON has one kind of number, so 200.0 is the integer 200. A number in quotes is a string: refused.
* What is JSON is what orjson accepts: UTF-8 and no lone surrogate anywhere, no number beyond a double, 1024 levels. So
  a message that cannot be read is refused also where nobody would have looked.
* Of `attributes` only the keys that are asked for are looked at; lists, objects and null in there count as absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

import orjson

from stream.core.columns import NO_CODE, Kind, RejectReason, RowFlag, Signal, Status
from stream.core.errors import DecodeError
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Message, Messages, Reading, semconv
from stream.core.otlp.attributes import Value
from stream.core.otlp.reference.batch import Batch, Row
from stream.core.units import SECOND_NS, TIME_NS_MAX, WEIGHT_MAX, WEIGHT_ONE

MESSAGE_BYTES_MAX = 1 << 20
"""An event of more than 1 MiB is refused unread, whatever the limit of other messages."""

TEXT_MAX = 255
"""Characters of a name, version or error type: these become keys of state and labels."""

COUNT_MAX = WEIGHT_MAX // WEIGHT_ONE
"""Events in one message: as many as the heaviest span may stand for."""

TIME_NS_MIN = 126_230_400 * SECOND_NS
"""1974-01-01. An integer below is a time in seconds, milli- or microseconds that was meant as nanoseconds."""

DURATION_MS_MAX = TIME_NS_MAX // 1_000_000

_ECHO_MAX = 40
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400
_EPOCH_DAYS = date(1970, 1, 1).toordinal()

_RFC_3339 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
    r"(\.(?P<fraction>\d{1,9}))?"
    r"([Zz]|(?P<sign>[+-])(?P<offset_hour>\d\d):(?P<offset_minute>\d\d))",
    re.ASCII,
)

_TRACE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII | re.IGNORECASE)

_STATUSES = {"ok": int(Status.OK), "error": int(Status.ERROR)}
_KINDS = {kind.name.lower(): int(kind) for kind in Kind if kind != Kind.UNSPECIFIED}

_TIME = "an RFC 3339 time with Z or an offset and up to 9 fraction digits, or integer nanoseconds since 1970"
_TIME_RANGE = "a time that exists, from 1974 to 2262"
_INTEGER_TIME_RANGE = f"nanoseconds since 1970, {TIME_NS_MIN} to {TIME_NS_MAX}"


class Event(NamedTuple):
    """The values of an accepted event; texts are empty, numbers their defaults where a field is absent.

    `events` is the field `count`.
    """

    service: str
    environment: str
    namespace: str
    version: str
    end_ns: int
    duration_ns: int
    status: int
    code: int
    error_type: str
    kind: int
    events: int
    id: str
    trace_id: int
    attributes: Mapping[str, Value]


def decode(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of flat events; a tombstone holds no items.

    Never raises on what a producer sent: bad messages are refused in their receipts.
    """
    batch = Batch()
    ids: list[bytes | None] = [None] * len(messages)
    for index, message in enumerate(messages):
        if message.value is None:
            batch.accept(message, ())
            continue
        try:
            event = read(message.value, reading)
        except DecodeError as error:
            batch.reject(message, error.reason, error.detail)
            continue
        batch.accept(message, (_row(message, event, batch),))
        ids[index] = event.id.encode() or None
    return replace(batch.decoded(), ids=ids if reading.ids else ())


def read(value: bytes, reading: Reading) -> Event:
    """Returns the event of a message.

    Raises:
        DecodeError: When the message is refused: its reason is a `RejectReason`.
    """
    event = _object(value, reading.limits)
    service = _text(event, "service")
    if not service:
        raise DecodeError(RejectReason.MISSING_FIELD, "field `service` is missing; expected a service's name")
    return Event(
        service=service,
        environment=_text(event, "environment"),
        namespace=_text(event, "namespace"),
        version=_text(event, "version"),
        end_ns=_time_ns(event),
        duration_ns=_duration_ns(event),
        status=_word(event, "status", _STATUSES, Status.UNSET),
        code=_code(event),
        error_type=_text(event, "error_type"),
        kind=_word(event, "kind", _KINDS, Kind.SERVER),
        events=_count(event),
        id=_text(event, "id"),
        trace_id=_trace_id(event),
        attributes=_attributes(event, reading),
    )


def _object(value: bytes, limits: Limits) -> Mapping[str, Any]:
    bytes_max = min(MESSAGE_BYTES_MAX, limits.message_bytes)
    if len(value) > bytes_max:
        detail = f"the message has {len(value)} bytes; at most {bytes_max} are read"
        raise DecodeError(RejectReason.TOO_LARGE, detail)
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise DecodeError(RejectReason.MALFORMED, f"the message is no JSON in UTF-8: {error}") from error
    if not isinstance(event, dict):
        raise DecodeError(RejectReason.WRONG_TYPE, f"the message is {_shown(event)}; expected a JSON object")
    return event


def _row(message: Message, event: Event, batch: Batch) -> Row:
    failed = semconv.failed(kind=event.kind, status=event.status, error_type=event.error_type, code=event.code)
    trace_hi, trace_lo = trace_words(event.trace_id)
    return Row(
        message.source,
        message.offset,
        batch.service(event.environment or None, event.namespace or None, event.service),
        batch.version(event.version),
        event.kind,
        event.status,
        event.code,
        batch.error_type(event.error_type),
        event.end_ns,
        event.duration_ns,
        event.events,
        event.events * WEIGHT_ONE,
        RowFlag.FAILED if failed else 0,
        signal=Signal.EVENT,
        attributes=batch.attributes(event.attributes),
        trace_hi=trace_hi,
        trace_lo=trace_lo,
    )


def trace_words(trace_id: int) -> tuple[int, int]:
    """Returns the high and the low half of a trace id as the bit patterns of int64."""
    high, low = trace_id >> 64, trace_id & 0xFFFF_FFFF_FFFF_FFFF
    return high - (high >> 63 << 64), low - (low >> 63 << 64)


def _text(event: Mapping[str, Any], field: str) -> str:
    """Returns a string, the empty one where it is absent."""
    value = event.get(field)
    if value is None:
        return ""
    if type(value) is not str:
        raise _refusal(RejectReason.WRONG_TYPE, field, value, "a string")
    if len(value) > TEXT_MAX:
        raise _refusal(RejectReason.OUT_OF_RANGE, field, value, f"at most {TEXT_MAX} characters")
    return value


def _word(event: Mapping[str, Any], field: str, words: Mapping[str, int], default: int) -> int:
    """Returns what one of a few words stands for, the default where it is absent."""
    value = event.get(field)
    if value is None:
        return default
    if type(value) is str and value in words:
        return words[value]
    reason = RejectReason.OUT_OF_RANGE if type(value) is str else RejectReason.WRONG_TYPE
    raise _refusal(reason, field, value, "one of " + ", ".join(f'"{word}"' for word in words))


def _integer(event: Mapping[str, Any], field: str, expected: str) -> int | None:
    value = event.get(field)
    if type(value) is float and value.is_integer():
        return int(value)
    if value is None or type(value) is int:
        return value
    raise _refusal(RejectReason.WRONG_TYPE, field, value, expected)


def _count(event: Mapping[str, Any]) -> int:
    expected = f"an integer of 1 to {COUNT_MAX}"
    count = _integer(event, "count", expected)
    if count is None:
        return 1
    if not 1 <= count <= COUNT_MAX:
        raise _refusal(RejectReason.OUT_OF_RANGE, "count", count, expected)
    return count


def _code(event: Mapping[str, Any]) -> int:
    expected = "the integer of an HTTP (100-599) or gRPC (0-16) status"
    code = _integer(event, "code", expected)
    if code is None:
        return NO_CODE
    if not (semconv.is_http_code(code) or semconv.is_grpc_code(code)):
        raise _refusal(RejectReason.OUT_OF_RANGE, "code", code, expected)
    return code


def _duration_ns(event: Mapping[str, Any]) -> int:
    """Returns `duration_ms` rounded to the nearest ns, 0 where it is absent.

    Bound: a decimal with up to six places is exact below 2^51 ns (26 days), beyond to a double's precision.
    """
    value = event.get("duration_ms")
    if value is None:
        return 0
    if type(value) is not int and type(value) is not float:
        raise _refusal(RejectReason.WRONG_TYPE, "duration_ms", value, "a number of milliseconds")
    if not 0 <= value <= DURATION_MS_MAX:
        expected = f"0 to {DURATION_MS_MAX} milliseconds"
        raise _refusal(RejectReason.OUT_OF_RANGE, "duration_ms", value, expected)
    return round(value * 1_000_000)


def _trace_id(event: Mapping[str, Any]) -> int:
    text = _text(event, "trace_id")
    if not text:
        return 0
    if not _TRACE_ID.fullmatch(text):
        raise _refusal(RejectReason.OUT_OF_RANGE, "trace_id", text, "32 hexadecimal digits")
    return int(text, 16)


def _attributes(event: Mapping[str, Any], reading: Reading) -> Mapping[str, Value]:
    attributes = event.get("attributes")
    if attributes is None:
        return {}
    if type(attributes) is not dict:
        raise _refusal(RejectReason.WRONG_TYPE, "attributes", attributes, "an object")
    if len(attributes) > reading.limits.attributes:
        detail = f"field `attributes` has {len(attributes)} keys; at most {reading.limits.attributes} are read"
        raise DecodeError(RejectReason.TOO_MANY_ATTRIBUTES, detail)
    return wanted(attributes, reading)


def wanted(attributes: Mapping[str, Any], reading: Reading) -> Mapping[str, Value]:
    """Returns the attributes that are asked for, each under its name of today.

    Raises:
        DecodeError: When the text of one of them, under either name, is too long.
    """
    found: dict[str, Value] = {}
    for key in reading.attributes:
        older = semconv.OLD_NAMES.get(key, key)
        for name in (older, key):  # the last one counts, both have to keep the limit
            value = attributes.get(name)
            if isinstance(value, str | bool | int | float):
                _check_size(name, value, reading.limits)
                found[key] = value
    return found


def _check_size(name: str, value: Value, limits: Limits) -> None:
    if isinstance(value, str) and len(value.encode()) > limits.value_bytes:
        detail = f"attribute `{name}` has {len(value.encode())} bytes; at most {limits.value_bytes} are read"
        raise DecodeError(RejectReason.VALUE_TOO_LONG, detail)


def _time_ns(event: Mapping[str, Any]) -> int:
    value = event.get("time")
    if value is None:
        raise DecodeError(RejectReason.MISSING_FIELD, f"field `time` is missing; expected {_TIME}")
    if type(value) is str:
        return _parsed_time_ns(value)
    time_ns = _integer(event, "time", _TIME)
    assert time_ns is not None
    if not TIME_NS_MIN <= time_ns <= TIME_NS_MAX:
        raise _refusal(RejectReason.OUT_OF_RANGE, "time", value, _INTEGER_TIME_RANGE)
    return time_ns


def _parsed_time_ns(text: str) -> int:
    """Returns the nanoseconds since 1970 of an RFC 3339 time. A leap second, :60, is the next minute's first.

    Source: RFC 3339 section 5.6, with the space instead of T that its note allows.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise _refusal(RejectReason.WRONG_TYPE, "time", text, _TIME)
    day, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.group(
        "date", "hour", "minute", "second", "fraction", "sign", "offset_hour", "offset_minute"
    )
    offset_s = int(offset_hour) * _HOUR_S + int(offset_minute) * _MINUTE_S if sign else 0
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH_DAYS
    except ValueError:
        raise _refusal(RejectReason.OUT_OF_RANGE, "time", text, _TIME_RANGE) from None
    time_s = days * _DAY_S + int(hour) * _HOUR_S + int(minute) * _MINUTE_S + int(second)
    time_ns = (time_s + (offset_s if sign == "-" else -offset_s)) * SECOND_NS
    time_ns += int(fraction.ljust(9, "0")) if fraction else 0
    offset_exists = not sign or (int(offset_hour) <= 23 and int(offset_minute) <= 59)
    exists = int(hour) <= 23 and int(minute) <= 59 and int(second) <= 60 and offset_exists
    if not exists or not TIME_NS_MIN <= time_ns <= TIME_NS_MAX:
        raise _refusal(RejectReason.OUT_OF_RANGE, "time", text, _TIME_RANGE)
    return time_ns


def _refusal(reason: RejectReason, field: str, value: object, expected: str) -> DecodeError:
    return DecodeError(reason, f"field `{field}` is {_shown(value)}; expected {expected}")


def _shown(value: object) -> str:
    """Returns a value as JSON where it is short, else only what it is: no payload in a detail."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = str(value) if type(value) is int else orjson.dumps(value).decode()
    if len(text) <= _ECHO_MAX:
        return text
    return f"a string of {len(value)} characters" if isinstance(value, str) else "a number of many digits"
