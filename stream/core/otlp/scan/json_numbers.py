"""JSON numbers in compiled code: exact integers, doubles rounded to nearest.

Source: doubles: D. Lemire, "Number parsing at a gigabyte per second", Software: Practice and Experience 51 (2021);
that it needs no other way for 19 digits: N. Mushtak, D. Lemire, "Fast number parsing without fallback" (2023).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types, uint64
from numba.extending import intrinsic

from stream.core.columns import Array
from stream.core.otlp.json_fields import DOUBLE_DIGITS
from stream.core.otlp.scan.memory import address_of, inlined, inner, load8, load64

_ZERO, _NINE, _DOT, _MINUS, _PLUS = 0x30, 0x39, 0x2E, 0x2D, 0x2B
_POWER_MAX = 1 << 40
"""A larger power of ten is as good as infinite: no message has as many digits."""
_SMALLEST_POWER, _LARGEST_POWER = -342, 308
_INTEGER_DIGITS_MAX = 20
_UINT64_MAX = (1 << 64) - 1


@intrinsic
def high_product(typing_context: Any, left: Any, right: Any) -> Any:
    """The high half of the 128-bit product of two uint64."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic
def leading_zeros(typing_context: Any, value: Any) -> Any:
    """How many high bits of a uint64 are zero; 64 for 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


def _powers_of_five() -> Array:
    """Returns the leading 128 bits of 5^q for each power of ten q, high and low word each, and below 1 rounded up."""
    words = []
    for q in range(_SMALLEST_POWER, _LARGEST_POWER + 1):
        if q < 0:
            power = 5**-q
            bits = (power - 1).bit_length()
            leading = (1 << (bits + 127 if q >= -27 else 2 * bits + 128)) // power + 1
        else:
            power = 5**q
            leading = power << max(0, 128 - power.bit_length())
        leading >>= max(0, leading.bit_length() - 128)
        words += [leading >> 64, leading & _UINT64_MAX]
    return np.array(words, "uint64")


_POWERS = _powers_of_five()


def powers_address() -> int:
    """Returns the address of the table that `double` needs. It stays valid."""
    return address_of(_POWERS)


@inlined
def is_digit(p: int, end: int) -> Any:
    """Returns whether a decimal digit stands at `p`, before the end."""
    return p < end and uint64(_ZERO) <= load8(p) <= uint64(_NINE)


@inlined
def _eight_digits(word: int) -> Any:
    """Returns whether all eight bytes of a word are decimal digits."""
    high = uint64(0xF0F0F0F0F0F0F0F0)
    above = (word + uint64(0x0606060606060606)) & high
    return ((word & high) | (above >> uint64(4))) == uint64(0x3333333333333333)


@inlined
def _value_of_eight(word: int) -> Any:
    """Returns the number that eight digits spell, the first in the lowest byte."""
    word = ((word & uint64(0x0F0F0F0F0F0F0F0F)) * uint64(2561)) >> uint64(8)
    word = ((word & uint64(0x00FF00FF00FF00FF)) * uint64(6553601)) >> uint64(16)
    return ((word & uint64(0x0000FFFF0000FFFF)) * uint64(42949672960001)) >> uint64(32)


@inner
def plain_integer(p: int, end: int) -> Any:
    """Returns the value of up to 19 digits and where they end, or -1 where this is not such a plain number."""
    start = p
    value = uint64(0)
    while end - p >= 8 and p - start < 16:
        word = load64(p)
        if not _eight_digits(word):
            break
        value = value * uint64(100_000_000) + _value_of_eight(word)
        p += 8
    while p - start < DOUBLE_DIGITS and is_digit(p, end):
        value = value * uint64(10) + (load8(p) - uint64(_ZERO))
        p += 1
    if p == start or (load8(start) == uint64(_ZERO) and p - start > 1):
        return value, int64(-1)
    if p < end:
        after = load8(p)
        if uint64(_ZERO) <= after <= uint64(_NINE) or after == uint64(_DOT) or (after | uint64(0x20)) == uint64(0x65):
            return value, int64(-1)
    return value, p


@inner
def number_end(p: int, end: int) -> Any:
    """Returns where the JSON number at `p` ends, or -1 where none begins. Goes as far as the grammar allows."""
    if p < end and load8(p) == uint64(_MINUS):
        p += 1
    if not is_digit(p, end):
        return int64(-1)
    zero = load8(p) == uint64(_ZERO)
    p += 1
    while not zero and is_digit(p, end):
        p += 1
    if p < end and load8(p) == uint64(_DOT) and is_digit(p + 1, end):
        p += 2
        while is_digit(p, end):
            p += 1
    if p < end and (load8(p) | uint64(0x20)) == uint64(0x65):
        q = p + 1
        if q < end and (load8(q) == uint64(_PLUS) or load8(q) == uint64(_MINUS)):
            q += 1
        if is_digit(q, end):
            while is_digit(q, end):
                q += 1
            return q
    return p


@inner
def _parts(p: int, q: int) -> Any:
    """Takes the unsigned number in [p, q) apart.

    Returns:
        Where its first and its last digit that is not zero stand, how many digits they span, and the power of ten of
        the last. All zero for zero.
    """
    first, last = int64(0), int64(0)
    places, first_place, last_place = int64(0), int64(0), int64(0)  # counted in digits from the left
    whole = int64(-1)
    while p < q:
        byte = int64(load8(p))
        if byte == _DOT:
            whole = places
        elif byte > _NINE:
            break
        else:
            if byte != _ZERO:
                if first == 0:
                    first, first_place = p, places
                last, last_place = p, places
            places += 1
        p += 1
    if first == 0:
        return first, last, int64(0), int64(0)
    if whole < 0:
        whole = places
    return first, last, last_place - first_place + 1, whole - 1 - last_place + _power(p + 1, q)


@inner
def _power(p: int, q: int) -> Any:
    """Returns the power of ten in [p, q), behind the e; 0 where nothing is there."""
    negative = False
    power = int64(0)
    while p < q:
        byte = int64(load8(p))
        if byte == _MINUS:
            negative = True
        elif byte != _PLUS and power < _POWER_MAX:
            power = power * 10 + (byte - _ZERO)
        p += 1
    return -power if negative else power


@inner
def whole_number(p: int, q: int) -> Any:
    """Returns the value of the unsigned number in [p, q), and whether it is an integer below 2^64."""
    first, last, count, power = _parts(p, q)
    value = uint64(0)
    if first == 0:
        return value, True
    if power < 0 or count + power > _INTEGER_DIGITS_MAX:
        return value, False
    while first <= last:
        byte = load8(first)
        if byte != uint64(_DOT):
            digit = byte - uint64(_ZERO)
            if value > (uint64(_UINT64_MAX) - digit) // uint64(10):
                return value, False
            value = value * uint64(10) + digit
        first += 1
    for _ in range(power):
        if value > uint64(_UINT64_MAX) // uint64(10):
            return value, False
        value *= uint64(10)
    return value, True


@inner
def double(p: int, q: int, powers: int) -> Any:
    """Returns the bits of the double nearest to the unsigned number in [p, q), and whether it is finite."""
    first, last, count, power = _parts(p, q)
    significand = uint64(0)
    taken = int64(0)
    while first <= last and taken < DOUBLE_DIGITS and first != 0:
        byte = load8(first)
        if byte != uint64(_DOT):
            significand = significand * uint64(10) + (byte - uint64(_ZERO))
            taken += 1
        first += 1
    return _nearest(significand, power + count - taken, powers)


@inner
def _nearest(significand: int, power: int, powers: int) -> Any:
    """Returns the bits of the double nearest to significand times ten to the power, and whether it is finite."""
    if significand == uint64(0) or power < _SMALLEST_POWER:
        return uint64(0), True
    infinity = uint64(0x7FF0000000000000)
    if power > _LARGEST_POWER:
        return infinity, False
    zeros = leading_zeros(significand)
    factor = powers + (power - _SMALLEST_POWER) * 16
    normal = significand << uint64(zeros)
    high, low = high_product(normal, load64(factor)), normal * load64(factor)
    if high & uint64(0x1FF) == uint64(0x1FF):
        carried = low + high_product(normal, load64(factor + 8))
        if carried < low:
            high += uint64(1)
        low = carried
    top = int64(high >> uint64(63))
    mantissa = high >> uint64(top + 9)
    exponent = ((217706 * power) >> 16) + 63 + top - zeros + 1023
    if exponent <= 0:
        if exponent <= -63:
            return uint64(0), True
        mantissa >>= uint64(1 - exponent)
        mantissa += mantissa & uint64(1)
        return mantissa >> uint64(1), True  # a carry into the exponent is the smallest normal number
    # Exactly between two doubles: to the even one.
    between = low <= uint64(1) and -4 <= power <= 23 and mantissa << uint64(top + 9) == high
    if between and mantissa & uint64(3) == uint64(1):
        mantissa -= uint64(1)
    mantissa += mantissa & uint64(1)
    mantissa >>= uint64(1)
    if mantissa >= uint64(1) << uint64(53):
        mantissa = uint64(1) << uint64(52)
        exponent += 1
    if exponent >= 0x7FF:
        return infinity, False
    return (mantissa & uint64(0xFFFFFFFFFFFFF)) | uint64(exponent) << uint64(52), True
