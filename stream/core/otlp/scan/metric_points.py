"""Kernels for what all metric points have: attributes, the identity of their stream, a kind, a status, a code.

They take the address of the state, see `metric_state`. A negative result is a refusal of the message: those of `wire`,
`RARE` or `OUT_OF_ROOM`.
"""

from __future__ import annotations

from typing import Any

from numba import int64, uint64

from stream.core.columns import NO_CODE, Kind, Status
from stream.core.otlp import semconv
from stream.core.otlp.scan import metric_state as st
from stream.core.otlp.scan.identity import BOOLEAN, INTEGER, NUMBER, TEXT, attribute_hash, split, typed
from stream.core.otlp.scan.intern import interned
from stream.core.otlp.scan.memory import copy, inlined, inner, load_word, store8, store16, store32, store64
from stream.core.otlp.scan.text import is_utf8
from stream.core.otlp.scan.wire import lookup
from stream.core.points import PointFlag
from stream.core.units import TIME_NS_MAX

SUMMARY = 4
"""A metric's type beside those of `MetricType`."""

_FAILED, _MONOTONIC, _INVALID_UTF8 = int(PointFlag.FAILED), int(PointFlag.MONOTONIC), int(PointFlag.INVALID_UTF8)
_SERVER_FAILURES = sum(1 << code for code in range(17) if semconv.failed_by_code(Kind.SERVER, code))
"""A bit for each gRPC code that is a failure of a server."""
_CLIENT, _OK, _UNSET, _ERROR = int(Kind.CLIENT), int(Status.OK), int(Status.UNSET), int(Status.ERROR)
_GRPC_MAX, _HTTP_MIN, _HTTP_MAX = semconv.GRPC_MAX, semconv.HTTP_MIN, semconv.HTTP_MAX

INFINITE = 0x7FF0000000000000
"""The exponent bits of a double: all set in one that is not finite."""


@inner
def index_of(state: int, table: int, p: int, size: int) -> Any:
    """Returns the index of a byte string in an intern table, which is named by its word; or `OUT_OF_ROOM`."""
    index = interned(load_word(state + table), p, size)
    if index < 0:
        store64(state + st.WHAT_IS_FULL, table)
        return int64(st.OUT_OF_ROOM)
    return index


@inlined
def opened(state: int) -> None:
    """Begins a point or a resource: nothing of it was found yet."""
    store64(state + st.PLACES, load_word(state + st.PLACES) + 1)
    store64(state + st.POINT_TOO_LONG, 0)
    store64(state + st.POINT_INVALID, 0)


@inner
def _remembered(state: int, entry: int, kind: int, a: int, b: int) -> None:
    """Keeps a wanted attribute unless its key came before."""
    place = load_word(state + st.PLACES)
    if load_word(entry) == place:
        return
    store64(entry, place)
    store64(entry + 8, kind)
    store64(entry + 16, a)
    store64(entry + 24, b)
    if kind == TEXT:
        if b > load_word(state + st.VALUE_BYTES_MAX):
            store64(state + st.POINT_TOO_LONG, 1)
        elif not is_utf8(a, b):
            store64(state + st.POINT_INVALID, 1)


@inner
def attribute(state: int, p: int, end: int, place: int, table: int, found: int) -> Any:
    """Returns (lanes, 0 or a refusal): what a KeyValue adds to its stream's identity; keeps it if it is wanted.

    Args:
        state: The state.
        p: Where the KeyValue begins.
        end: Where it ends.
        place: A `Place`.
        table: Which keys are wanted.
        found: Where the wanted ones are kept.
    """
    key, key_size, value, value_size = split(p, end)
    if key < 0:
        return uint64(0), uint64(0), key
    kind, a, b = typed(value, value + value_size)
    if kind < 0:
        return uint64(0), uint64(0), kind
    slot = lookup(table, key, key_size)
    if slot >= 0:
        _remembered(state, found + st.FOUND_BYTES * slot, kind, a, b)
    return attribute_hash(place, key, key_size, kind, a, b)


