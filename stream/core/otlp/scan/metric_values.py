"""Kernels that read one metric point each, check its values as `reference.points` does and write its record.

Each takes the address of the state (`metric_state`) and where the point begins and ends, and returns 0 or a refusal of
its message: those of `wire`, `RARE` or `OUT_OF_ROOM`.
"""

from __future__ import annotations

from typing import Any

from numba import int64, uint64

from stream.core.otlp.identity import Place
from stream.core.otlp.scan import metric_state as st
from stream.core.otlp.scan.memory import (
    bits_of_float,
    copy,
    equal,
    float_of_bits,
    inlined,
    inner,
    load_word,
    store32,
    store64,
)
from stream.core.otlp.scan.metric_points import INFINITE, attribute, index_of, opened, recorded
from stream.core.otlp.scan.wire import EXEMPLAR, KEY_VALUE, MALFORMED, PLAIN, length, skipped, tag, validated, varint
from stream.core.points import MetricType, PointFlag

_POINT = int(Place.POINT)
_SUM = int(MetricType.SUM)
_NO_RECORDED_VALUE, _INTEGER = int(PointFlag.NO_RECORDED_VALUE), int(PointFlag.INTEGER)
_HAS_SUM, _NO_BUCKETS = int(PointFlag.HAS_SUM), int(PointFlag.NO_BUCKETS)

_INT64_MAX = (1 << 63) - 1
_TWO_TO_63 = float(1 << 63)
_INT32_BITS = (1 << 32) - 1

_VARINT, _FIXED64, _LENGTH_DELIMITED = 0, 1, 2
_START, _TIME = 2 << 3 | _FIXED64, 3 << 3 | _FIXED64
_COUNT, _TOTAL = 4 << 3 | _FIXED64, 5 << 3 | _FIXED64
_NUMBER_DOUBLE, _NUMBER_INTEGER = 4 << 3 | _FIXED64, 6 << 3 | _FIXED64
_NUMBER_EXEMPLAR, _NUMBER_ATTRIBUTE, _NUMBER_FLAGS = 5 << 3 | 2, 7 << 3 | 2, 8 << 3 | _VARINT
_HISTOGRAM_COUNTS, _HISTOGRAM_ONE_COUNT = 6 << 3 | 2, 6 << 3 | _FIXED64
_HISTOGRAM_BOUNDS, _HISTOGRAM_ONE_BOUND = 7 << 3 | 2, 7 << 3 | _FIXED64
_HISTOGRAM_EXEMPLAR, _HISTOGRAM_ATTRIBUTE, _HISTOGRAM_FLAGS = 8 << 3 | 2, 9 << 3 | 2, 10 << 3 | _VARINT
_EXPONENTIAL_ATTRIBUTE, _EXPONENTIAL_SCALE = 1 << 3 | 2, 6 << 3 | _VARINT
_EXPONENTIAL_ZEROS, _EXPONENTIAL_THRESHOLD = 7 << 3 | _FIXED64, 14 << 3 | _FIXED64
_EXPONENTIAL_POSITIVE, _EXPONENTIAL_NEGATIVE = 8 << 3 | 2, 9 << 3 | 2
_EXPONENTIAL_FLAGS, _EXPONENTIAL_EXEMPLAR = 10 << 3 | _VARINT, 11 << 3 | 2
_BUCKETS_OFFSET, _BUCKETS_COUNTS, _BUCKETS_ONE_COUNT = 1 << 3 | _VARINT, 2 << 3 | 2, 2 << 3 | _VARINT
_SUMMARY_QUANTILE, _SUMMARY_ATTRIBUTE = 6 << 3 | 2, 7 << 3 | 2


@inlined
def _store_values(record: int, value: int, value_int: int, count: int, bounds: int) -> None:
    """Writes a value, as bits, a count and the index of bounds."""
    store64(record + st.AT_VALUE, value)
    store64(record + st.AT_VALUE_INT, value_int)
    store64(record + st.AT_COUNT, count)
    store32(record + st.AT_BOUNDS, bounds)


