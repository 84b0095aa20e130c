"""JSON as orjson accepts it, read by address: texts, numbers and values that nobody reads.

Every function takes `end`, the address behind the message, and returns the address behind what it read or -1. -1 says
"not accepted here", not "wrong": the caller hands such a message to orjson, which knows. So what is rare (64 levels,
numbers whose size is not obvious) is left out; what is accepted must be what orjson accepts.

A step may look a few bytes behind `end`, where there is padding or the next message. The caller must therefore take
a message only if what was read ends exactly at `end`: addresses only rise, so nothing behind it was read then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float64, int64, types, uint64
from numba.extending import intrinsic

from stream.core.otlp.scan.memory import inlined, inner, load8, load64, load_short, trailing_zeros

PADDING = 64
"""Bytes that must be readable behind the last message."""

LEVELS_MAX = 60
"""Levels of nesting that are followed: one bit each."""

_LANES = 32
_BYTES = ir.VectorType(ir.IntType(8), _LANES)

_QUOTE, _BACKSLASH, _COLON, _COMMA = 34, 92, 58, 44
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = 123, 125, 91, 93
_MINUS, _PLUS, _POINT, _ZERO = 45, 43, 46, 48
_SPACE, _TAB, _LINE_FEED, _CARRIAGE_RETURN = 32, 9, 10, 13

_TRUE = np.uint64(int.from_bytes(b"true", "little"))
_FALSE = np.uint64(int.from_bytes(b"false", "little"))
_NULL = np.uint64(int.from_bytes(b"null", "little"))

_MANTISSA_MAX = (2**63 - 10) // 10
"""Up to here one more digit fits into an int64."""

_EXACT_DOUBLE = 1 << 53
_EXACT_POWER = 22
_POWERS_OF_TEN = np.array([10.0**power for power in range(_EXACT_POWER + 1)])
_SURELY_FINITE = 300
"""A number of fewer digits before its point, exponent included, is no infinity."""

_EXPONENT_CAP = 1 << 20

EXACT, INTEGER, NEGATIVE = 1, 2, 4
"""What `number` says: its value is known exactly; it has neither point nor exponent; it has a minus."""


def _any_of_a_text(builder: Any, data: Any) -> Any:
    """Returns which of 32 bytes are a quote, a backslash, a control character or not ASCII."""

    def lanes(byte: int) -> Any:
        return ir.Constant(_BYTES, [byte] * _LANES)

    # Signed: bytes from 128 on are below 32, too.
    low = builder.icmp_signed("<", data, lanes(_SPACE))
    marks = builder.or_(builder.icmp_signed("==", data, lanes(_QUOTE)), low)
    return builder.or_(marks, builder.icmp_signed("==", data, lanes(_BACKSLASH)))


@intrinsic
def _marks(typing_context: Any, address: Any) -> Any:
    """One bit for each of the 32 bytes at an address: whether a text does not simply go on there."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = builder.load(builder.inttoptr(arguments[0], _BYTES.as_pointer()))
        data.align = 1
        bits = builder.bitcast(_any_of_a_text(builder, data), ir.IntType(_LANES))
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(types.int64), emit


@inlined
def byte(address: int) -> Any:
    """The byte at an address as int64."""
    return int64(load8(address))


@inlined
def after_space(at: int, end: int) -> Any:
    """Where the white space ends that may be here."""
    while at < end:
        c = byte(at)
        if c > _SPACE or not (c == _SPACE or c == _LINE_FEED or c == _CARRIAGE_RETURN or c == _TAB):
            break
        at += 1
    return at


@inlined
def text_end(at: int, end: int) -> Any:
    """The address of the quote that ends the text at `at`, behind its first quote, or -1; whether it has escapes."""
    begin, marks = at, _marks(at)
    while marks == uint64(0) and at + _LANES < end:
        at += _LANES
        marks = _marks(at)
    if marks != uint64(0):
        quote = at + trailing_zeros(marks)
        if byte(quote) == _QUOTE and quote < end:
            return quote, False
    return _text_end(begin, end)


@inner
def _text_end(at: int, end: int) -> Any:
    escaped = False
    while at < end:
        marks = _marks(at)
        if marks == uint64(0):
            at += _LANES
            continue
        at += trailing_zeros(marks)
        c = byte(at)
        if at >= end:
            break
        if c == _QUOTE:
            return at, escaped
        if c == _BACKSLASH:
            escaped = True
            at = _after_escape(at, end)
        elif c >= 128:
            at = _after_character(at)
        else:
            return int64(-1), escaped
        if at < 0:
            break
    return int64(-1), escaped


