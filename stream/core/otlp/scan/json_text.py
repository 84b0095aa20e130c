"""JSON texts in compiled code: where they end, what their escapes spell, hexadecimal and base64.

Texts are looked at in blocks of 32 bytes, so up to 31 bytes behind the end of a message are loaded (`PADDING` of them
must be readable); none of them decides.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import int64, types, uint64
from numba.extending import intrinsic

from stream.core.otlp.scan.memory import inlined, inner, load8, load64, store8, store64, trailing_zeros

PADDING = 64
"""Bytes behind the messages that a block may reach into."""

QUOTE, BACKSLASH = 0x22, 0x5C
_U = 0x75
_HIGH, _LOW, _SURROGATES_END = 0xD800, 0xDC00, 0xE000
_REPLACEMENT = 0xFFFD
_LANES = 32
_BLOCK = ir.VectorType(ir.IntType(8), _LANES)


def _lanes(value: int) -> ir.Constant:
    return ir.Constant(_BLOCK, [value] * _LANES)


def _block(builder: Any, address: Any) -> Any:
    block = builder.load(builder.inttoptr(address, _BLOCK.as_pointer()))
    block.align = 1
    return block


def _mask(builder: Any, lanes: Any) -> Any:
    """Returns the lanes that are true as the bits of a word."""
    return builder.zext(builder.bitcast(lanes, ir.IntType(_LANES)), ir.IntType(64))


@intrinsic
def special_bytes(typing_context: Any, address: Any) -> Any:
    """Which of the 32 bytes at an address are a quote, a backslash or below a space, as bits from the lowest."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _block(builder, arguments[0])
        quote = builder.icmp_unsigned("==", block, _lanes(QUOTE))
        backslash = builder.icmp_unsigned("==", block, _lanes(BACKSLASH))
        control = builder.icmp_unsigned("<", block, _lanes(0x20))
        return _mask(builder, builder.or_(builder.or_(quote, backslash), control))

    return types.uint64(types.int64), emit


