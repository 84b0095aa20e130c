"""The kernel of traces: from the bytes of `ExportTraceServiceRequest` to the columns of rows.

It reads all messages of a call in one pass. A resource may come after its spans, as Collectors write it, so what a row
takes from its resource is filled in where the resource's spans end.
"""

from __future__ import annotations

from typing import Any

from stream.core.columns import NO_CODE, Kind, RowFlag, Status
from stream.core.otlp.scan import found, resources, wire
from stream.core.otlp.scan import span_parts as parts
from stream.core.otlp.scan.intern import FULL, interned
from stream.core.otlp.scan.jobs import (
    ATTRIBUTES_AT,
    ATTRIBUTES_MAX,
    CODE_AT,
    DATA,
    END_NS_AT,
    ERROR_TYPE_AT,
    FIRST_ROW,
    FLAGS_AT,
    FULL_ROWS,
    FULL_TABLE,
    GRPC_TABLE,
    ITEM_PICKS,
    ITEM_SLOTS,
    ITEM_TABLE,
    ITEMS_MAX,
    LISTED,
    MESSAGE_MAX,
    MESSAGES,
    NEXT,
    OFFSETS,
    READ,
    ROOM,
    ROWS,
    ROWS_FULL,
    SCRATCH,
    SETS,
    STAMP,
    TABLE_FULL,
    TIMED,
    TOO_LARGE,
    TOO_MANY_ITEMS,
    TRACE_HI_AT,
    TRACE_LO_AT,
    UNREADABLE,
    UNTIMED,
    VALUE_MAX,
    VERDICTS,
    WEIGHT_AT,
    WORDS,
)
from stream.core.otlp.scan.memory import (
    byte_swapped,
    equal,
    inner,
    int64,
    kernel,
    load_word,
    spliced,
    store8,
    store16,
    store32,
    store64,
    uint64,
)
from stream.core.otlp.scan.span_job import (
    DURATION_NS_AT,
    KIND_AT,
    STATE,
    STATE_FLAGS,
    STATE_SIZE,
    STATE_TEXT_FLAGS,
    STATE_THRESHOLD,
    STATE_WEIGHT,
    STATUS_AT,
    VERDICT_BYTES,
)
from stream.core.otlp.scan.weight import believed, said_by
from stream.core.units import WEIGHT_ONE

# Tags: field number << 3 | wire type. Source: opentelemetry-proto 1.11, trace.proto.
_RESOURCE_SPANS = 1 << 3 | wire.LENGTH_DELIMITED
_RESOURCE, _SCOPE_SPANS = 1 << 3 | wire.LENGTH_DELIMITED, 2 << 3 | wire.LENGTH_DELIMITED
_SCOPE, _SPANS = 1 << 3 | wire.LENGTH_DELIMITED, 2 << 3 | wire.LENGTH_DELIMITED
_ATTRIBUTES = 9 << 3 | wire.LENGTH_DELIMITED
_EVENTS, _LINKS = 11 << 3 | wire.LENGTH_DELIMITED, 13 << 3 | wire.LENGTH_DELIMITED
_STATUS = 15 << 3 | wire.LENGTH_DELIMITED

_KIND_MAX, _STATUS_MAX = int(max(Kind)), int(max(Status))
_FAILED, _NEGATIVE_DURATION = int(RowFlag.FAILED), int(RowFlag.NEGATIVE_DURATION)
_SAMPLING_UNKNOWN, _HAS_EXCEPTION = int(RowFlag.SAMPLING_UNKNOWN), int(RowFlag.EXCEPTION)
_TIME_MAX = (1 << 63) - 1
_TRACE_ID_BYTES = 16

# What becomes of a span beside `MALFORMED` and `TOO_DEEP`.
_ROW, _TOO_MANY, _TOO_LONG = 0, 1, 2