@inlined
def text_of(state: int, found: int, slot: int) -> Any:
    """Returns where the text of a wanted attribute begins and its length; 0 where it is absent or no text."""
    entry = found + st.FOUND_BYTES * slot
    if load_word(entry) == load_word(state + st.PLACES) and load_word(entry + 8) == TEXT:
        return load_word(entry + 16), load_word(entry + 24)
    return int64(0), int64(0)


@inner
def kept(state: int, found: int, name: int, old_name: int, target: int) -> Any:
    """Returns 1 after writing an allow-listed attribute's value, 0 where there is none, or `OUT_OF_ROOM`."""
    place = load_word(state + st.PLACES)
    for slot in (name, old_name):
        if slot < 0:
            continue
        entry = found + st.FOUND_BYTES * slot
        if load_word(entry) != place:
            continue
        kind, value = load_word(entry + 8), load_word(entry + 16)
        if kind == TEXT:
            value = index_of(state, st.STRINGS, value, load_word(entry + 24))
            if value < 0:
                return value
        elif kind == NUMBER:
            if value & INFINITE == INFINITE:
                continue
        elif kind != BOOLEAN and kind != INTEGER:
            continue
        store64(target, kind)
        store64(target + 8, value)
        return int64(1)
    return int64(0)


@inner
def _listed(state: int) -> Any:
    """Returns the index of the point's set of allow-listed attributes, or `OUT_OF_ROOM`."""
    keys = load_word(state + st.LISTED_KEYS)
    found, target = load_word(state + st.POINT_FOUND), load_word(state + st.POINT_SET)
    for k in range(keys):
        slots = load_word(state + st.LISTED) + st.LISTED_BYTES * k
        done = kept(state, found, load_word(slots), load_word(slots + 8), target + st.KEPT_BYTES * k)
        if done < 0:
            return done
        if done == 0:
            copy(target + st.KEPT_BYTES * k, load_word(state + st.RESOURCE_SET) + st.KEPT_BYTES * k, st.KEPT_BYTES)
    return index_of(state, st.SETS, target, st.KEPT_BYTES * keys)


@inlined
def _grpc_code(state: int, found: int, slot: int) -> Any:
    entry = found + st.FOUND_BYTES * slot
    if load_word(entry) != load_word(state + st.PLACES):
        return int64(NO_CODE)
    kind, a = load_word(entry + 8), load_word(entry + 16)
    if kind == INTEGER and 0 <= a <= _GRPC_MAX:
        return a
    if kind == TEXT:
        return max(lookup(load_word(state + st.GRPC_WORDS), a, load_word(entry + 24)), int64(NO_CODE))
    return int64(NO_CODE)


@inner
def _code(state: int, found: int) -> Any:
    for slot in st.RPC_CODE_SLOTS:
        code = _grpc_code(state, found, slot)
        if code >= 0:
            return code
    for slot in st.HTTP_CODE_SLOTS:
        entry = found + st.FOUND_BYTES * slot
        if load_word(entry) == load_word(state + st.PLACES) and load_word(entry + 8) == INTEGER:
            code = load_word(entry + 16)
            if _HTTP_MIN <= code <= _HTTP_MAX:
                return code
    return int64(NO_CODE)


@inlined
def _has_failed(kind: int, status: int, has_error_type: Any, code: int) -> Any:
    """What `semconv.failed` returns."""
    if status != _UNSET:
        return status == _ERROR
    if has_error_type:
        return True
    if code < 0:
        return False
    if code >= _HTTP_MIN:
        return code >= (400 if kind == _CLIENT else 500)
    return code != 0 if kind == _CLIENT else (_SERVER_FAILURES >> code) & 1 != 0


@inlined
def _clipped(time: int) -> Any:
    """Returns a time, which is unsigned, as one that is in range."""
    return TIME_NS_MAX if time < 0 or time > TIME_NS_MAX else time


