"""Identities of metric streams, compiled: what `stream.core.otlp.identity` defines, read from protobuf.

Beside the refusals of `wire`, functions here return `RARE` for what no encoder writes: a value sent in several parts,
which only the plain decoder puts together.
"""

from __future__ import annotations

from typing import Any

from numba import int64, uint64

from stream.core.otlp.identity import LEVELS_MAX, Tag
from stream.core.otlp.scan.memory import inlined, inner, load8, load64, load_short, load_word, stack_words, store64
from stream.core.otlp.scan.wire import (
    ARRAY_VALUE,
    DOUBLE,
    INT,
    KEY_VALUE_LIST,
    LENGTH_DELIMITED,
    MALFORMED,
    STRING,
    VARINT,
    length,
    skipped,
    tag,
    validated,
    varint,
)

RARE = -5

NONE, TEXT, BOOLEAN, INTEGER, NUMBER, ARRAY, MAP, BYTES = (int(kind) for kind in Tag)
"""What a value is: a `Tag`, which is also the number of its field in an AnyValue."""
assert (TEXT, INTEGER, NUMBER) == (STRING, INT, DOUBLE)

_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
_NAN = 0x7FF8000000000000
_KEY_TAG, _VALUE_TAG, _MEMBER_TAG = 1 << 3 | LENGTH_DELIMITED, 2 << 3 | LENGTH_DELIMITED, 1 << 3 | LENGTH_DELIMITED
_TEXT_TAG, _BOOLEAN_TAG, _INTEGER_TAG, _DOUBLE_TAG = 1 << 3 | 2, 2 << 3 | VARINT, 3 << 3 | VARINT, 4 << 3 | 1
_ARRAY_TAG, _MAP_TAG, _BYTES_TAG, _INDEX_TAG = 5 << 3 | 2, 6 << 3 | 2, 7 << 3 | 2, 8 << 3 | VARINT

_FRAME = 48
"""Bytes that an open array or map takes on the stack: where it goes on, its end, lanes, members so far, its tag."""


@inlined
def _rotated(word: Any, bits: int) -> Any:
    return (word << uint64(bits)) | (word >> uint64(64 - bits))


@inlined
def _final(word: Any) -> Any:
    word ^= word >> uint64(33)
    word *= uint64(0xFF51AFD7ED558CCD)
    word ^= word >> uint64(33)
    word *= uint64(0xC4CEB9FE1A85EC53)
    return word ^ (word >> uint64(33))


@inlined
def _finished(h1: Any, h2: Any, size: int) -> Any:
    h1 ^= uint64(size)
    h2 ^= uint64(size)
    h1 += h2
    h2 += h1
    h1, h2 = _final(h1), _final(h2)
    h1 += h2
    return h1, h2 + h1


@inlined
def murmur_word(word: Any, size: int, h1: Any, h2: Any) -> Any:
    """Returns the lanes of MurmurHash3_x64_128 over the first `size` (up to 8) bytes of a word; its others are 0."""
    h1 ^= _rotated(word * uint64(_C1), 31) * uint64(_C2)
    return _finished(h1, h2, size)


@inner
def murmur(p: int, size: int, h1: Any, h2: Any) -> Any:
    """Returns the lanes of MurmurHash3_x64_128 over the bytes at an address; reads up to seven bytes past their end.

    Args:
        p: Where the bytes begin.
        size: How many.
        h1: Where the first lane starts, uint64.
        h2: Where the second one starts.
    """
    done = int64(0)
    while size - done >= 16:
        h1 ^= _rotated(load64(p + done) * uint64(_C1), 31) * uint64(_C2)
        h1 = (_rotated(h1, 27) + h2) * uint64(5) + uint64(0x52DCE729)
        h2 ^= _rotated(load64(p + done + 8) * uint64(_C2), 33) * uint64(_C1)
        h2 = (_rotated(h2, 31) + h1) * uint64(5) + uint64(0x38495AB5)
        done += 16
    rest = size - done
    if rest > 8:
        h2 ^= _rotated(load_short(p + done + 8, rest - 8) * uint64(_C2), 33) * uint64(_C1)
    if rest > 0:
        h1 ^= _rotated(load_short(p + done, rest) * uint64(_C1), 31) * uint64(_C2)
    return _finished(h1, h2, size)