@spliced
def _weight(job: int, p: int, size: int, limit: int, trace_id: int, trace_id_size: int) -> Any:
    """Returns (weight, flags) of a span's tracestate and trace id, with `TOO_LONG` where the text is.

    Nearly always the tracestate is that of the span before, of which it is known what it says.
    """
    if size == 0:
        return int64(WEIGHT_ONE), int64(_SAMPLING_UNKNOWN)
    if size != load_word(job + STATE_SIZE) or not equal(p, load_word(job + STATE), size):
        _read_tracestate(job, p, size, limit)
    weight, flags = load_word(job + STATE_WEIGHT), load_word(job + STATE_FLAGS)
    weight, flags = believed(weight, flags, load_word(job + STATE_THRESHOLD), trace_id, trace_id_size)
    return weight, flags | load_word(job + STATE_TEXT_FLAGS)


@inner
def _read_tracestate(job: int, p: int, size: int, limit: int) -> None:
    """Keeps what a tracestate says, for this span and those that follow with the same one."""
    text_flags = found.text_flags(p, size, limit)
    weight, flags, threshold = int64(0), int64(0), int64(0)
    if text_flags & found.TOO_LONG == 0:
        weight, flags, threshold = said_by(p, size)
    store64(job + STATE, p)
    store64(job + STATE_SIZE, size)
    store64(job + STATE_TEXT_FLAGS, text_flags)
    store64(job + STATE_WEIGHT, weight)
    store64(job + STATE_FLAGS, flags)
    store64(job + STATE_THRESHOLD, threshold)


