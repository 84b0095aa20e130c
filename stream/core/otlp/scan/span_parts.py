"""The parts of a span: its first fields, its events and its status."""

from __future__ import annotations

from typing import Any

from stream.core.otlp.scan import found, wire
from stream.core.otlp.scan.memory import int64, load8, load32, load_word, spliced, uint64

# Tags: field number << 3 | wire type. Source: opentelemetry-proto 1.11, trace.proto.
TRACE_ID, TRACE_STATE = 1 << 3 | wire.LENGTH_DELIMITED, 3 << 3 | wire.LENGTH_DELIMITED
KIND = 6 << 3 | wire.VARINT
START, END = 7 << 3 | wire.FIXED64, 8 << 3 | wire.FIXED64
_SPAN_ID, _PARENT_ID = 2 << 3 | wire.LENGTH_DELIMITED, 4 << 3 | wire.LENGTH_DELIMITED
_NAME = 5 << 3 | wire.LENGTH_DELIMITED
_USUAL_TRACE_ID, _USUAL_SPAN_ID, _USUAL_PARENT_ID = TRACE_ID | 16 << 8, _SPAN_ID | 8 << 8, _PARENT_ID | 8 << 8
"""A tag and the length that follows it, as two bytes."""
_EVENT_NAME, _EVENT_ATTRIBUTES = 2 << 3 | wire.LENGTH_DELIMITED, 3 << 3 | wire.LENGTH_DELIMITED
_STATUS_CODE = 3 << 3 | wire.VARINT


@spliced
def usual_head(p: int, end: int) -> Any:
    """Reads the first fields of a span as SDKs write them: in the order of their numbers, each at most once.

    Returns:
        Where it stopped: at a field that is none of them, or not in this order, or has a longer length or number than
        they usually have; address and size of the trace id and of the tracestate; kind, start and end.
    """
    trace_id, trace_id_size, tracestate, tracestate_size = p, int64(0), p, int64(0)
    kind, start_ns, end_ns = int64(0), int64(0), int64(0)
    if load32(p) & uint64(0xFFFF) == uint64(_USUAL_TRACE_ID) and end - p >= 18:
        trace_id, trace_id_size = p + 2, int64(16)
        p += 18
    if load32(p) & uint64(0xFFFF) == uint64(_USUAL_SPAN_ID) and end - p >= 10:
        p += 10
    if load8(p) == uint64(TRACE_STATE):
        size = int64(load8(p + 1))
        if size < 128 and size <= end - p - 2:
            tracestate, tracestate_size = p + 2, size
            p += 2 + size
    if load32(p) & uint64(0xFFFF) == uint64(_USUAL_PARENT_ID) and end - p >= 10:
        p += 10
    if load8(p) == uint64(_NAME):
        size = int64(load8(p + 1))
        if size < 128 and size <= end - p - 2:
            p += 2 + size
    if load8(p) == uint64(KIND) and load8(p + 1) < uint64(128) and end - p >= 2:
        kind = int64(load8(p + 1))
        p += 2
    if load8(p) == uint64(START) and end - p >= 9:
        start_ns = load_word(p + 1)
        p += 9
    if load8(p) == uint64(END) and end - p >= 9:
        end_ns = load_word(p + 1)
        p += 9
    return p, trace_id, trace_id_size, tracestate, tracestate_size, kind, start_ns, end_ns


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
