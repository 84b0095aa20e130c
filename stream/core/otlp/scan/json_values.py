"""Values of OTLP/JSON written as protobuf by compiled code: texts, ids, bytes, numbers and lists of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int64, uint64

from stream.core.otlp.json_fields import TRACE_ID_BYTES, Kind
from stream.core.otlp.scan.json_numbers import double, is_digit, number_end, plain_integer, whole_number
from stream.core.otlp.scan.json_tables import FIELD_KIND, FIELD_TAG
from stream.core.otlp.scan.json_text import (
    QUOTE,
    copy_blocks,
    decode_base64,
    move_down,
    move_up,
    store_hexadecimal,
    text_end,
    unescape,
)
from stream.core.otlp.scan.memory import inlined, inner, load8, load32, load64, load_word, store8, store64

ROOM_BEHIND = 96
"""Bytes that are free behind `room`: a value is written in blocks, and what is about it in a few bytes more."""

_CLOSE_LIST, _CLOSE_OBJECT = 0x5D, 0x7D
_COMMA, _MINUS, _SPACE, _ZERO = 0x2C, 0x2D, 0x20, 0x30
_NULL, _TRUE, _FALS = (np.uint64(int.from_bytes(word, "little")) for word in (b"null", b"true", b"fals"))

_NO_ROOM = -2
_LENGTH_BYTES_MAX = 5

_TEXT, _TRACE_ID, _BOOL = int(Kind.TEXT), int(Kind.TRACE_ID), int(Kind.BOOL)
_ENUM, _SINT32, _UINT32, _INT64, _UINT64 = (
    int(kind) for kind in (Kind.ENUM, Kind.SINT32, Kind.UINT32, Kind.INT64, Kind.UINT64)
)
_FIXED64, _DOUBLE = int(Kind.FIXED64), int(Kind.DOUBLE)
_NAN, _INFINITY, _SIGN = 0x7FF8 << 48, 0x7FF0 << 48, -1 << 63


@inlined
def blank(p: int, end: int) -> Any:
    """Returns where white space that may stand at `p` ends."""
    while p < end:
        byte = load8(p)
        if byte > uint64(_SPACE):
            break
        if byte != uint64(0x20) and byte != uint64(0x0A) and byte != uint64(0x0D) and byte != uint64(0x09):
            break
        p += 1
    return p


@inlined
def store_varint(out: int, value: int) -> Any:
    """Writes a word as a varint; returns where it ends."""
    rest = uint64(value)
    while rest >= uint64(0x80):
        store8(out, int64(rest | uint64(0x80)))
        out += 1
        rest >>= uint64(7)
    store8(out, int64(rest))
    return out + 1


@inner
def store_length(body: int, reserve: int, out: int) -> Any:
    """Writes the length of the message [body, out) before it; returns where it then ends.

    It is padded to the bytes that are reserved, as protobuf allows; if they are too few the message moves.
    """
    length = out - body
    if length >> (7 * reserve) != 0:
        by = int64(_LENGTH_BYTES_MAX) - reserve
        move_up(body, length, by)
        reserve, body, out = int64(_LENGTH_BYTES_MAX), body + by, out + by
    at = body - reserve
    while at < body - 1:
        store8(at, length & 0x7F | 0x80)
        length >>= 7
        at += 1
    store8(at, length)
    return out


@inlined
def is_null(p: int, end: int) -> Any:
    return load32(p) == _NULL and end - p >= 4


@inner
def literal_end(p: int, end: int) -> Any:
    """Returns where null, true, false or a number ends, or -1."""
    word = load32(p)
    if word == _TRUE or is_null(p, end):
        return p + 4 if end - p >= 4 else int64(-1)
    if word == _FALS and end - p >= 5 and load8(p + 4) == uint64(0x65):
        return p + 5
    return number_end(p, end)


@inner
def _store_text(out: int, p: int, q: int, escaped: bool) -> Any:
    """Writes the length and the bytes of the text within quotes [p, q); returns where they end."""
    if not escaped:
        out = store_varint(out, q - p)
        copy_blocks(out, p, q - p)
        return out + (q - p)
    body = out + _LENGTH_BYTES_MAX
    length = unescape(body, p, q) - body
    start = store_varint(out, length)
    move_down(body, length, body - start)
    return start + length


@inner
def _store_trace_id(out: int, p: int, q: int, escaped: bool) -> Any:
    """Writes the length and the bytes of an id; returns where they end, or -1."""
    if escaped:
        start = out + ROOM_BEHIND // 2
        p, q = start, unescape(start, p, q)
    if q == p:
        store8(out, 0)
        return out + 1
    if q - p != 2 * TRACE_ID_BYTES or store_hexadecimal(out + 1, p) != uint64(0):
        return int64(-1)
    store8(out, TRACE_ID_BYTES)
    return out + 1 + TRACE_ID_BYTES


@inner
def _store_base64(out: int, p: int, q: int, escaped: bool) -> Any:
    """Writes the length and the bytes that base64 spells; returns where they end, or -1."""
    body = out + _LENGTH_BYTES_MAX
    if escaped:
        p, q = body, unescape(body, p, q)
    stop = decode_base64(body, p, q)
    if stop < 0:
        return stop
    start = store_varint(out, stop - body)
    move_down(body, stop - body, body - start)
    return start + (stop - body)


@inner
def _unsigned(p: int, end: int) -> Any:
    """Returns the value of a number without its sign, where it ends, or -1 where it is no integer below 2^64."""
    value, q = plain_integer(p, end)
    if q >= 0:
        return value, q
    if not is_digit(p, end):
        return value, int64(-1)
    q = number_end(p, end)
    value, fits = whole_number(p, q)
    return value, q if fits else int64(-1)


@inner
def integer(p: int, end: int, kind: int) -> Any:
    """Returns the value of an unquoted integer of a kind as a word, where it ends, or -1."""
    negative = p < end and load8(p) == uint64(_MINUS)
    if negative:
        p += 1
    value, q = _unsigned(p, end)
    if q < 0:
        return int64(0), q
    bound = uint64(1 << 63) if kind >= _INT64 else uint64(1 << 31)
    most = bound - uint64(not negative)
    if kind == _UINT32 or _UINT64 <= kind <= _FIXED64:
        most = uint64(0) if negative else most + bound
    if value > most:
        return int64(0), int64(-1)
    return -int64(value) if negative else int64(value), q


@inner
def _double(p: int, end: int, powers: int) -> Any:
    """Returns the bits of an unquoted double, where it ends, or -1."""
    q = number_end(p, end)
    if q < 0:
        return int64(0), q
    negative = load8(p) == uint64(_MINUS)
    bits, finite = double(p + 1 if negative else p, q, powers)
    if not finite:
        return int64(0), int64(-1)
    return int64(bits) | int64(_SIGN) if negative else int64(bits), q


@inner
def _named_double(p: int, q: int) -> Any:
    """Returns the bits of the number that [p, q) names, and whether it is a name."""
    sign = int64(0)
    if q - p == 3 and load32(p) & uint64(0xFFFFFF) == uint64(0x4E614E):
        return int64(_NAN), True
    if q - p == 9 and load8(p) == uint64(_MINUS):
        sign = int64(_SIGN)
        p += 1
    infinity = q - p == 8 and load64(p) == uint64(0x7974696E69666E49)
    return int64(_INFINITY) | sign, infinity


@inner
def _number(p: int, end: int, kind: int, powers: int, scratch: int, room: int) -> Any:
    """Returns a number of a kind as a word, where its value ends, or -1, or `_NO_ROOM`.

    Args:
        p: Where the value begins.
        end: Of the message.
        kind: Of the number.
        powers: The table of `json_numbers`.
        scratch: Where its escapes may be resolved.
        room: Where that ends.
    """
    after = int64(0)
    if load8(p) == uint64(QUOTE):
        if kind == _ENUM:
            return int64(0), int64(-1)
        q, escaped = text_end(p + 1, end)
        if q < 0:
            return int64(0), q
        p, end, after = p + 1, q, q + 1
        if escaped:
            if q - p > room - scratch:
                return int64(0), int64(_NO_ROOM)
            end = unescape(scratch, p, q)
            p = scratch
    if kind == _DOUBLE:
        word, q = _double(p, end, powers)
        if q < 0 and after != 0:
            word, named = _named_double(p, end)
            return word, after if named else int64(-1)
    else:
        word, q = integer(p, end, kind)
    if after == 0 or q < 0:
        return word, q
    return word, after if q == end else int64(-1)


@inlined
def _store_number(out: int, word: int, kind: int) -> Any:
    """Writes a number without its tag; returns where it ends."""
    if kind >= _FIXED64:
        store64(out, word)
        return out + 8
    if kind == _SINT32:
        word = word << 1 ^ word >> 63
    return store_varint(out, word)


@inlined
def _is_end(byte: int) -> Any:
    """Returns whether a byte is what usually follows a value: no digit can be more of it."""
    return byte == uint64(_COMMA) or byte == uint64(_CLOSE_OBJECT)


@inner
def store_value(p: int, end: int, field: int, powers: int, out: int, room: int) -> Any:
    """Writes a value that is no message, without its tag.

    Returns:
        Where the value ends in the message or -1, and where what is written ends or -1 for want of room.
    """
    kind = load_word(field + FIELD_KIND)
    if kind == _FIXED64 and load8(p) == uint64(QUOTE):
        value, q = plain_integer(p + 1, end)  # a time, as nearly every producer writes it
        if 0 <= q < end and load8(q) == uint64(QUOTE):
            store64(out, int64(value))
            return q + 1, out + 8
    if kind == _ENUM and end - p >= 2 and is_digit(p, end) and _is_end(load8(p + 1)):
        store8(out, int64(load8(p)) - _ZERO)
        return p + 1, out + 1
    if kind == _BOOL:
        is_true = load32(p) == _TRUE
        q = literal_end(p, end) if is_true or load32(p) == _FALS else int64(-1)
        store8(out, int64(is_true))
        return q, out + 1
    if kind > _BOOL:
        word, q = _number(p, end, kind, powers, out, room)
        if q == _NO_ROOM:
            return p, int64(-1)
        return q, _store_number(out, word, kind)
    q, escaped = text_end(p + 1, end)
    if load8(p) != uint64(QUOTE) or q < 0:
        return int64(-1), out
    if q - p > room - out:
        return q, int64(-1)
    if kind == _TEXT:
        return q + 1, _store_text(out, p + 1, q, escaped)
    out = _store_trace_id(out, p + 1, q, escaped) if kind == _TRACE_ID else _store_base64(out, p + 1, q, escaped)
    return (q + 1 if out >= 0 else int64(-1)), max(out, int64(0))


@inner
def store_list(p: int, end: int, field: int, powers: int, out: int, room: int) -> Any:
    """Writes a list of numbers, `p` behind its bracket, with its tag. Returns as `store_value`."""
    store8(out, load_word(field + FIELD_TAG))
    body = out + 1 + _LENGTH_BYTES_MAX
    out = body
    p = blank(p, end)
    more = not (p < end and load8(p) == uint64(_CLOSE_LIST))
    while more:
        p = blank(p, end)
        if p >= end:
            return int64(-1), out
        if out > room:
            return p, int64(-1)
        p, out = store_value(p, end, field, powers, out, room)
        if p < 0 or out < 0:
            return p, out
        p = blank(p, end)
        if p >= end:
            return int64(-1), out
        more = load8(p) == uint64(_COMMA)
        p += more
    if load8(p) != uint64(_CLOSE_LIST):
        return int64(-1), out
    return p + 1, store_length(body, int64(_LENGTH_BYTES_MAX), out)


@inlined
def length_at(p: int) -> Any:
    """Returns the value of a varint that was written here."""
    value, shift = int64(0), int64(0)
    while True:
        byte = int64(load8(p))
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
        shift += 7
        p += 1