@inner
def recorded(
    state: int, time: int, start: int, attributes: int, h1: Any, h2: Any, reason: int, flags: int, buckets: int
) -> Any:
    """Counts a point and writes all of its record but its values.

    Args:
        state: The state.
        time: As sent.
        start: As sent.
        attributes: How many the point has.
        h1: What they add to the identity, first lane.
        h2: Second lane.
        reason: Why its values are refused, or 0.
        flags: What its values set.
        buckets: How many bucket counts lie behind those in use.

    Returns:
        Where the record is; 0 for a point that is refused; or `OUT_OF_ROOM`.
    """
    tally = load_word(state + st.TALLY)
    items = load_word(tally) + 1
    store64(tally, items)
    if time != 0:
        store64(state + st.TIMED, 1)
    if items > load_word(state + st.ITEMS_MAX):
        return int64(0)
    faults, metric_type = load_word(state + st.AROUND_FAULTS), load_word(state + st.TYPE)
    if metric_type == SUMMARY:
        reason = st.UNSUPPORTED
    elif faults & st.TOO_MANY != 0 or attributes > load_word(state + st.ATTRIBUTES_MAX):
        reason = st.TOO_MANY_ATTRIBUTES
    elif faults & st.TOO_LONG != 0 or load_word(state + st.POINT_TOO_LONG) != 0:
        reason = st.VALUE_TOO_LONG
    elif time == 0:
        reason = st.MISSING_FIELD
    if reason != 0:
        store64(tally + 8 * reason, load_word(tally + 8 * reason) + 1)
        return int64(0)
    used = load_word(state + st.RECORDS_USED)
    if used == load_word(state + st.RECORDS_MAX):
        store64(state + st.WHAT_IS_FULL, st.RECORDS)
        return int64(st.OUT_OF_ROOM)
    record = load_word(state + st.RECORDS) + st.RECORD_BYTES * used
    found = load_word(state + st.POINT_FOUND)
    kind, status = load_word(state + st.KIND), int64(_UNSET)
    text, size = text_of(state, found, st.SPAN_KIND_SLOT)
    if size > 0:
        word = lookup(load_word(state + st.KIND_WORDS), text, size)
        kind = word >> 1 if word >= 0 else kind
    text, size = text_of(state, found, st.STATUS_CODE_SLOT)
    if size > 0:
        word = lookup(load_word(state + st.STATUS_WORDS), text, size)
        status = word >> 1 if word >= 0 else status
    error_type, listed = int64(0), int64(0)
    text, size = text_of(state, found, st.ERROR_TYPE_SLOT)
    if size > 0:
        error_type = index_of(state, st.ERROR_TYPES, text, size)
        if error_type < 0:
            return error_type
    if load_word(state + st.LISTED_KEYS) != 0:
        listed = _listed(state)
        if listed < 0:
            return listed
    code = _code(state, found)
    if _has_failed(kind, status, size > 0, code):
        flags |= _FAILED
    if load_word(state + st.MONOTONIC) != 0:
        flags |= _MONOTONIC
    if load_word(state + st.AROUND_INVALID) != 0 or load_word(state + st.POINT_INVALID) != 0:
        flags |= _INVALID_UTF8
    store32(record + st.AT_MESSAGE, load_word(state + st.MESSAGE))
    store32(record + st.AT_BUCKET_COUNT, buckets)
    store32(record + st.AT_SERVICE, load_word(state + st.SERVICE))
    store32(record + st.AT_VERSION, load_word(state + st.VERSION))
    store32(record + st.AT_NAME, load_word(state + st.NAME))
    store32(record + st.AT_UNIT, load_word(state + st.UNIT))
    store8(record + st.AT_TYPE, metric_type)
    store8(record + st.AT_TEMPORALITY, load_word(state + st.TEMPORALITY))
    store8(record + st.AT_KIND, kind)
    store8(record + st.AT_STATUS, status)
    store16(record + st.AT_CODE, code)
    store32(record + st.AT_ERROR_TYPE, error_type)
    store32(record + st.AT_ATTRIBUTES, listed)
    store8(record + st.AT_FLAGS, flags)
    store64(record + st.AT_START_NS, _clipped(start))
    store64(record + st.AT_TIME_NS, _clipped(time))
    store64(record + st.AT_STREAM_HI, int64(h1 + uint64(load_word(state + st.AROUND_HIGH))))
    store64(record + st.AT_STREAM_LO, int64(h2 + uint64(load_word(state + st.AROUND_LOW))))
    store64(state + st.RECORDS_USED, used + 1)
    store64(state + st.BUCKETS_USED, load_word(state + st.BUCKETS_USED) + buckets)
    return record
