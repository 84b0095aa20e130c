"""The weight of a sampled item from its tracestate: `sampling.adjusted_count` and `columns.fixed_weight` in one.

Equal to them in every bit. The adjusted count of a threshold T is 2^56 / (2^56 - T), correctly rounded to a double,
and the weight is that count in 2^-16, rounded half to even. Division in doubles decides both roundings but where the
result is closer to a half than its error: there the quotient is worked out in integers.
"""

from __future__ import annotations

from typing import Any

from stream.core.columns import RowFlag
from stream.core.otlp.scan.memory import (
    byte_swapped,
    equal,
    float64,
    inlined,
    inner,
    int64,
    load8,
    load_word,
    uint64,
)
from stream.core.units import WEIGHT_MAX, WEIGHT_ONE

_UNKNOWN = int(RowFlag.SAMPLING_UNKNOWN)
_CAPPED = int(RowFlag.WEIGHT_CAPPED)
_COMMA, _SEMICOLON, _COLON, _EQUALS, _SPACE, _TAB = (ord(character) for character in ",;:= \t")
_O, _T, _H, _R, _V, _P = (uint64(ord(character)) for character in "othrvp")
_ZERO, _NINE, _LOWER_A, _LOWER_F = (ord(character) for character in "09af")
_RANDOMNESS_RANGE = 1 << 56
_RANDOMNESS_MASK = (1 << 56) - 1
_HEX_DIGITS = 14
_TRACE_ID_BYTES = 16
_ENTRY_MAX = 256
_P_ZERO, _P_CAP = 63, 16
_R_MAX = 62
_DOUBLE_BITS = 53
_SAFE_DISTANCE = 1e-6
"""From a half: the error of the doubles is below 2^-18 of this for every weight up to the cap."""


@inner
def _hexadecimal(p: int, size: int) -> Any:
    """Returns the value of 1 to 14 lower-case hexadecimal digits, or -1."""
    if size < 1 or size > _HEX_DIGITS:
        return int64(-1)
    value = int64(0)
    for i in range(size):
        byte = int64(load8(p + i))
        if _ZERO <= byte <= _NINE:
            value = value << 4 | (byte - _ZERO)
        elif _LOWER_A <= byte <= _LOWER_F:
            value = value << 4 | (byte - _LOWER_A + 10)
        else:
            return int64(-1)
    return value


@inner
def _decimal(p: int, size: int, most: int) -> Any:
    """Returns the value of one or two decimal digits without a leading zero, at most `most`, or -1."""
    if size < 1 or size > 2:
        return int64(-1)
    value = int64(0)
    for i in range(size):
        byte = int64(load8(p + i))
        if not _ZERO <= byte <= _NINE:
            return int64(-1)
        value = value * 10 + byte - _ZERO
    if value > most or (size == 2 and value < 10):
        return int64(-1)
    return value