@inner
def _span(job: int, p: int, end: int, row: int, stamp: int) -> Any:
    """Reads a span and writes what a row takes from it; returns `_ROW`, `_TOO_MANY`, `_TOO_LONG` or a refusal."""
    table, slots = load_word(job + ITEM_TABLE), load_word(job + ITEM_SLOTS)
    limit = load_word(job + VALUE_MAX)
    status, attributes, flags = int64(0), int64(0), int64(0)
    p, trace_id, trace_id_size, tracestate, tracestate_size, span_kind, start_ns, end_ns = parts.usual_head(p, end)
    while p < end:
        p, more, noted = found.usual_attributes(p, end, _ATTRIBUTES, table, slots, stamp, limit)
        attributes += more
        flags |= noted
        if p == end:
            break
        tag, p = wire.tag(p, end)
        if p < 0:
            return p
        wire_type = tag & 7
        if wire_type == wire.LENGTH_DELIMITED:
            length, p = wire.length(p, end)
            if p < 0:
                return p
            if tag == _ATTRIBUTES:
                attributes += 1
                slot, kind, a, b = wire.key_value(p, p + length, table)
                if slot >= 0:
                    flags |= found.noted(slots, slot, stamp, kind, a, b, limit) | found.NOTED
                elif slot != wire.UNWANTED:
                    return slot
            elif tag == parts.TRACE_ID:
                trace_id, trace_id_size = p, length
            elif tag == parts.TRACE_STATE:
                tracestate, tracestate_size = p, length
            elif tag == _STATUS:
                status, ended = parts.status(p, p + length, status)
                if ended < 0:
                    return ended
            elif tag == _EVENTS:
                event = parts.event(p, p + length)
                if event < 0:
                    return event
                if event == 1:
                    flags |= _HAS_EXCEPTION
            elif tag == _LINKS:
                ended = wire.validated(p, p + length, wire.LINK)
                if ended < 0:
                    return ended
            p += length
        elif wire_type == wire.FIXED64:
            if end - p < 8:
                return int64(wire.MALFORMED)
            if tag == parts.START:
                start_ns = load_word(p)
            elif tag == parts.END:
                end_ns = load_word(p)
            p += 8
        elif tag == parts.KIND:
            span_kind, p = wire.varint(p, end)
            if p < 0:
                return p
        else:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p
    if end_ns != 0:
        store64(job + TIMED, int64(1))
    if attributes > load_word(job + ATTRIBUTES_MAX):
        return int64(_TOO_MANY)
    weight, weight_flags = _weight(job, tracestate, tracestate_size, limit, trace_id, trace_id_size)
    flags |= weight_flags
    if flags & found.TOO_LONG:
        return int64(_TOO_LONG)
    if row - load_word(job + FIRST_ROW) == load_word(job + ITEMS_MAX):
        return int64(_TOO_MANY)  # the message will be refused: no need for more rows
    if row >= load_word(job + ROOM):
        return int64(ROWS_FULL)
    # An enum is 32 bits wide, whatever was sent.
    span_kind &= 0xFFFFFFFF
    status &= 0xFFFFFFFF
    if span_kind > _KIND_MAX:
        span_kind = int64(0)
    if status > _STATUS_MAX:
        status = int64(0)
    code, error_type = int64(NO_CODE), int64(0)
    if flags & found.NOTED:
        code = found.code_of(slots, stamp, load_word(job + GRPC_TABLE))
        text, size = found.text_of(slots, found.ERROR_TYPE_SLOT, stamp)
        if size > 0:
            error_type = interned(load_word(job + WORDS), text, size)
            if error_type == FULL:
                return int64(TABLE_FULL)
    if found.has_failed(span_kind, status, error_type > 0, code):
        flags |= _FAILED
    listed = load_word(job + LISTED)
    if listed > 0:
        own = found.set_of(
            slots,
            stamp,
            load_word(job + ITEM_PICKS),
            listed,
            load_word(job + WORDS),
            load_word(job + SETS),
            load_word(job + SCRATCH),
        )
        if own == FULL:
            return int64(TABLE_FULL)
        store32(load_word(job + ATTRIBUTES_AT) + 4 * row, own)
    # From the times as sent, which are unsigned: two clipped times would have no distance.
    duration_ns = int64(0)
    if uint64(end_ns) < uint64(start_ns):
        flags |= _NEGATIVE_DURATION
    else:
        duration_ns = end_ns - start_ns
        if duration_ns < 0:
            duration_ns = int64(_TIME_MAX)
    if end_ns < 0:
        end_ns = int64(_TIME_MAX)
    trace_hi, trace_lo = int64(0), int64(0)
    if trace_id_size == _TRACE_ID_BYTES:
        trace_hi, trace_lo = byte_swapped(load_word(trace_id)), byte_swapped(load_word(trace_id + 8))
    store8(load_word(job + KIND_AT) + row, span_kind)
    store8(load_word(job + STATUS_AT) + row, status)
    store16(load_word(job + CODE_AT) + 2 * row, code)
    store32(load_word(job + ERROR_TYPE_AT) + 4 * row, error_type)
    store64(load_word(job + END_NS_AT) + 8 * row, end_ns)
    store64(load_word(job + DURATION_NS_AT) + 8 * row, duration_ns)
    store64(load_word(job + WEIGHT_AT) + 8 * row, weight)
    store8(load_word(job + FLAGS_AT) + row, flags)
    store64(load_word(job + TRACE_HI_AT) + 8 * row, trace_hi)
    store64(load_word(job + TRACE_LO_AT) + 8 * row, trace_lo)
    return int64(_ROW)


@spliced
def _scope_spans(job: int, p: int, end: int, row: int) -> Any:
    """Returns (where the rows end or a refusal, spans with too many attributes, spans with too long a text)."""
    first, scope_attributes = row, int64(0)
    too_many, too_long = int64(0), int64(0)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p, too_many, too_long
        if tag == _SPANS or tag == _SCOPE:
            length, p = wire.length(p, end)
            if p < 0:
                return p, too_many, too_long
            if tag == _SCOPE:
                attributes = resources.scope(p, p + length)
                if attributes < 0:
                    return attributes, too_many, too_long
                scope_attributes += attributes
            else:
                stamp = load_word(job + STAMP) + 1
                store64(job + STAMP, stamp)
                result = _span(job, p, p + length, row, stamp)
                if result < 0:
                    return result, too_many, too_long
                if result == _ROW:
                    row += 1
                elif result == _TOO_MANY:
                    too_many += 1
                else:
                    too_long += 1
            p += length
        else:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p, too_many, too_long
    if scope_attributes > load_word(job + ATTRIBUTES_MAX):
        return first, too_many + too_long + row - first, int64(0)
    return row, too_many, too_long