@inlined
def _store_exponential(record: int, scale: int, zeros: int, threshold: int, negative: int, offset: int) -> None:
    """Writes what only exponential histograms have; the threshold as bits."""
    store32(record + st.AT_SCALE, scale)
    store64(record + st.AT_ZERO_COUNT, zeros)
    store64(record + st.AT_ZERO_THRESHOLD, threshold)
    store64(record + st.AT_NEGATIVE_COUNT, negative)
    store32(record + st.AT_BUCKET_OFFSET, offset)


@inlined
def _sum(has_total: int, total: int) -> Any:
    """Returns (the flag of a histogram's sum, its bits): none where it was not sent or is not finite."""
    if has_total == 0 or total & INFINITE == INFINITE:
        return int64(0), int64(0)
    return int64(_HAS_SUM), total


@inlined
def _counted(total: Any, count: int) -> Any:
    """Returns a total of counts and one more, or a number above the int64 range where they are too many."""
    word = uint64(count)
    if word > uint64(_INT64_MAX) or total > uint64(_INT64_MAX):
        return uint64(1) << uint64(63)
    return total + word


@inner
def _number(kind: int, value: int, metric_type: int) -> Any:
    """Returns (reason or 0, flag, value as bits, floor) of a number, given which field held it and its word."""
    if kind == 0:
        return int64(st.MISSING_FIELD), int64(0), int64(0), int64(0)
    if kind == _NUMBER_INTEGER:
        return int64(0), int64(_INTEGER), bits_of_float(float(value)), value
    if value & INFINITE == INFINITE:
        return int64(st.OUT_OF_RANGE if metric_type == _SUM else 0), int64(0), value, int64(0)
    number = float_of_bits(value)
    floor = int64(0)
    if -_TWO_TO_63 <= number < _TWO_TO_63:
        floor = int64(number)
        if float(floor) > number:  # a conversion goes towards zero
            floor -= 1
    return int64(0), int64(0), value, floor


@inner
def number_point(state: int, p: int, end: int) -> Any:
    """Reads a NumberDataPoint."""
    opened(state)
    table, found = load_word(state + st.POINT_KEYS), load_word(state + st.POINT_FOUND)
    h1, h2, attributes = uint64(0), uint64(0), int64(0)
    start, time, flags, kind, value = int64(0), int64(0), int64(0), int64(0), int64(0)
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t & 7 == _FIXED64:
            if end - p < 8:
                return int64(MALFORMED)
            if t == _TIME:
                time = load_word(p)
            elif t == _START:
                start = load_word(p)
            elif t == _NUMBER_DOUBLE or t == _NUMBER_INTEGER:
                kind, value = t, load_word(p)
            p += 8
        elif t == _NUMBER_ATTRIBUTE:
            size, p = length(p, end)
            if p < 0:
                return p
            a1, a2, refusal = attribute(state, p, p + size, _POINT, table, found)
            if refusal < 0:
                return refusal
            h1, h2, attributes = h1 + a1, h2 + a2, attributes + 1
            p += size
        elif t == _NUMBER_FLAGS:
            flags, p = varint(p, end)
            if p < 0:
                return p
        elif t == _NUMBER_EXEMPLAR:
            size, p = length(p, end)
            if p < 0:
                return p
            p = validated(p, p + size, EXEMPLAR)
            if p < 0:
                return p
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    if flags & 1 != 0:
        reason, flag, value, floor = int64(0), int64(_NO_RECORDED_VALUE), int64(0), int64(0)
    else:
        reason, flag, value, floor = _number(kind, value, load_word(state + st.TYPE))
    record = recorded(state, time, start, attributes, h1, h2, reason, flag, int64(0))
    if record > 0:
        _store_values(record, value, floor, int64(0), int64(0))
        _store_exponential(record, int64(0), int64(0), int64(0), int64(0), int64(0))
    return min(record, int64(0))


@inner
def _collected(state: int, p: int, size: int, held: int, held_size: int) -> Any:
    """Returns where all bounds of a point lie and how many bytes they have, given those so far and some more.

    Usually there is one run, which stays where it is. Bounds beyond the limit are counted, not kept.
    """
    if held_size == 0:
        return p, size
    scratch, room = load_word(state + st.BOUNDS_SCRATCH), 8 * load_word(state + st.EXPLICIT_MAX)
    if held != scratch:
        copy(scratch, held, min(held_size, room))
    if held_size < room:
        copy(scratch + held_size, p, min(size, room - held_size))
    return scratch, held_size + size


