"""The kernel of logs: from the bytes of `ExportLogsServiceRequest` to the columns of rows.

It reads all messages of a call in one pass. A resource may come after its records, as Collectors write it, so what a
row takes from its resource is filled in where the resource's records end.
"""

from __future__ import annotations

from typing import Any

from numba import int64, uint64

from stream.core.columns import Kind, RowFlag, Status
from stream.core.otlp.reference.logs import SEVERITY_ERROR, SEVERITY_MAX
from stream.core.otlp.scan import found, jobs, log_job, resources, wire
from stream.core.otlp.scan.intern import FULL, interned
from stream.core.otlp.scan.memory import (
    byte_swapped,
    copy,
    inner,
    kernel,
    load8,
    load_word,
    stack_words,
    store8,
    store16,
    store32,
    store64,
)
from stream.core.otlp.scan.weight import weight_of
from stream.core.units import TIME_NS_MAX, WEIGHT_ONE

# Tags: field number << 3 | wire type. Source: opentelemetry-proto 1.11, logs.proto.
_RESOURCE_LOGS = 1 << 3 | wire.LENGTH_DELIMITED
_RESOURCE, _SCOPE_LOGS = 1 << 3 | wire.LENGTH_DELIMITED, 2 << 3 | wire.LENGTH_DELIMITED
_SCOPE, _RECORDS = 1 << 3 | wire.LENGTH_DELIMITED, 2 << 3 | wire.LENGTH_DELIMITED
_TIME, _OBSERVED_TIME = 1 << 3 | wire.FIXED64, 11 << 3 | wire.FIXED64
_SEVERITY = 2 << 3 | wire.VARINT
_BODY, _ATTRIBUTES = 5 << 3 | wire.LENGTH_DELIMITED, 6 << 3 | wire.LENGTH_DELIMITED
_TRACE_ID, _EVENT_NAME = 9 << 3 | wire.LENGTH_DELIMITED, 12 << 3 | wire.LENGTH_DELIMITED
_STRING_VALUE = 1 << 3 | wire.LENGTH_DELIMITED

_UNSPECIFIED = int(Kind.UNSPECIFIED)
_UNSET, _ERROR = int(Status.UNSET), int(Status.ERROR)
_FAILED, _SAMPLING_UNKNOWN = int(RowFlag.FAILED), int(RowFlag.SAMPLING_UNKNOWN)
_HAS_EXCEPTION = int(RowFlag.EXCEPTION)
_TRACE_ID_BYTES = 16
_ZERO, _NINE, _LOWER_A, _LOWER_F = (ord(character) for character in "09af")
_THRESHOLD_PREFIX, _THRESHOLD_PREFIX_BYTES = int.from_bytes(b"ot=th:", "little"), len(b"ot=th:")
_RANDOMNESS_PREFIX, _RANDOMNESS_PREFIX_BYTES = int.from_bytes(b";rv:", "little"), len(b";rv:")
_HEX_DIGITS = 14
_TRACESTATE_WORDS = 8
"""Room for both prefixes and 14 digits each, and to read past them."""


@inner
def _is_hexadecimal(p: int, size: int) -> Any:
    """Whether a text is 1 to 14 lower-case hexadecimal digits."""
    if size < 1 or size > _HEX_DIGITS:
        return False
    for i in range(size):
        byte = int64(load8(p + i))
        if not (_ZERO <= byte <= _NINE or _LOWER_A <= byte <= _LOWER_F):
            return False
    return True


@inner
def _weight(slots: int, stamp: int, trace_id: int, trace_id_size: int) -> Any:
    """Returns (weight, flags) of a record's sampling attributes: those of the tracestate that says the same."""
    threshold, size = found.text_of(slots, log_job.THRESHOLD_SLOT, stamp)
    randomness, randomness_size = found.text_of(slots, log_job.RANDOMNESS_SLOT, stamp)
    if not _is_hexadecimal(threshold, size) or (randomness_size and not _is_hexadecimal(randomness, randomness_size)):
        return int64(WEIGHT_ONE), int64(_SAMPLING_UNKNOWN)
    tracestate = stack_words(_TRACESTATE_WORDS)
    store64(tracestate, _THRESHOLD_PREFIX)
    end = tracestate + _THRESHOLD_PREFIX_BYTES
    copy(end, threshold, size)
    end += size
    if randomness_size:
        store32(end, _RANDOMNESS_PREFIX)
        end += _RANDOMNESS_PREFIX_BYTES
        copy(end, randomness, randomness_size)
        end += randomness_size
    return weight_of(tracestate, end - tracestate, trace_id, trace_id_size)


