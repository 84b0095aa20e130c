"""Reads back what we published: events of `qma.sli` as indicators of closed minutes, exactly as they were counted."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson

from stream.core.columns import Array, Receipts, RejectReason, Rows
from stream.core.errors import DecodeError
from stream.core.indicators import Indicators
from stream.core.otlp import Message, Messages
from stream.core.points import NO_POINTS
from stream.core.slo.sli import SLICE_ONE
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from stream.ingest.columns import Columns

EVENT_TYPE = "qma.sli.v1"

EVENTS_MAX = 1 << 30
"""Of one minute, weighted or not: the counters of a window of ninety days hold no more."""

_INT64 = 1 << 63
_MINUTES_MAX = _INT64 // MINUTE_NS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_SECTIONS: Mapping[type, str] = {dict: "an object", list: "a list"}


@dataclass(slots=True)
class _Receipt:
    """Of one message, or of a run of accepted ones without a gap in their offsets."""

    source: int
    first_offset: int
    last_offset: int
    items: int = 1
    rejected: int = 0
    reason: str = ""
    digest: bytes | None = None
    detail: str | None = None


def decode_indicator_events(messages: Messages, source: str | None = None) -> Columns:
    """Returns an indicator for each event and a receipt for each message; a tombstone holds nothing.

    Events of other types, and those that somebody else has published, are indicators of no objective: nobody asks for
    them, and the ledger counts them.

    Args:
        messages: Of `qma.sli`.
        source: The pipeline and generation that is read (`rendering.event_source`); None: whichever.
    """
    rows: list[dict[str, Any]] = []
    receipts: list[_Receipt] = []
    for message in messages:
        if message.value is None:
            continue
        here = {"source": message.source, "offset": message.offset}
        try:
            rows.append({**here, **_indicator(message.value, source), "counts": True})
        except DecodeError as error:
            receipts.append(_refusal(message, error))
        else:
            _accept(message, receipts)
    return Columns(rows=Rows.empty(), points=NO_POINTS, receipts=_columns(receipts), indicators=Indicators.of(rows))


def _accept(message: Message, receipts: list[_Receipt]) -> None:
    last = receipts[-1] if receipts else None
    if last and not last.rejected and (last.source, last.last_offset + 1) == (message.source, message.offset):
        last.last_offset, last.items = message.offset, last.items + 1
    else:
        receipts.append(_Receipt(message.source, message.offset, message.offset))


def _refusal(message: Message, error: DecodeError) -> _Receipt:
    digest = hashlib.sha256(message.value or b"").digest()
    at = (message.source, message.offset, message.offset)
    return _Receipt(*at, rejected=1, reason=RejectReason(error.reason).value, digest=digest, detail=error.detail)


def _columns(receipts: list[_Receipt]) -> Receipts:
    reasons = tuple(dict.fromkeys(("", *(receipt.reason for receipt in receipts))))
    arrays: dict[str, Array] = {
        name: np.array([getattr(receipt, name) for receipt in receipts], dtype)
        for name, dtype in Receipts.DTYPES.items()
        if name != "reason"
    }
    return Receipts(
        **arrays,
        reason=np.array([reasons.index(receipt.reason) for receipt in receipts], Receipts.DTYPES["reason"]),
        reasons=reasons,
        digests=tuple(receipt.digest for receipt in receipts),
        details=tuple(receipt.detail for receipt in receipts),
    )


def _indicator(value: bytes, source: str | None) -> dict[str, Any]:
    """Returns the fields of the indicator in an event.

    Raises:
        DecodeError: When the message is refused: its reason is a `RejectReason`.
    """
    try:
        event = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise DecodeError(RejectReason.MALFORMED, f"the message is no JSON in UTF-8: {error}") from error
    if not isinstance(event, dict):
        raise _wrong("the message", event, "a CloudEvent, which is a JSON object")
    if _text(event, "type") != EVENT_TYPE or (source is not None and _text(event, "source") != source):
        nothing = {"revision": 0, "events": 0, "weight": 0, "weight_bad": 0, "gap": False}
        minute = _minute(_text(event, "time")) - 1  # an event has the time at which its minute ended
        return {"service": _text(event, "subject"), "objective": "", "minute": minute, **nothing}
    data = _mapping(event, "data")
    sli, flags = _mapping(data, "minute"), _mapping(data, "flags")
    total, good = _number(sli, "total"), _number(sli, "good")
    weight, weight_bad = exact_weights(total, good, _number(sli, "bad_counted") if "bad_counted" in sli else None)
    return {
        "service": _text(data, "service"),
        "objective": _text(data, "objective"),
        "minute": _minute(_text(sli, "start")),
        "revision": _count(data, "revision"),
        "events": _count(sli, "n", EVENTS_MAX),
        "weight": weight,
        "weight_bad": weight_bad,
        "gap": _flag(flags, "gap"),
    }


def exact_weights(total: float, good: float, bad: float | None = None) -> tuple[int, int]:
    """Returns all and the bad weight of a minute as integers: in 2^-16, or in 2^-30 where the points were ratios.

    They were such integers before they were published, so nothing is rounded. Their ratio is that of the minute, but
    where the bad ones have a counter of their own, which may tell more of them than all.

    Args:
        total: All events.
        good: The good ones.
        bad: The bad ones where they are told by themselves; None: all others.

    Raises:
        DecodeError: When they were not.
    """
    for unit in (WEIGHT_ONE, SLICE_ONE):
        weight, weight_good, weight_bad = total * unit, good * unit, (bad or 0.0) * unit
        whole = weight.is_integer() and weight_good.is_integer() and weight_bad.is_integer()
        if whole and 0 <= good <= total <= EVENTS_MAX >= (bad or 0.0) >= 0:
            return int(weight), int(weight) - int(weight_good) if bad is None else int(weight_bad)
    told = "" if bad is None else f", `bad_counted` is {bad!r}"
    raise DecodeError(
        RejectReason.OUT_OF_RANGE,
        f"fields `good` and `total` are {good!r} and {total!r}{told}; expected multiples of 2^-30, good at most total, "
        f"none above {EVENTS_MAX}",
    )


def _minute(text: str) -> int:
    try:
        minutes, rest = divmod(datetime.fromisoformat(text) - _EPOCH, _MINUTE)
    except (ValueError, TypeError, OverflowError) as error:  # TypeError: it has no offset
        raise _wrong("a time", text, "RFC 3339") from error
    if rest or not 0 < minutes < _MINUTES_MAX:
        raise _wrong("a time", text, "a full minute from 1970 to 2262")
    return minutes


def _text(section: Mapping[str, Any], name: str) -> str:
    value = _value(section, name)
    if not isinstance(value, str) or not value:
        raise _wrong(f"field `{name}`", value, "text")
    return value


def _count(section: Mapping[str, Any], name: str, most: int = _INT64 - 1) -> int:
    value = _value(section, name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _wrong(f"field `{name}`", value, f"a whole number from 0 to {most}")
    return value


def _number(section: Mapping[str, Any], name: str) -> float:
    value = _value(section, name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise _wrong(f"field `{name}`", value, "a number")
    return float(value)


def _flag(section: Mapping[str, Any], name: str) -> bool:
    value = _value(section, name)
    if not isinstance(value, bool):
        raise _wrong(f"field `{name}`", value, "true or false")
    return value


def _mapping(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = _value(section, name)
    if not isinstance(value, dict):
        raise _wrong(f"field `{name}`", value, "an object")
    return value


def _value(section: Mapping[str, Any], name: str) -> Any:
    if name not in section:
        raise DecodeError(RejectReason.MISSING_FIELD, f"field `{name}` is missing")
    return section[name]


def _wrong(what: str, value: object, expected: str) -> DecodeError:
    # A text of a section could go deeper than there is room on the stack.
    found = _SECTIONS.get(type(value)) or repr(str(value)[:40])
    return DecodeError(RejectReason.WRONG_TYPE, f"{what} is {found}; expected {expected}")
