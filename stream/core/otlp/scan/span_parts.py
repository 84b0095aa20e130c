"""The parts of a span, and its scope, of which only a little is read: events, status, scope."""

from __future__ import annotations

from typing import Any

from stream.core.otlp.scan import wire
from stream.core.otlp.scan.memory import int64, load8, load64, spliced, uint64

# Tags: field number << 3 | wire type. Source: opentelemetry-proto 1.11, trace.proto and common.proto.
_SCOPE_ATTRIBUTES = 3 << 3 | wire.LENGTH_DELIMITED
_EVENT_NAME, _EVENT_ATTRIBUTES = 2 << 3 | wire.LENGTH_DELIMITED, 3 << 3 | wire.LENGTH_DELIMITED
_STATUS_CODE = 3 << 3 | wire.VARINT

_EXCEPTION_TAIL = int.from_bytes(b"xception", "little")
_E, _DOT = ord("e"), ord(".")
_EXCEPTION_BYTES = len(b"exception")


@spliced
def event(p: int, end: int) -> Any:
    """Returns 1 where a span event is an exception, 0 where it is not, or a refusal."""
    name, size = p, int64(0)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p
        if tag & 7 == wire.LENGTH_DELIMITED:
            length, p = wire.length(p, end)
            if p < 0:
                return p
            if tag == _EVENT_NAME:
                name, size = p, length
            elif tag == _EVENT_ATTRIBUTES:
                ended = wire.validated(p, p + length, wire.KEY_VALUE)
                if ended < 0:
                    return ended
            p += length
        else:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p
    if size < _EXCEPTION_BYTES or load64(name + size - 8) != uint64(_EXCEPTION_TAIL):
        return int64(0)
    if load8(name + size - 9) != uint64(_E):
        return int64(0)
    return int64(size == _EXCEPTION_BYTES or load8(name + size - 10) == uint64(_DOT))


@spliced
def status(p: int, end: int, status: int) -> Any:
    """Returns (status code as it was sent, where it ends or a refusal); `status` is what another part of it said."""
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return status, p
        if tag == _STATUS_CODE:
            status, p = wire.varint(p, end)
        else:
            p = wire.skipped(p, end, tag)
        if p < 0:
            return status, p
    return status, p


@spliced
def scope(p: int, end: int) -> Any:
    """Returns how many attributes a scope has, or a refusal."""
    attributes = int64(0)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p
        if tag == _SCOPE_ATTRIBUTES:
            length, p = wire.length(p, end)
            if p < 0:
                return p
            p = wire.validated(p, p + length, wire.KEY_VALUE)
            attributes += 1
        else:
            p = wire.skipped(p, end, tag)
        if p < 0:
            return p
    return attributes