@inner
def _bounds(state: int, p: int, size: int) -> Any:
    """Returns the index of a point's bounds, -`CONTRADICTORY` where they do not rise, or `OUT_OF_ROOM`."""
    if size == 0:
        return int64(0)
    last = load_word(state + st.LAST_BOUNDS)
    if size == load_word(state + st.LAST_BOUNDS_SIZE) and equal(p, last, size):
        return load_word(state + st.LAST_BOUNDS_INDEX)
    before = float_of_bits(load_word(p))
    rising = before == before
    for i in range(1, size >> 3):
        bound = float_of_bits(load_word(p + 8 * i))
        rising &= bound > before
        before = bound
    if not rising:
        return int64(-st.CONTRADICTORY)
    index = index_of(state, st.BOUNDS, p, size)
    if index >= 0 and p != load_word(state + st.BOUNDS_SCRATCH):
        store64(state + st.LAST_BOUNDS, p)
        store64(state + st.LAST_BOUNDS_SIZE, size)
        store64(state + st.LAST_BOUNDS_INDEX, index)
    return index


@inner
def _explicit(state: int, count: int, counts: int, total: Any, bounds: int, bounds_size: int) -> Any:
    """Returns (reason or 0, flag, index of the bounds or `OUT_OF_ROOM`) of a histogram's values."""
    most = load_word(state + st.EXPLICIT_MAX)
    if counts > most or bounds_size > 8 * most:
        return int64(st.TOO_MANY_BUCKETS), int64(0), int64(0)
    if count < 0 or total > uint64(_INT64_MAX):
        return int64(st.OUT_OF_RANGE), int64(0), int64(0)
    if counts == 0:
        return int64(0), int64(_NO_BUCKETS), int64(0)
    if bounds_size != 8 * (counts - 1):
        return int64(st.CONTRADICTORY), int64(0), int64(0)
    index = _bounds(state, bounds, bounds_size)
    if index == -st.CONTRADICTORY or total != uint64(count):
        return int64(st.CONTRADICTORY), int64(0), int64(0)
    return int64(0), int64(0), index


@inner
def histogram_point(state: int, p: int, end: int) -> Any:
    """Reads a HistogramDataPoint."""
    opened(state)
    table, found = load_word(state + st.POINT_KEYS), load_word(state + st.POINT_FOUND)
    h1, h2, attributes = uint64(0), uint64(0), int64(0)
    start, time, flags, count, total, has_total = int64(0), int64(0), int64(0), int64(0), int64(0), int64(0)
    bounds, bounds_size, counts, counted = int64(0), int64(0), int64(0), uint64(0)
    most, used = load_word(state + st.EXPLICIT_MAX), load_word(state + st.BUCKETS_USED)
    if used + most > load_word(state + st.BUCKETS_MAX):
        store64(state + st.WHAT_IS_FULL, st.BUCKETS)
        return int64(st.OUT_OF_ROOM)
    target = load_word(state + st.BUCKETS) + 8 * used
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t & 7 == _FIXED64:
            if end - p < 8:
                return int64(MALFORMED)
            if t == _TIME:
                time = load_word(p)
            elif t == _START:
                start = load_word(p)
            elif t == _COUNT:
                count = load_word(p)
            elif t == _TOTAL:
                total, has_total = load_word(p), int64(1)
            elif t == _HISTOGRAM_ONE_COUNT:
                if counts < most:
                    store64(target + 8 * counts, load_word(p))
                counted = _counted(counted, load_word(p))
                counts += 1
            elif t == _HISTOGRAM_ONE_BOUND:
                bounds, bounds_size = _collected(state, p, int64(8), bounds, bounds_size)
            p += 8
        elif t & 7 == _LENGTH_DELIMITED:
            size, p = length(p, end)
            if p < 0:
                return p
            if t == _HISTOGRAM_ATTRIBUTE:
                a1, a2, refusal = attribute(state, p, p + size, _POINT, table, found)
                if refusal < 0:
                    return refusal
                h1, h2, attributes = h1 + a1, h2 + a2, attributes + 1
            elif t == _HISTOGRAM_COUNTS:
                if size & 7 != 0:
                    return int64(MALFORMED)
                for i in range(size >> 3):
                    if counts < most:
                        store64(target + 8 * counts, load_word(p + 8 * i))
                    counted = _counted(counted, load_word(p + 8 * i))
                    counts += 1
            elif t == _HISTOGRAM_BOUNDS:
                if size & 7 != 0:
                    return int64(MALFORMED)
                bounds, bounds_size = _collected(state, p, size, bounds, bounds_size)
            elif t == _HISTOGRAM_EXEMPLAR:
                refusal = validated(p, p + size, EXEMPLAR)
                if refusal < 0:
                    return refusal
            p += size
        elif t == _HISTOGRAM_FLAGS:
            flags, p = varint(p, end)
            if p < 0:
                return p
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    if flags & 1 != 0:
        reason, flag, index = int64(0), int64(_NO_RECORDED_VALUE), int64(0)
        count, counts, total = int64(0), int64(0), int64(0)
    else:
        reason, flag, index = _explicit(state, count, counts, counted, bounds, bounds_size)
        if index < 0:
            return index
        sum_flag, total = _sum(has_total, total)
        flag |= sum_flag
    record = recorded(state, time, start, attributes, h1, h2, reason, flag, counts)
    if record > 0:
        _store_values(record, total, int64(0), count, index)
        _store_exponential(record, int64(0), int64(0), int64(0), int64(0), int64(0))
    return min(record, int64(0))