@inner
def _after_character(at: int) -> Any:
    """The address behind a character that is not ASCII, -1 where its bytes are no UTF-8.

    Source: Unicode, table 3-7 (well-formed UTF-8 byte sequences).
    """
    word = load64(at)
    first = int64(word & uint64(0xFF))
    second = int64((word >> uint64(8)) & uint64(0xFF))
    if first < 0xC2 or first > 0xF4 or second & 0xC0 != 0x80:
        return int64(-1)
    if first < 0xE0:
        return at + 2
    third = int64((word >> uint64(16)) & uint64(0xFF))
    if third & 0xC0 != 0x80:
        return int64(-1)
    if first < 0xF0:
        if (first == 0xE0 and second < 0xA0) or (first == 0xED and second > 0x9F):
            return int64(-1)
        return at + 3
    fourth = int64((word >> uint64(24)) & uint64(0xFF))
    if fourth & 0xC0 != 0x80 or (first == 0xF0 and second < 0x90) or (first == 0xF4 and second > 0x8F):
        return int64(-1)
    return at + 4


@inner
def _after_escape(at: int, end: int) -> Any:
    """The address behind an escape, with the second one of a surrogate pair; -1 where it is none."""
    c = byte(at + 1)
    if c == 117:  # u
        unit = _four_digits(at + 2)
        if unit < 0xD800 or unit > 0xDFFF:
            return at + 6 if unit >= 0 else int64(-1)
        if unit > 0xDBFF or byte(at + 6) != _BACKSLASH or byte(at + 7) != 117:
            return int64(-1)
        low = _four_digits(at + 8)
        return at + 12 if 0xDC00 <= low <= 0xDFFF else int64(-1)
    # " \ / b f n r t
    if c == 34 or c == 92 or c == 47 or c == 98 or c == 102 or c == 110 or c == 114 or c == 116:
        return at + 2
    return int64(-1)


@inner
def _four_digits(at: int) -> Any:
    """The value of four hexadecimal digits, -1 where they are none."""
    value = int64(0)
    for i in range(4):
        digit = hex_digit(byte(at + i))
        if digit < 0:
            return int64(-1)
        value = value << 4 | digit
    return value


@inlined
def hex_digit(c: int) -> Any:
    """The value of a hexadecimal digit, -1 for any other byte."""
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else int64(-1)


@inlined
def is_digit(address: int) -> Any:
    """Whether a decimal digit stands here."""
    return load8(address) - uint64(_ZERO) <= uint64(9)


FEW_DIGITS = 8
_ONES = 0x0101_0101_0101_0101
_ZEROS, _ABOVE_NINE, _HIGH = np.uint64(0x30 * _ONES), np.uint64(0x76 * _ONES), np.uint64(0x80 * _ONES)
_PAIRS = np.uint64(0x0000_00FF_0000_00FF)
_HUNDREDS, _UNITS = np.uint64(100 + (1_000_000 << 32)), np.uint64(1 + (10_000 << 32))
_TENS = np.array([10**power for power in range(FEW_DIGITS + 1)])


@inlined
def few_digits(at: int) -> Any:
    """The value of the digits that begin here, of at most eight, and how many these are; all at once.

    Source: D. Lemire, "Quickly parsing eight digits" (2018).
    """
    word = load64(at) ^ _ZEROS
    # The top bit of the first byte that is no digit; a sum reaches the bytes behind it at most.
    count = trailing_zeros(((word + _ABOVE_NINE) | word) & _HIGH) >> 3
    if count == 0:
        return int64(0), count
    word <<= uint64(64 - 8 * count)  # zeros stand before them
    word = word * uint64(10) + (word >> uint64(8))
    return int64(((word & _PAIRS) * _HUNDREDS + (word >> uint64(16) & _PAIRS) * _UNITS) >> uint64(32)), count


@inner
def _further_digits(at: int, end: int, mantissa: int, flags: int) -> Any:
    """Reads on in a number of more digits: the address behind them, the mantissa with them, the flags."""
    while at < end and is_digit(at):
        if mantissa > _MANTISSA_MAX:
            flags &= ~EXACT
        else:
            mantissa = mantissa * 10 + (byte(at) - _ZERO)
        at += 1
    return at, mantissa, flags


