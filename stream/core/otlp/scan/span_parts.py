"""The parts of a span of which only a little is read: its events and its status."""

from __future__ import annotations

from typing import Any

from stream.core.otlp.scan import found, wire
from stream.core.otlp.scan.memory import int64, spliced

# Tags: field number << 3 | wire type. Source: opentelemetry-proto 1.11, trace.proto.
_EVENT_NAME, _EVENT_ATTRIBUTES = 2 << 3 | wire.LENGTH_DELIMITED, 3 << 3 | wire.LENGTH_DELIMITED
_STATUS_CODE = 3 << 3 | wire.VARINT


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
    return int64(found.is_exception(name, size))


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