@inner
def _buckets(p: int, end: int, offset: int, counts: int, counted: Any, target: int, most: int) -> Any:
    """Reads Buckets that continue those read before.

    Args:
        p: Where they begin.
        end: Where they end.
        offset: Of those before.
        counts: How many bucket counts these had.
        counted: Their total.
        target: Where the counts are written, or 0.
        most: How many are.

    Returns:
        The offset, how many counts there are, their total, and 0 or a refusal.
    """
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return offset, counts, counted, p
        if t == _BUCKETS_COUNTS or t == _BUCKETS_ONE_COUNT:
            last = p
            if t == _BUCKETS_COUNTS:
                size, p = length(p, end)
                if p < 0:
                    return offset, counts, counted, p
                last = p + size
            while t == _BUCKETS_ONE_COUNT or p < last:
                count, p = varint(p, end if t == _BUCKETS_ONE_COUNT else last)
                if p < 0:
                    return offset, counts, counted, p
                if target != 0 and counts < most:
                    store64(target + 8 * counts, count)
                counted = _counted(counted, count)
                counts += 1
                if t == _BUCKETS_ONE_COUNT:
                    break
        elif t == _BUCKETS_OFFSET:
            value, p = varint(p, end)
            if p < 0:
                return offset, counts, counted, p
            offset = _unzigzagged(value)
        else:
            p = skipped(p, end, t)
            if p < 0:
                return offset, counts, counted, p
    return offset, counts, counted, int64(0)


@inlined
def _unzigzagged(value: int) -> Any:
    """Returns what a sint32 means."""
    low = value & _INT32_BITS
    return (low >> 1) ^ -(low & 1)


@inner
def _exponential(
    count: int, most: int, positive: int, negative: int, counted: Any, below: Any, zeros: int, threshold: int
) -> Any:
    """Returns (reason or 0, flag) of an exponential histogram's values.

    Args:
        count: As sent.
        most: How many buckets are allowed.
        positive: How many there are above zero.
        negative: How many below.
        counted: The total of those above.
        below: The total of those below.
        zeros: How many values were zero.
        threshold: Up to what they are, as bits.
    """
    if max(positive, negative) > most:
        return int64(st.TOO_MANY_BUCKETS), int64(0)
    total = _counted(_counted(counted, int64(below)), zeros)
    width = float_of_bits(threshold)
    if count < 0 or total > uint64(_INT64_MAX) or not (width >= 0.0) or threshold & INFINITE == INFINITE:
        return int64(st.OUT_OF_RANGE), int64(0)
    if total == uint64(count):
        return int64(0), int64(0)
    if positive == 0 and negative == 0 and zeros == 0:
        return int64(0), int64(_NO_BUCKETS)
    return int64(st.CONTRADICTORY), int64(0)