@inner
def _words(job: int, row: int, stamp: int, name: int, name_size: int, severity: int) -> Any:
    """Writes what a row takes from the attributes of its record but the weight; returns flags or `TABLE_FULL`."""
    slots, words = load_word(job + jobs.ITEM_SLOTS), load_word(job + jobs.WORDS)
    flags, error_type, name_index, own = int64(0), int64(0), int64(0), int64(0)
    exception, exception_size = found.text_of(slots, log_job.EXCEPTION_TYPE_SLOT, stamp)
    text, size = found.text_of(slots, found.ERROR_TYPE_SLOT, stamp)
    if size == 0:
        text, size = exception, exception_size
    if size > 0:
        error_type = interned(words, text, size)
    if name_size == 0:
        name, name_size = found.text_of(slots, log_job.EVENT_NAME_SLOT, stamp)
    if name_size > 0:
        name_index = interned(words, name, name_size)
    listed = load_word(job + jobs.LISTED)
    if listed > 0:
        sets, scratch = load_word(job + jobs.SETS), load_word(job + jobs.SCRATCH)
        own = found.set_of(slots, stamp, load_word(job + jobs.ITEM_PICKS), listed, words, sets, scratch)
    if error_type == FULL or name_index == FULL or own == FULL:
        return int64(jobs.TABLE_FULL)
    if exception_size > 0 or found.is_exception(name, name_size):
        flags |= _HAS_EXCEPTION
    code = found.code_of(slots, stamp, load_word(job + jobs.GRPC_TABLE))
    status = int64(_ERROR) if severity >= SEVERITY_ERROR else int64(_UNSET)
    if found.has_failed(int64(_UNSPECIFIED), status, error_type > 0, code):
        flags |= _FAILED
    store16(load_word(job + jobs.CODE_AT) + 2 * row, code)
    store32(load_word(job + jobs.ERROR_TYPE_AT) + 4 * row, error_type)
    store32(load_word(job + log_job.NAME_AT) + 4 * row, name_index)
    store32(load_word(job + jobs.ATTRIBUTES_AT) + 4 * row, own)
    return flags


@inner
def _body(p: int, end: int) -> Any:
    """Returns `end` where the body of a record is an AnyValue, else a refusal. Most are one text, which may be any."""
    if p < end and load8(p) == uint64(_STRING_VALUE):
        length, text = wire.length(p + 1, end)
        if text > 0 and text + length == end:
            return end
    return wire.validated(p, end, wire.ANY_VALUE)


@inner
def _attribute(p: int, end: int, table: int, slots: int, stamp: int, limit: int) -> Any:
    """Notes an attribute whose key is wanted; returns flags of its text or a refusal."""
    slot, kind, a, b = wire.key_value(p, end, table)
    if slot >= 0:
        return found.noted(slots, slot, stamp, kind, a, b, limit)
    return int64(0) if slot == wire.UNWANTED else slot