@inner
def number(at: int, end: int) -> Any:
    """Reads a number: address behind it or -1, `EXACT | INTEGER | NEGATIVE`, magnitude as integer, magnitude as double.

    The integer is that of an exact `INTEGER`, the double that of any exact number: the nearest one. Where it is not
    exact both are 0.

    Source: W. Clinger, "How to read floating point numbers accurately" (1990): a mantissa below 2^53 times or over a
        power of ten up to 10^22 is rounded once.
    """
    flags = int64(EXACT | INTEGER)
    if byte(at) == _MINUS:
        flags |= NEGATIVE
        at += 1
    first = at
    mantissa, digits = few_digits(at)
    at += digits
    if digits == FEW_DIGITS:
        at, mantissa, flags = _further_digits(at, end, mantissa, flags)
        digits = at - first
    if digits == 0 or (digits > 1 and byte(first) == _ZERO):
        return int64(-1), flags, int64(0), 0.0
    power = int64(0)
    if byte(at) == _POINT:
        flags &= ~INTEGER
        at += 1
        first = at
        if digits < FEW_DIGITS:
            value, count = few_digits(at)
            mantissa = mantissa * _TENS[count] + value
            at += count
        if digits >= FEW_DIGITS or count == FEW_DIGITS:
            at, mantissa, flags = _further_digits(at, end, mantissa, flags)
        power = first - at
        if power == 0:
            return int64(-1), flags, int64(0), 0.0
    if byte(at) | 32 == 101:  # e
        flags &= ~INTEGER
        at, exponent = _exponent(at + 1, end)
        power += exponent
        digits += exponent
    if at < 0 or digits > _SURELY_FINITE:
        return int64(-1), flags, int64(0), 0.0
    if flags & EXACT == 0:
        return at, flags, int64(0), 0.0
    if flags & INTEGER:
        return at, flags, mantissa, float64(mantissa)
    if mantissa > _EXACT_DOUBLE or power > _EXACT_POWER or power < -_EXACT_POWER:
        return at, flags & ~EXACT, int64(0), 0.0
    value = float64(mantissa)
    if power < 0:
        value /= _POWERS_OF_TEN[-power]
    else:
        value *= _POWERS_OF_TEN[power]
    return at, flags, int64(0), value


@inner
def _exponent(at: int, end: int) -> Any:
    """Reads what stands behind an e: the address behind it or -1, and the exponent, capped."""
    sign = byte(at)
    if sign == _MINUS or sign == _PLUS:
        at += 1
    first = at
    exponent = int64(0)
    while at < end and is_digit(at):
        exponent = min(exponent * 10 + (byte(at) - _ZERO), _EXPONENT_CAP)
        at += 1
    if at == first:
        return int64(-1), int64(0)
    return at, -exponent if sign == _MINUS else exponent


@inlined
def after_literal(at: int) -> Any:
    """The address behind true, false or null, else -1."""
    word = load_short(at, 5)
    if word == _FALSE:
        return at + 5
    word &= uint64(0xFFFFFFFF)
    return at + 4 if word == _TRUE or word == _NULL else int64(-1)


@inlined
def is_null(at: int) -> Any:
    """Whether null stands here."""
    return load_short(at, 4) == _NULL


@inlined
def after_text(at: int, end: int) -> Any:
    """The address behind the text at `at`, its first quote, or -1."""
    quote, _ = text_end(at + 1, end)
    return quote + 1 if quote >= 0 else int64(-1)


@inner
def after_value(at: int, end: int) -> Any:
    """The address behind any value, or -1."""
    c = byte(at)
    if c == _QUOTE:
        return after_text(at, end)
    if c == _OPEN_OBJECT or c == _OPEN_ARRAY:
        return _after_nested(at, end)
    return _after_word(at, end)


@inlined
def _after_word(at: int, end: int) -> Any:
    """The address behind a literal or a number, or -1."""
    if byte(at) >= 97:
        return after_literal(at)
    behind, _, _, _ = number(at, end)
    return behind


@inner
def value_behind_key(at: int, end: int) -> Any:
    """The address of the value whose key may begin here, or -1."""
    if byte(at) != _QUOTE:
        return int64(-1)
    quote, _ = text_end(at + 1, end)
    return value_behind_quote(quote, end) if quote >= 0 else int64(-1)


@inlined
def value_behind_quote(quote: int, end: int) -> Any:
    """The address of the value behind the quote that ends its key, or -1."""
    at = after_space(quote + 1, end)
    return after_space(at + 1, end) if byte(at) == _COLON else int64(-1)


@inner
def _after_nested(at: int, end: int) -> Any:
    """The address behind an object or array, or -1. No recursion: bit n of `objects` says whether level n is one."""
    objects, level = int64(0), int64(0)
    while at < end:
        c = byte(at)
        if c == _OPEN_OBJECT or c == _OPEN_ARRAY:
            if level == LEVELS_MAX:
                return int64(-1)
            level += 1
            is_object = c == _OPEN_OBJECT
            objects = objects << 1 | int64(is_object)
            at = after_space(at + 1, end)
            if byte(at) != (_CLOSE_OBJECT if is_object else _CLOSE_ARRAY):
                if is_object:
                    at = value_behind_key(at, end)
                    if at < 0:
                        return at
                continue
        elif c == _QUOTE:
            at, _ = text_end(at + 1, end)
            if at < 0:
                return at
            at += 1
        else:
            at = _after_word(at, end)
            if at < 0:
                return at
        # A value ended here, or the closing bracket of an empty one is here.
        while level > 0:
            at = after_space(at, end)
            c = byte(at)
            is_object = objects & 1 == 1
            if c == _COMMA:
                at = after_space(at + 1, end)
                if is_object:
                    at = value_behind_key(at, end)
                    if at < 0:
                        return at
                break
            if c != (_CLOSE_OBJECT if is_object else _CLOSE_ARRAY):
                return int64(-1)
            at += 1
            level -= 1
            objects >>= 1
        if level == 0:
            return at
    return int64(-1)