@inner
def exponential_point(state: int, p: int, end: int) -> Any:
    """Reads an ExponentialHistogramDataPoint."""
    opened(state)
    table, found = load_word(state + st.POINT_KEYS), load_word(state + st.POINT_FOUND)
    h1, h2, attributes = uint64(0), uint64(0), int64(0)
    start, time, flags, count, total, has_total = int64(0), int64(0), int64(0), int64(0), int64(0), int64(0)
    scale, zeros, threshold, refusal = int64(0), int64(0), int64(0), int64(0)
    offset, positive, counted = int64(0), int64(0), uint64(0)
    ignored, negative, below = int64(0), int64(0), uint64(0)
    most, used = load_word(state + st.EXPONENTIAL_MAX), load_word(state + st.BUCKETS_USED)
    if used + most > load_word(state + st.BUCKETS_MAX):
        store64(state + st.WHAT_IS_FULL, st.BUCKETS)
        return int64(st.OUT_OF_ROOM)
    target = load_word(state + st.BUCKETS) + 8 * used
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t & 7 == _FIXED64:
            if end - p < 8:
                return int64(MALFORMED)
            if t == _TIME:
                time = load_word(p)
            elif t == _START:
                start = load_word(p)
            elif t == _COUNT:
                count = load_word(p)
            elif t == _TOTAL:
                total, has_total = load_word(p), int64(1)
            elif t == _EXPONENTIAL_ZEROS:
                zeros = load_word(p)
            elif t == _EXPONENTIAL_THRESHOLD:
                threshold = load_word(p)
            p += 8
        elif t & 7 == _LENGTH_DELIMITED:
            size, p = length(p, end)
            if p < 0:
                return p
            if t == _EXPONENTIAL_ATTRIBUTE:
                a1, a2, refusal = attribute(state, p, p + size, _POINT, table, found)
                h1, h2, attributes = h1 + a1, h2 + a2, attributes + 1
            elif t == _EXPONENTIAL_POSITIVE:
                offset, positive, counted, refusal = _buckets(p, p + size, offset, positive, counted, target, most)
            elif t == _EXPONENTIAL_NEGATIVE:
                ignored, negative, below, refusal = _buckets(p, p + size, ignored, negative, below, int64(0), most)
            elif t == _EXPONENTIAL_EXEMPLAR:
                refusal = validated(p, p + size, EXEMPLAR)
            if refusal < 0:
                return refusal
            p += size
        elif t == _EXPONENTIAL_SCALE or t == _EXPONENTIAL_FLAGS:
            value, p = varint(p, end)
            if p < 0:
                return p
            if t == _EXPONENTIAL_SCALE:
                scale = _unzigzagged(value)
            else:
                flags = value
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p
    if flags & 1 != 0:
        record = recorded(state, time, start, attributes, h1, h2, int64(0), int64(_NO_RECORDED_VALUE), int64(0))
        if record > 0:
            _store_values(record, int64(0), int64(0), int64(0), int64(0))
            _store_exponential(record, int64(0), int64(0), int64(0), int64(0), int64(0))
        return min(record, int64(0))
    reason, flag = _exponential(count, most, positive, negative, counted, below, zeros, threshold)
    sum_flag, total = _sum(has_total, total)
    record = recorded(state, time, start, attributes, h1, h2, reason, flag | sum_flag, positive)
    if record > 0:
        _store_values(record, total, int64(0), count, int64(0))
        _store_exponential(record, scale, zeros, threshold, int64(below), offset)
    return min(record, int64(0))


@inner
def summary_point(state: int, p: int, end: int) -> Any:
    """Reads a SummaryDataPoint: it is refused, but it may say that the message is one of metrics."""
    opened(state)
    time = int64(0)
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p
        if t == _SUMMARY_QUANTILE or t == _SUMMARY_ATTRIBUTE:
            size, p = length(p, end)
            if p < 0:
                return p
            p = validated(p, p + size, KEY_VALUE if t == _SUMMARY_ATTRIBUTE else PLAIN)
        elif t == _TIME:
            if end - p < 8:
                return int64(MALFORMED)
            time = load_word(p)
            p += 8
        else:
            p = skipped(p, end, t)
        if p < 0:
            return p
    return recorded(state, time, int64(0), int64(0), uint64(0), uint64(0), int64(0), int64(0), int64(0))