@inner
def _record(job: int, p: int, end: int, row: int, verdict: int) -> Any:
    """Reads a record and writes its row; returns 1 for a row, 0 where it is refused and counted, or a refusal."""
    table, slots = load_word(job + jobs.ITEM_TABLE), load_word(job + jobs.ITEM_SLOTS)
    limit = load_word(job + jobs.VALUE_MAX)
    stamp = load_word(job + jobs.STAMP) + 1
    store64(job + jobs.STAMP, stamp)
    time, observed, severity, attributes, flags = int64(0), int64(0), int64(0), int64(0), int64(0)
    trace_id, trace_id_size, name, name_size = p, int64(0), p, int64(0)
    while p < end:
        p, more, noted = found.usual_attributes(p, end, _ATTRIBUTES, table, slots, stamp, limit)
        attributes += more
        flags |= noted & ~found.NOTED
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
                noted = _attribute(p, p + length, table, slots, stamp, limit)
                if noted < 0:
                    return noted
                flags |= noted
            elif tag == _BODY:
                ended = _body(p, p + length)
                if ended < 0:
                    return ended
            elif tag == _TRACE_ID:
                trace_id, trace_id_size = p, length
            elif tag == _EVENT_NAME:
                name, name_size = p, length
            p += length
        elif wire_type == wire.FIXED64:
            if end - p < 8:
                return int64(wire.MALFORMED)
            if tag == _TIME:
                time = load_word(p)
            elif tag == _OBSERVED_TIME:
                observed = load_word(p)
            p += 8
        elif tag == _SEVERITY:
            severity, p = wire.varint(p, end)
            if p < 0:
                return p
        else:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p
    if time == 0:
        time = observed
    if time != 0:
        store64(job + jobs.TIMED, int64(1))
    flags |= found.text_flags(name, name_size, limit)
    refused = int64(0)
    if attributes > load_word(job + jobs.ATTRIBUTES_MAX):
        refused = int64(log_job.TOO_MANY_OF)
    elif flags & found.TOO_LONG:
        refused = int64(log_job.TOO_LONG_OF)
    elif time == 0:
        refused = int64(log_job.MISSING_OF)
    elif row - load_word(job + jobs.FIRST_ROW) == load_word(job + jobs.ITEMS_MAX):
        refused = int64(log_job.TOO_MANY_OF)  # the message will be refused: no need for more rows
    if refused != 0:
        store64(verdict + refused, load_word(verdict + refused) + 1)
        return int64(0)
    if row >= load_word(job + jobs.ROOM):
        return int64(jobs.ROWS_FULL)
    severity &= 0xFFFFFFFF  # an enum is 32 bits wide, whatever was sent
    if severity > SEVERITY_MAX:
        severity = int64(0)
    more_flags = _words(job, row, stamp, name, name_size, severity)
    if more_flags < 0:
        return more_flags
    weight, weight_flags = int64(WEIGHT_ONE), int64(_SAMPLING_UNKNOWN)
    if found.text_of(slots, log_job.THRESHOLD_SLOT, stamp)[1] > 0:
        weight, weight_flags = _weight(slots, stamp, trace_id, trace_id_size)
    if time < 0:  # times are unsigned
        time = int64(TIME_NS_MAX)
    trace_hi, trace_lo = int64(0), int64(0)
    if trace_id_size == _TRACE_ID_BYTES:
        trace_hi, trace_lo = byte_swapped(load_word(trace_id)), byte_swapped(load_word(trace_id + 8))
    store64(load_word(job + jobs.END_NS_AT) + 8 * row, min(time, int64(TIME_NS_MAX)))
    store64(load_word(job + jobs.WEIGHT_AT) + 8 * row, weight)
    store8(load_word(job + jobs.FLAGS_AT) + row, flags | more_flags | weight_flags)
    store8(load_word(job + log_job.SEVERITY_AT) + row, severity)
    store64(load_word(job + jobs.TRACE_HI_AT) + 8 * row, trace_hi)
    store64(load_word(job + jobs.TRACE_LO_AT) + 8 * row, trace_lo)
    return int64(1)


@inner
def _refused_since(verdict: int, place: int, rows: int, too_long: int, missing: int) -> None:
    """Counts rows, and records refused for less since there were these counts, at another place of the verdict."""
    rows += load_word(verdict + log_job.TOO_LONG_OF) - too_long + load_word(verdict + log_job.MISSING_OF) - missing
    store64(verdict + log_job.TOO_LONG_OF, too_long)
    store64(verdict + log_job.MISSING_OF, missing)
    store64(verdict + place, load_word(verdict + place) + rows)