@inner
def _exact_weight(kept: int) -> Any:
    """Returns 2^56 / kept, rounded to a double and then to 2^-16, both half to even; `kept` is 1 to 2^56."""
    quotient, bits = int64(0), 0
    rest = uint64(_RANDOMNESS_RANGE)
    divisor = uint64(kept)
    # Long division to one bit more than a double has; the rest says on which side of it the quotient lies.
    quotient = int64(rest // divisor)
    rest = rest % divisor
    shift = 0
    value = quotient
    while value != 0:
        value >>= 1
        bits += 1
    while bits < _DOUBLE_BITS + 1:
        rest = rest << uint64(1)
        quotient <<= 1
        if rest >= divisor:
            rest -= divisor
            quotient |= 1
        bits += 1
        shift += 1
    half = quotient & 1
    quotient >>= 1
    shift -= 1
    if half and (rest != uint64(0) or quotient & 1):
        quotient += 1
    # The double is quotient / 2^shift.
    shift -= 16
    if shift <= 0:
        return quotient << -shift
    whole, fraction, middle = quotient >> shift, quotient & ((1 << shift) - 1), int64(1) << (shift - 1)
    if fraction > middle or (fraction == middle and whole & 1):
        whole += 1
    return whole


@inner
def _of_threshold(threshold: int) -> Any:
    """Returns (weight, flags) of a threshold in 2^-56."""
    kept = int64(_RANDOMNESS_RANGE) - threshold
    if kept < _RANDOMNESS_RANGE >> 17:
        return int64(WEIGHT_MAX), int64(_CAPPED)
    scaled = float64(_RANDOMNESS_RANGE) / float64(kept) * float64(WEIGHT_ONE)
    whole = int64(scaled)
    fraction = scaled - float64(whole)
    if abs(fraction - 0.5) < _SAFE_DISTANCE:
        weight = int64(_exact_weight(kept))
    else:
        weight = whole + 1 if fraction > 0.5 else whole
    if weight > WEIGHT_MAX:
        return int64(WEIGHT_MAX), int64(_CAPPED)
    return weight, int64(0)


@inner
def _repeats_a_name(first: int, name: int, size: int) -> Any:
    """Whether a field before `name`, in the entry that begins at `first`, has the same name."""
    p = first
    while p < name:
        other = p
        while load8(p) != uint64(_COLON):
            p += 1
        if p - other == size and equal(other, name, size):
            return True
        while load8(p) != uint64(_SEMICOLON):
            p += 1
        p += 1
    return False


@inner
def _of_entry(p: int, end: int) -> Any:
    """Returns what the value of an `ot` entry says, as `said_by`."""
    unknown = int64(WEIGHT_ONE), int64(_UNKNOWN), int64(0)
    if end - p > _ENTRY_MAX:
        return unknown
    first = p
    th, rv, p_value, r_value = int64(0), int64(0), int64(0), int64(0)
    th_size, rv_size, p_size, r_size = int64(-1), int64(-1), int64(-1), int64(-1)
    while True:
        name = p
        while p < end and load8(p) != uint64(_COLON) and load8(p) != uint64(_SEMICOLON):
            if load8(p) >= uint64(128):
                return unknown
            p += 1
        if p == end or load8(p) != uint64(_COLON) or _repeats_a_name(first, name, p - name):
            return unknown
        name_size = p - name
        p += 1
        text = p
        while p < end and load8(p) != uint64(_SEMICOLON):
            if load8(p) >= uint64(128):
                return unknown
            p += 1
        if name_size == 2 and load8(name) == _T and load8(name + 1) == _H:
            th, th_size = text, p - text
        elif name_size == 2 and load8(name) == _R and load8(name + 1) == _V:
            rv, rv_size = text, p - text
        elif name_size == 1 and load8(name) == _P:
            p_value, p_size = text, p - text
        elif name_size == 1 and load8(name) == _R:
            r_value, r_size = text, p - text
        if p == end:
            break
        p += 1
    if th_size >= 0:
        threshold = _hexadecimal(th, th_size)
        if threshold < 0:
            return unknown
        threshold <<= 4 * (_HEX_DIGITS - th_size)
        weight, flags = _of_threshold(threshold)
        if rv_size < 0:
            return weight, flags, threshold
        randomness = _hexadecimal(rv, rv_size) if rv_size == _HEX_DIGITS else int64(-1)
        if randomness < threshold:
            return unknown
        return weight, flags, int64(0)
    if p_size >= 0:
        exponent = _decimal(p_value, p_size, _P_ZERO)
        limit = _decimal(r_value, r_size, _R_MAX) if r_size >= 0 else int64(_P_ZERO)
        if exponent < 0 or limit < 0:
            return unknown
        if exponent == _P_ZERO:
            return int64(0), int64(0), int64(0)
        if limit < exponent:
            return unknown
        if exponent > _P_CAP:
            return int64(WEIGHT_MAX), int64(_CAPPED), int64(0)
        return int64(WEIGHT_ONE) << exponent, int64(0), int64(0)
    return unknown


@inlined
def _is_blank(p: int) -> Any:
    return load8(p) == uint64(_SPACE) or load8(p) == uint64(_TAB)


@inner
def said_by(p: int, size: int) -> Any:
    """Returns what a tracestate says, whatever the trace: weight in 2^-16, flags and the threshold it must have passed.

    The flags are `SAMPLING_UNKNOWN` or `WEIGHT_CAPPED` or none. `believed` compares the trace with the threshold.

    Args:
        p: Address of the whole header value.
        size: Its length.
    """
    end = p + size
    while p <= end:
        stop = p
        while stop < end and load8(stop) != uint64(_COMMA):
            stop += 1
        last = stop
        while p < last and _is_blank(p):
            p += 1
        while last > p and _is_blank(last - 1):
            last -= 1
        if last - p >= 2 and load8(p) == _O and load8(p + 1) == _T:
            if last - p == 2:  # the entry has no value
                return int64(WEIGHT_ONE), int64(_UNKNOWN), int64(0)
            if load8(p + 2) == uint64(_EQUALS):
                return _of_entry(p + 3, last)
        p = stop + 1
    return int64(WEIGHT_ONE), int64(_UNKNOWN), int64(0)


@inlined
def believed(weight: int, flags: int, threshold: int, trace_id: int, trace_id_size: int) -> Any:
    """Returns (weight, flags) of what a tracestate says, or that nothing is known: this trace was not to be kept.

    Args:
        weight: With `flags` and `threshold` as `said_by` returns them.
        flags: See there.
        threshold: See there.
        trace_id: Address of the trace id.
        trace_id_size: Its length; one of 16 bytes has randomness in its low 56 bits. Without it only the threshold 0,
            which keeps everything, is believed.
    """
    if threshold > 0:
        randomness = int64(0)
        if trace_id_size == _TRACE_ID_BYTES:
            randomness = byte_swapped(load_word(trace_id + 8)) & _RANDOMNESS_MASK
        if randomness < threshold:
            return int64(WEIGHT_ONE), int64(_UNKNOWN)
    return weight, flags


@inner
def weight_of(p: int, size: int, trace_id: int, trace_id_size: int) -> Any:
    """Returns (weight, flags) of a tracestate and a trace id: see `said_by` and `believed`."""
    weight, flags, threshold = said_by(p, size)
    return believed(weight, flags, threshold, trace_id, trace_id_size)