@inner
def _any_split(p: int, end: int) -> Any:
    key, key_size, value, value_size, values = p, int64(0), p, int64(0), 0
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p, key_size, value, value_size
        if t == _KEY_TAG or t == _VALUE_TAG:
            size, p = length(p, end)
            if p < 0:
                return p, key_size, value, value_size
            if t == _KEY_TAG:
                key, key_size = p, size
            else:
                value, value_size = p, size
                values += 1
            p += size
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p, key_size, value, value_size
    if values > 1:
        return int64(RARE), key_size, value, value_size
    return key, key_size, value, value_size


@inlined
def split(p: int, end: int) -> Any:
    """Returns (where the key of a KeyValue begins or a refusal, its length, where the value begins, its length).

    The value is not looked at. The usual layouts are read at once, see `wire.key_value`.
    """
    if end - p >= 4:
        first_tag, first = load8(p), int64(load8(p + 1))
        middle = p + 2 + first
        if first < 128 and middle + 2 <= end:
            second_tag, second = load8(middle), int64(load8(middle + 1))
            if second < 128 and middle + 2 + second == end:
                if first_tag == uint64(_VALUE_TAG) and second_tag == uint64(_KEY_TAG):
                    return middle + 2, second, p + 2, first
                if first_tag == uint64(_KEY_TAG) and second_tag == uint64(_VALUE_TAG):
                    return p + 2, first, middle + 2, second
    return _any_split(p, end)


@inner
def _any_typed(p: int, end: int) -> Any:
    kind, a, b, containers = NONE, 0, 0, 0
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p, a, b
        if t == _TEXT_TAG or t == _BYTES_TAG or t == _ARRAY_TAG or t == _MAP_TAG:
            size, p = length(p, end)
            if p < 0:
                return p, a, b
            kind, a, b = t >> 3, p, size
            p += size
            if t == _ARRAY_TAG or t == _MAP_TAG:
                containers += 1
                valid = validated(a, p, ARRAY_VALUE if t == _ARRAY_TAG else KEY_VALUE_LIST)
                if valid < 0:
                    return valid, a, b
        elif t == _INTEGER_TAG or t == _BOOLEAN_TAG or t == _INDEX_TAG:
            a, p = varint(p, end)
            if p < 0:
                return p, a, b
            kind, b = t >> 3, 0
            if t == _BOOLEAN_TAG:
                a = 1 if a != 0 else 0
            elif t == _INDEX_TAG:
                kind, a = NONE, 0
        elif t == _DOUBLE_TAG:
            if end - p < 8:
                return int64(MALFORMED), a, b
            kind, a, b = NUMBER, load_word(p), 0
            p += 8
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p, a, b
    if containers > 1:
        return int64(RARE), a, b
    return kind, a, b


@inlined
def typed(p: int, end: int) -> Any:
    """Returns (what an AnyValue is or a refusal, a, b).

    `a` and `b` are the address and length of a `TEXT`, of `BYTES`, an `ARRAY` or a `MAP`, `a` the value of a `BOOLEAN`
    or `INTEGER` and the bits of a `NUMBER`.
    """
    size = end - p
    if size >= 2:
        first, second = load8(p), load8(p + 1)
        if first == uint64(_TEXT_TAG) and int64(second) == size - 2 and second < uint64(128):
            return int64(TEXT), p + 2, size - 2
        if first == uint64(_INTEGER_TAG):
            if size == 2 and second < uint64(128):
                return int64(INTEGER), int64(second), int64(0)
            if size == 3 and second >= uint64(128) and load8(p + 2) < uint64(128):
                return int64(INTEGER), int64((second & uint64(127)) | (load8(p + 2) << uint64(7))), int64(0)
    return _any_typed(p, end)