@intrinsic
def store_hexadecimal(typing_context: Any, target: Any, source: Any) -> Any:
    """Stores the 16 bytes that 32 digits spell; returns which of these are no hexadecimal digits, as bits."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = arguments
        digits = _block(builder, source)
        decimal = builder.sub(digits, _lanes(ord("0")))
        letter = builder.sub(builder.or_(digits, _lanes(0x20)), _lanes(ord("a")))
        is_decimal = builder.icmp_unsigned("<", decimal, _lanes(10))
        is_letter = builder.icmp_unsigned("<", letter, _lanes(6))
        nibbles = builder.select(is_decimal, decimal, builder.add(letter, _lanes(10)))
        undefined = ir.Constant(_BLOCK, ir.Undefined)
        half = ir.VectorType(ir.IntType(32), _LANES // 2)
        high = builder.shuffle_vector(nibbles, undefined, ir.Constant(half, list(range(0, _LANES, 2))))
        low = builder.shuffle_vector(nibbles, undefined, ir.Constant(half, list(range(1, _LANES, 2))))
        sixteen = ir.VectorType(ir.IntType(8), _LANES // 2)
        pairs = builder.or_(builder.shl(high, ir.Constant(sixteen, [4] * (_LANES // 2))), low)
        store = builder.store(pairs, builder.inttoptr(target, sixteen.as_pointer()))
        store.align = 1
        return _mask(builder, builder.not_(builder.or_(is_decimal, is_letter)))

    return types.uint64(types.int64, types.int64), emit


@intrinsic
def copy_block(typing_context: Any, target: Any, source: Any) -> Any:
    """Copies 32 bytes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = arguments
        store = builder.store(_block(builder, source), builder.inttoptr(target, _BLOCK.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@inlined
def copy_blocks(target: int, source: int, length: int) -> None:
    """Copies `length` bytes in blocks of 32: up to 31 more are read and written."""
    copy_block(target, source)
    done = int64(_LANES)
    while done < length:
        copy_block(target + done, source + done)
        done += _LANES


@inlined
def text_end(p: int, end: int) -> Any:
    """Returns where the closing quote of a text is, or -1, and whether there is a backslash before it.

    Args:
        p: Behind the opening quote.
        end: Of the message.
    """
    mask = special_bytes(p)
    q = p + trailing_zeros(mask)
    if mask != uint64(0) and q < end and load8(q) == uint64(QUOTE):
        return q, False
    return _text_end(p, end)


@inner
def _text_end(p: int, end: int) -> Any:
    escaped = False
    while p < end:
        mask = special_bytes(p)
        if mask == uint64(0):
            p += _LANES
            continue
        p += trailing_zeros(mask)
        if p >= end:
            break
        byte = load8(p)
        if byte == uint64(QUOTE):
            return p, escaped
        length = _escape_length(p, end) if byte == uint64(BACKSLASH) else int64(0)
        if length == 0:
            break
        escaped = True
        p += length
    return int64(-1), escaped


@inner
def _escape_length(p: int, end: int) -> Any:
    """Returns how many bytes the escape at a backslash has, or 0 where it is none."""
    if end - p < 2:
        return int64(0)
    byte = int64(load8(p + 1))
    if byte == _U:
        if end - p < 6:
            return int64(0)
        for i in range(2, 6):
            if hexadecimal(int64(load8(p + i))) < 0:
                return int64(0)
        return int64(6)
    if _control(byte) != 0 or byte == 0x2F:
        return int64(2)
    return int64(2) if load8(p + 1) == uint64(QUOTE) or byte == BACKSLASH else int64(0)


@inlined
def hexadecimal(byte: int) -> Any:
    """Returns the value of a hexadecimal digit, or -1."""
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    byte |= 0x20
    return byte - 0x57 if 0x61 <= byte <= 0x66 else int64(-1)


@inlined
def _control(letter: int) -> Any:
    """Returns the control character that a letter behind a backslash stands for, or 0."""
    if letter == 0x6E:
        return int64(10)
    if letter == 0x74:
        return int64(9)
    if letter == 0x72:
        return int64(13)
    if letter == 0x62:
        return int64(8)
    return int64(12) if letter == 0x66 else int64(0)


@inlined
def _code_unit(p: int) -> Any:
    """Returns the UTF-16 code unit of an escape that was checked; `p` is at its backslash."""
    unit = int64(0)
    for i in range(2, 6):
        unit = (unit << 4) | hexadecimal(int64(load8(p + i)))
    return unit


@inner
def unescape(target: int, p: int, q: int) -> Any:
    """Writes what the inside [p, q) of a text that `text_end` went through spells; returns where that ends.

    It is never longer than its spelling. A surrogate without its other half becomes U+FFFD.
    """
    while p < q:
        byte = int64(load8(p))
        if byte != BACKSLASH:
            store8(target, byte)
            target += 1
            p += 1
            continue
        letter = int64(load8(p + 1))
        if letter != _U:
            control = _control(letter)
            store8(target, control if control != 0 else letter)
            target += 1
            p += 2
            continue
        unit = _code_unit(p)
        p += 6
        if _HIGH <= unit < _LOW and q - p >= 6 and load8(p) == uint64(BACKSLASH) and load8(p + 1) == uint64(_U):
            low = _code_unit(p)
            if _LOW <= low < _SURROGATES_END:
                unit = 0x10000 + ((unit - _HIGH) << 10) + (low - _LOW)
                p += 6
        if _HIGH <= unit < _SURROGATES_END:
            unit = int64(_REPLACEMENT)
        target = _store_utf8(target, unit)
    return target


@inner
def _store_utf8(target: int, code_point: int) -> Any:
    if code_point < 0x80:
        store8(target, code_point)
        return target + 1
    if code_point < 0x800:
        store8(target, 0xC0 | code_point >> 6)
        store8(target + 1, 0x80 | code_point & 0x3F)
        return target + 2
    if code_point < 0x10000:
        store8(target, 0xE0 | code_point >> 12)
        store8(target + 1, 0x80 | code_point >> 6 & 0x3F)
        store8(target + 2, 0x80 | code_point & 0x3F)
        return target + 3
    store8(target, 0xF0 | code_point >> 18)
    store8(target + 1, 0x80 | code_point >> 12 & 0x3F)
    store8(target + 2, 0x80 | code_point >> 6 & 0x3F)
    store8(target + 3, 0x80 | code_point & 0x3F)
    return target + 4


@inner
def decode_base64(target: int, p: int, q: int) -> Any:
    """Writes the bytes that the base64 in [p, q) spells; returns where they end, or -1 where it is none.

    May write over its own text where `target` is not behind `p`: three bytes take the place of four.
    """
    if (q - p) & 3 != 0:
        return int64(-1)
    while p < q:
        a, b = _base64_digit(int64(load8(p))), _base64_digit(int64(load8(p + 1)))
        c, d = int64(load8(p + 2)), int64(load8(p + 3))
        count = int64(3)
        if p + 4 == q and d == 0x3D:
            count = int64(1) if c == 0x3D else int64(2)
        third = _base64_digit(c) if count > 1 else int64(0)
        fourth = _base64_digit(d) if count > 2 else int64(0)
        if a < 0 or b < 0 or third < 0 or fourth < 0:
            return int64(-1)
        bits = a << 18 | b << 12 | third << 6 | fourth
        store8(target, bits >> 16)
        if count > 1:
            store8(target + 1, bits >> 8)
        if count > 2:
            store8(target + 2, bits)
        target += count
        p += 4
    return target


@inlined
def _base64_digit(byte: int) -> Any:
    if 0x41 <= byte <= 0x5A:
        return byte - 0x41
    if 0x61 <= byte <= 0x7A:
        return byte - 0x47
    if 0x30 <= byte <= 0x39:
        return byte + 4
    if byte == 0x2B:
        return int64(62)
    return int64(63) if byte == 0x2F else int64(-1)


@inner
def move_up(start: int, length: int, by: int) -> None:
    """Moves bytes to higher addresses by less than eight; where they were may be written over."""
    i = length
    while i >= 8:
        i -= 8
        store64(start + i + by, int64(load64(start + i)))
    while i > 0:
        i -= 1
        store8(start + i + by, int64(load8(start + i)))


@inner
def move_down(start: int, length: int, by: int) -> None:
    """Moves bytes to lower addresses; where they were may be written over."""
    for i in range(length):
        store8(start + i - by, int64(load8(start + i)))