@spliced
def _resource_spans(job: int, p: int, end: int, row: int) -> Any:
    """Returns (where the rows end or a refusal, spans with too many attributes, spans with too long a text)."""
    first, stamp = row, load_word(job + STAMP) + 1
    store64(job + STAMP, stamp)
    attributes, flags, too_many, too_long = int64(0), int64(0), int64(0), int64(0)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p, too_many, too_long
        if tag == _SCOPE_SPANS or tag == _RESOURCE:
            length, p = wire.length(p, end)
            if p < 0:
                return p, too_many, too_long
            if tag == _RESOURCE:
                more, more_flags = resources.resource(job, p, p + length, stamp)
                if more < 0:
                    return more, too_many, too_long
                attributes += more
                flags |= more_flags
            else:
                row, more_many, more_long = _scope_spans(job, p, p + length, row)
                if row < 0:
                    return row, too_many, too_long
                too_many += more_many
                too_long += more_long
            p += length
        else:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p, too_many, too_long
    if attributes > load_word(job + ATTRIBUTES_MAX):
        return first, too_many + too_long + row - first, int64(0)
    if flags & found.TOO_LONG:
        return first, too_many, too_long + row - first
    if row > first:
        filled = resources.fill(job, first, row, stamp, flags)
        if filled < 0:
            return filled, too_many, too_long
    return row, too_many, too_long


@spliced
def _message(job: int, p: int, end: int, row: int) -> Any:
    """Returns (where the rows end or a refusal, spans with too many attributes, spans with too long a text)."""
    too_many, too_long = int64(0), int64(0)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p, too_many, too_long
        if tag == _RESOURCE_SPANS:
            length, p = wire.length(p, end)
            if p < 0:
                return p, too_many, too_long
            row, more_many, more_long = _resource_spans(job, p, p + length, row)
            if row < 0:
                return row, too_many, too_long
            too_many += more_many
            too_long += more_long
            p += length
        else:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p, too_many, too_long
    return row, too_many, too_long


@kernel
def scan(job: int) -> Any:
    """Reads the messages from `NEXT` on; returns 0, or what is full when a message needs more room than there is."""
    data, offsets = load_word(job + DATA), load_word(job + OFFSETS)
    store64(job + STATE_SIZE, int64(0))  # the messages of the call before are gone
    for message in range(load_word(job + NEXT), load_word(job + MESSAGES)):
        verdict_at = load_word(job + VERDICTS) + VERDICT_BYTES * message
        first = load_word(job + ROWS)
        row, verdict = first, int64(READ)
        too_many, too_long = int64(0), int64(0)
        begin, end = data + load_word(offsets + 8 * message), data + load_word(offsets + 8 * message + 8)
        if end - begin > load_word(job + MESSAGE_MAX):
            verdict = int64(TOO_LARGE)
        elif end > begin:
            store64(job + TIMED, int64(0))
            store64(job + FIRST_ROW, first)
            row, too_many, too_long = _message(job, begin, end, first)
            if row == ROWS_FULL or row == TABLE_FULL:
                store64(job + NEXT, message)
                return int64(FULL_ROWS) if row == ROWS_FULL else int64(FULL_TABLE)
            if row < 0:
                verdict = int64(UNREADABLE)
            elif load_word(job + TIMED) == 0:
                verdict = int64(UNTIMED)
            elif row - first + too_many + too_long > load_word(job + ITEMS_MAX):
                verdict = int64(TOO_MANY_ITEMS)
        if verdict == TOO_MANY_ITEMS:
            row, too_many = first, row - first + too_many
        elif verdict == UNREADABLE:
            row, too_many, too_long = first, int64(0), int64(0)
        store64(verdict_at, verdict)
        store64(verdict_at + 8, row - first)
        store64(verdict_at + 16, too_many)
        store64(verdict_at + 24, too_long)
        store64(job + ROWS, row)
    store64(job + NEXT, load_word(job + MESSAGES))
    return int64(0)