@inlined
def _scalar(kind: int, a: int, b: int, h1: Any, h2: Any) -> Any:
    """Returns what a value that is no array or map adds at the place (h1, h2)."""
    h2 ^= uint64(kind)
    if kind == TEXT or kind == BYTES:
        return murmur(a, b, h1, h2)
    if kind == INTEGER:
        return murmur_word(uint64(a), 8, h1, h2)
    if kind == NUMBER:
        magnitude = uint64(a) & uint64(0x7FFFFFFFFFFFFFFF)
        return murmur_word(uint64(_NAN) if magnitude > uint64(0x7FF0000000000000) else uint64(a), 8, h1, h2)
    return murmur_word(uint64(a), 1 if kind == BOOLEAN else 0, h1, h2)


@inner
def _members(kind: int, p: int, size: int, h1: Any, h2: Any) -> Any:
    """Returns (lanes, 0 or a refusal): what an array or map at the place (h1, h2) adds with all within it."""
    outer = stack_words(192)  # frames of LEVELS_MAX levels
    h2 ^= uint64(kind)
    end, index, depth = p + size, int64(0), 0
    sum1, sum2 = murmur_word(uint64(0), 0, h1, h2)
    while True:
        while p >= end:
            if depth == 0:
                return sum1, sum2, int64(0)
            depth -= 1
            frame = outer + _FRAME * depth
            p, end, index, kind = load_word(frame), load_word(frame + 8), load_word(frame + 32), load_word(frame + 40)
            h1, h2 = load64(frame + 16), load64(frame + 24)
        t, p = tag(p, end)
        if p < 0:
            return sum1, sum2, p
        if t != _MEMBER_TAG:
            p = skipped(p, end, t)
            if p < 0:
                return sum1, sum2, p
            continue
        member_size, p = length(p, end)
        if p < 0:
            return sum1, sum2, p
        value, value_size = p, member_size
        if kind == ARRAY:
            m1, m2 = murmur_word(uint64(index), 8, h1, h2)
            index += 1
        else:
            key, key_size, value, value_size = split(p, p + member_size)
            if key < 0:
                return sum1, sum2, key
            m1, m2 = murmur(key, key_size, h1, h2)
        p += member_size
        inner_kind, a, b = typed(value, value + value_size)
        if inner_kind < 0:
            return sum1, sum2, inner_kind
        if inner_kind != ARRAY and inner_kind != MAP:
            m1, m2 = _scalar(inner_kind, a, b, m1, m2)
            sum1 += m1
            sum2 += m2
            continue
        m2 ^= uint64(inner_kind)
        added1, added2 = murmur_word(uint64(0), 0, m1, m2)
        sum1 += added1
        sum2 += added2
        if depth < LEVELS_MAX - 1:
            frame = outer + _FRAME * depth
            store64(frame, p)
            store64(frame + 8, end)
            store64(frame + 16, int64(h1))
            store64(frame + 24, int64(h2))
            store64(frame + 32, index)
            store64(frame + 40, kind)
            depth += 1
            p, end, index, kind = a, a + b, int64(0), inner_kind
            h1, h2 = m1, m2


@inlined
def attribute_hash(place: int, key: int, key_size: int, kind: int, a: int, b: int) -> Any:
    """Returns (lanes, 0 or a refusal): what an attribute adds to the identity of its stream.

    Args:
        place: A `Place`.
        key: Where its key begins.
        key_size: How long that is.
        kind: What the value is, see `typed`; likewise `a` and `b`.
    """
    h1, h2 = murmur(key, key_size, uint64(place), uint64(0))
    if kind == ARRAY or kind == MAP:
        return _members(kind, a, b, h1, h2)
    h1, h2 = _scalar(kind, a, b, h1, h2)
    return h1, h2, int64(0)