@inner
def _message(job: int, p: int, end: int, row: int, verdict: int) -> Any:
    """Reads the records of one message; returns where their rows end, or a refusal.

    One function for three levels of messages: each function more is compiled again with everything that it calls.
    """
    attributes_max = load_word(job + jobs.ATTRIBUTES_MAX)
    while p < end:
        tag, p = wire.tag(p, end)
        if p < 0:
            return p
        if tag != _RESOURCE_LOGS:
            p = wire.skipped(p, end, tag)
            if p < 0:
                return p
            continue
        length, p = wire.length(p, end)
        if p < 0:
            return p
        resource_end, resource_row = p + length, row
        attributes, flags = int64(0), int64(0)
        too_long, missing = load_word(verdict + log_job.TOO_LONG_OF), load_word(verdict + log_job.MISSING_OF)
        stamp = load_word(job + jobs.STAMP) + 1
        store64(job + jobs.STAMP, stamp)
        while p < resource_end:
            tag, p = wire.tag(p, resource_end)
            if p < 0:
                return p
            if tag != _SCOPE_LOGS and tag != _RESOURCE:
                p = wire.skipped(p, resource_end, tag)
                if p < 0:
                    return p
                continue
            length, p = wire.length(p, resource_end)
            if p < 0:
                return p
            if tag == _RESOURCE:
                more, more_flags = resources.resource(job, p, p + length, stamp)
                if more < 0:
                    return more
                attributes += more
                flags |= more_flags
                p += length
                continue
            scope_end, scope_row, scope_attributes = p + length, row, int64(0)
            too_long_before = load_word(verdict + log_job.TOO_LONG_OF)
            missing_before = load_word(verdict + log_job.MISSING_OF)
            while p < scope_end:
                tag, p = wire.tag(p, scope_end)
                if p < 0:
                    return p
                if tag != _RECORDS and tag != _SCOPE:
                    p = wire.skipped(p, scope_end, tag)
                    if p < 0:
                        return p
                    continue
                length, p = wire.length(p, scope_end)
                if p < 0:
                    return p
                result = (
                    _record(job, p, p + length, row, verdict) if tag == _RECORDS else resources.scope(p, p + length)
                )
                if result < 0:
                    return result
                if tag == _RECORDS:
                    row += result
                else:
                    scope_attributes += result
                p += length
            if scope_attributes > attributes_max:
                _refused_since(verdict, log_job.TOO_MANY_OF, row - scope_row, too_long_before, missing_before)
                row = scope_row
        if attributes > attributes_max:
            _refused_since(verdict, log_job.TOO_MANY_OF, row - resource_row, too_long, missing)
            row = resource_row
        elif flags & found.TOO_LONG:
            so_far = load_word(verdict + log_job.TOO_LONG_OF)
            _refused_since(verdict, log_job.TOO_LONG_OF, row - resource_row, so_far, missing)
            row = resource_row
        elif row > resource_row and resources.fill(job, resource_row, row, stamp, flags) < 0:
            return int64(jobs.TABLE_FULL)
    return row


@kernel
def scan(job: int) -> Any:
    """Reads the messages from `NEXT` on; returns 0, or `FULL_ROWS` or `FULL_TABLE` where one could not be read yet.

    Args:
        job: Address of the words that `jobs` and `log_job` name.
    """
    data, offsets = load_word(job + jobs.DATA), load_word(job + jobs.OFFSETS)
    row = load_word(job + jobs.ROWS)
    for message in range(load_word(job + jobs.NEXT), load_word(job + jobs.MESSAGES)):
        store64(job + jobs.NEXT, message)
        store64(job + jobs.FIRST_ROW, row)
        store64(job + jobs.TIMED, int64(0))
        verdict = load_word(job + jobs.VERDICTS) + log_job.VERDICT_BYTES * message
        p, end = data + load_word(offsets + 8 * message), data + load_word(offsets + 8 * message + 8)
        if end - p > load_word(job + jobs.MESSAGE_MAX):
            store64(verdict, int64(jobs.TOO_LARGE))
            continue
        for i in range(log_job.ROWS_OF, log_job.VERDICT_BYTES, 8):
            store64(verdict + i, int64(0))
        after = _message(job, p, end, row, verdict)
        if after == jobs.ROWS_FULL or after == jobs.TABLE_FULL:
            return int64(jobs.FULL_ROWS if after == jobs.ROWS_FULL else jobs.FULL_TABLE)
        if after < 0:
            store64(verdict, int64(jobs.UNREADABLE))
            continue
        items = after - row
        for i in range(log_job.TOO_MANY_OF, log_job.VERDICT_BYTES, 8):
            items += load_word(verdict + i)
        if load_word(job + jobs.TIMED) == 0 and end > p:
            store64(verdict, int64(jobs.UNTIMED))
        elif items > load_word(job + jobs.ITEMS_MAX):
            store64(verdict, int64(jobs.TOO_MANY_ITEMS))
        store64(verdict + log_job.ROWS_OF, after - row)
        row = after
        store64(job + jobs.ROWS, row)
    store64(job + jobs.NEXT, load_word(job + jobs.MESSAGES))
    return int64(0)
