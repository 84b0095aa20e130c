"""The protobuf wire format as upb reads it: what it refuses is refused here, what it accepts is accepted.

Every function takes the address to read at and the address where the item that is read ends, and returns where it
stopped. A negative address is a refusal: `MALFORMED` or `TOO_DEEP`.

Source: protobuf.dev, "Encoding"; upb, `wire/decode.c` and `wire/reader.h`: a tag and a length have at most 5 bytes, any
other varint at most 10, of which bits past the 64th are dropped; a tag fits in 32 bits and its field number is not 0,
but for tags inside an unknown group; a length fits in a positive int32; a field with another wire type than its
schema's is an unknown field; at most 100 levels of messages and groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stream.core.otlp.scan.memory import (
    PADDING,
    inlined,
    inner,
    int64,
    load8,
    load32,
    load64,
    load_short,
    load_word,
    stack_words,
    uint64,
)
from stream.core.otlp.scan.memory import store64 as store

MALFORMED, TOO_DEEP, UNWANTED = -1, -2, -3
"""Negative results: of any function here the first two, of `key_value` and `lookup` also the third."""

VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = 0, 1, 2, 3, 4, 5
"""Wire types: the low three bits of a tag. The rest is the field number."""

NONE, STRING, BOOL, INT, DOUBLE, OTHER = 0, 1, 2, 3, 4, 5
"""What an AnyValue holds. `OTHER` (an array, a map, bytes, an index) is as good as nothing to who reads it."""

LEVELS = 100
"""Nested messages and groups that upb accepts, each below the top one counted."""

_TWO_WORDS_A_LEVEL = 2 * LEVELS

_TAG_BYTES, _LENGTH_BYTES, _VARINT_BYTES = 5, 5, 10
_TAG_MAX, _LENGTH_MAX = (1 << 32) - 1, (1 << 31) - 1

PLAIN, ANY_VALUE, ARRAY_VALUE, KEY_VALUE_LIST, KEY_VALUE, RESOURCE, SCOPE, EVENT, LINK, STATUS, EXEMPLAR = range(1, 12)
"""Messages that `validated` knows. `PLAIN` has no message within it (an EntityRef, a quantile)."""

_MESSAGES_WITHIN = {
    ANY_VALUE: {5: ARRAY_VALUE, 6: KEY_VALUE_LIST},
    ARRAY_VALUE: {1: ANY_VALUE},
    KEY_VALUE_LIST: {1: KEY_VALUE},
    KEY_VALUE: {2: ANY_VALUE},
    RESOURCE: {1: KEY_VALUE, 3: PLAIN},
    SCOPE: {3: KEY_VALUE},
    EVENT: {3: KEY_VALUE},
    LINK: {4: KEY_VALUE},
    EXEMPLAR: {7: KEY_VALUE},
}
"""Field numbers of a message that hold a message, and which. Source: opentelemetry-proto 1.11."""

_WITHIN = np.zeros(16, "uint64")
"""The same, four bits for each of the field numbers 1-15: 0 for a field that is no message."""
for _outer, _fields in _MESSAGES_WITHIN.items():
    for _number, _message in _fields.items():
        _WITHIN[_outer] |= np.uint64(_message << 4 * _number)

_KEY_TAG, _VALUE_TAG = 1 << 3 | LENGTH_DELIMITED, 2 << 3 | LENGTH_DELIMITED
_STRING_TAG, _BOOL_TAG, _INT_TAG, _DOUBLE_TAG = 1 << 3 | 2, 2 << 3 | VARINT, 3 << 3 | VARINT, 4 << 3 | FIXED64
_BUCKETS_A_KEY, _BUCKET_MULTIPLIER, _WORD_MASK = 8, 0x9E3779B97F4A7C15, (1 << 64) - 1
_TAGS_AND_LENGTH_BITS = 0x80FF80FF
"""Of four bytes, tag, length, tag and length: both tags and what is set in a length that has more than one byte."""
_ARRAY_TAG, _LIST_TAG, _BYTES_TAG, _INDEX_TAG = 5 << 3 | 2, 6 << 3 | 2, 7 << 3 | 2, 8 << 3 | VARINT


@inner
def _long_varint(p: int, end: int, most: int) -> Any:
    value, shift, last = uint64(0), uint64(0), p + most
    while p < end and p < last:
        byte = load8(p)
        p += 1
        value |= (byte & uint64(127)) << shift
        if byte < uint64(128):
            return int64(value), p
        shift += uint64(7)
    return int64(0), int64(MALFORMED)


@inlined
def varint(p: int, end: int) -> Any:
    """Returns (the low 64 bits of a varint as int64, where it ends or a refusal)."""
    if p < end:
        byte = load8(p)
        if byte < uint64(128):
            return int64(byte), p + 1
    return _long_varint(p, end, _VARINT_BYTES)


@inner
def _long_tag(p: int, end: int) -> Any:
    value, p = _long_varint(p, end, _TAG_BYTES)
    if p < 0 or value > _TAG_MAX or value < 8:
        return int64(0), int64(MALFORMED)
    return value, p


@inlined
def tag(p: int, end: int) -> Any:
    """Returns (a tag: field number << 3 | wire type, where it ends or a refusal); the field number is not 0."""
    if p < end:
        byte = load8(p)
        if byte < uint64(128) and byte >= uint64(8):
            return int64(byte), p + 1
    return _long_tag(p, end)


@inner
def _long_length(p: int, end: int) -> Any:
    value, p = _long_varint(p, end, _LENGTH_BYTES)
    if p < 0 or value > _LENGTH_MAX or value > end - p:
        return int64(0), int64(MALFORMED)
    return value, p


@inlined
def length(p: int, end: int) -> Any:
    """Returns (how many bytes a length-delimited field has, where they begin or a refusal); they end by `end`."""
    if p < end:
        byte = int64(load8(p))
        if byte < 128 and byte < end - p:
            return byte, p + 1
    return _long_length(p, end)


@inner
def _skipped_group(p: int, end: int, field: int) -> Any:
    """Returns where the group of this field number, whose start was read, ends."""
    open_fields = stack_words(LEVELS)
    store(open_fields, field)
    depth = 1
    while True:
        tag_value, p = _long_varint(p, end, _TAG_BYTES)
        if p < 0 or tag_value > _TAG_MAX:
            return int64(MALFORMED)
        wire_type = tag_value & 7
        if wire_type == START_GROUP:
            if depth == LEVELS:
                return int64(TOO_DEEP)
            store(open_fields + 8 * depth, tag_value >> 3)
            depth += 1
        elif wire_type == END_GROUP:
            depth -= 1
            if load_word(open_fields + 8 * depth) != tag_value >> 3:
                return int64(MALFORMED)
            if depth == 0:
                return p
        else:
            p = _skipped_simple(p, end, wire_type)
            if p < 0:
                return p


@inlined
def _skipped_simple(p: int, end: int, wire_type: int) -> Any:
    if wire_type == LENGTH_DELIMITED:
        size, p = length(p, end)
        return p + size if p > 0 else p
    if wire_type == VARINT:
        return varint(p, end)[1]
    if wire_type == FIXED64:
        return p + 8 if end - p >= 8 else int64(MALFORMED)
    if wire_type == FIXED32:
        return p + 4 if end - p >= 4 else int64(MALFORMED)
    return int64(MALFORMED)


@inner
def skipped(p: int, end: int, tag_value: int) -> Any:
    """Returns where the field of this tag, which nobody knows, ends, or a refusal."""
    if tag_value & 7 == START_GROUP:
        return _skipped_group(p, end, tag_value >> 3)
    return _skipped_simple(p, end, tag_value & 7)


@inner
def validated(p: int, end: int, message: int) -> Any:
    """Returns `end` where the bytes up to it are a message that upb would accept, else a refusal.

    What is nested deeper than upb goes is not looked at: upb would refuse it, whatever it is.

    Args:
        p: Where the message begins.
        end: Where it ends.
        message: Which one it is: `ANY_VALUE`, `KEY_VALUE`, ...
    """
    outer = stack_words(_TWO_WORDS_A_LEVEL)
    depth = 0
    while True:
        while p == end:
            if depth == 0:
                return end
            depth -= 1
            end = load_word(outer + 16 * depth)
            message = load_word(outer + 16 * depth + 8)
        tag_value, p = tag(p, end)
        if p < 0:
            return p
        if tag_value & 7 != LENGTH_DELIMITED:
            p = skipped(p, end, tag_value)
            if p < 0:
                return p
            continue
        size, p = length(p, end)
        if p < 0:
            return p
        within = int64(0)
        if tag_value < 128:
            within = int64((_WITHIN[message] >> (uint64(tag_value >> 3) << uint64(2))) & uint64(15))
        if within == 0 or depth == LEVELS:
            p += size
            continue
        store(outer + 16 * depth, end)
        store(outer + 16 * depth + 8, message)
        depth += 1
        end = p + size
        message = within


@inner
def _any_value_field(p: int, end: int, kind: int, a: int, b: int) -> Any:
    """Returns (kind, a, b, where the next field of an AnyValue ends or a refusal), given what was read before."""
    t, p = tag(p, end)
    if p < 0:
        return kind, a, b, p
    if t == _STRING_TAG or t == _ARRAY_TAG or t == _LIST_TAG or t == _BYTES_TAG:
        size, p = length(p, end)
        if p < 0:
            return kind, a, b, p
        if t == _STRING_TAG:
            return int64(STRING), p, size, p + size
        if t == _ARRAY_TAG:
            return int64(OTHER), int64(0), int64(0), validated(p, p + size, ARRAY_VALUE)
        if t == _LIST_TAG:
            return int64(OTHER), int64(0), int64(0), validated(p, p + size, KEY_VALUE_LIST)
        return int64(OTHER), int64(0), int64(0), p + size
    if t == _INT_TAG or t == _BOOL_TAG or t == _INDEX_TAG:
        value, p = varint(p, end)
        if t == _INT_TAG:
            return int64(INT), value, int64(0), p
        if t == _BOOL_TAG:
            return int64(BOOL), int64(value != 0), int64(0), p
        return int64(OTHER), int64(0), int64(0), p
    if t == _DOUBLE_TAG:
        if end - p < 8:
            return kind, a, b, int64(MALFORMED)
        return int64(DOUBLE), load_word(p), int64(0), p + 8
    return kind, a, b, skipped(p, end, t)


@inner
def merged_any_value(p: int, end: int, kind: int, a: int, b: int) -> Any:
    """Returns (kind or a refusal, a, b) of an AnyValue that may continue one that was read before.

    Its members are a oneof: the last one that was sent counts, also across the parts of a message sent in parts.
    """
    while p < end:
        kind, a, b, p = _any_value_field(p, end, kind, a, b)
        if p < 0:
            return p, a, b
    return kind, a, b


@inlined
def any_value(p: int, end: int) -> Any:
    """Returns (kind or a refusal, a, b) of an AnyValue.

    `a` and `b` are the address and length of a `STRING`, `a` the value of a `BOOL` or `INT` and the bits of a `DOUBLE`.
    """
    size = end - p
    if size >= 2:
        first, second = load8(p), load8(p + 1)
        if first == uint64(_STRING_TAG) and int64(second) == size - 2 and second < uint64(128):
            return int64(STRING), p + 2, size - 2
        if first == uint64(_INT_TAG) and size == 2 and second < uint64(128):
            return int64(INT), int64(second), int64(0)
        if first == uint64(_INT_TAG) and size == 3 and second >= uint64(128) and load8(p + 2) < uint64(128):
            return int64(INT), int64(second & uint64(127) | load8(p + 2) << uint64(7)), int64(0)
    return merged_any_value(p, end, int64(NONE), int64(0), int64(0))


@inner
def _any_key_value(p: int, end: int, table: int) -> Any:
    """As `key_value`, of any layout: every part of the value has to be read before the last key is known."""
    slot, kind, a, b = int64(UNWANTED), int64(NONE), int64(0), int64(0)
    key, key_size = p, int64(0)
    while p < end:
        t, p = tag(p, end)
        if p < 0:
            return p, kind, a, b
        if t == _KEY_TAG or t == _VALUE_TAG:
            size, p = length(p, end)
            if p < 0:
                return p, kind, a, b
            if t == _KEY_TAG:
                key, key_size = p, size
            else:
                kind, a, b = merged_any_value(p, p + size, kind, a, b)
                if kind < 0:
                    return kind, kind, a, b
            p += size
        else:
            p = skipped(p, end, t)
            if p < 0:
                return p, kind, a, b
    slot = lookup(table, key, key_size)
    return slot, kind, a, b


@inner
def key_value(p: int, end: int, table: int) -> Any:
    """Returns (slot, kind, a, b) of a KeyValue: its key's index in the table, `UNWANTED` or a refusal, and its value.

    The usual layouts are read at once: the key before the value as SDKs write it, the value before the key as
    Collectors do, each with a length below 128.
    """
    size = end - p
    if size >= 4:
        first_tag, first = load8(p), int64(load8(p + 1))
        middle = p + 2 + first
        if first < 128 and middle + 2 <= end:
            second_tag, second = load8(middle), int64(load8(middle + 1))
            if second < 128 and middle + 2 + second == end:
                key_first = first_tag == uint64(_KEY_TAG) and second_tag == uint64(_VALUE_TAG)
                if key_first or (first_tag == uint64(_VALUE_TAG) and second_tag == uint64(_KEY_TAG)):
                    key, key_size = (p + 2, first) if key_first else (middle + 2, second)
                    value, value_end = (middle + 2, end) if key_first else (p + 2, middle)
                    kind, a, b = any_value(value, value_end)
                    if kind < 0:
                        return kind, kind, a, b
                    return lookup(table, key, key_size), kind, a, b
    return _any_key_value(p, end, table)


@inlined
def usual_key_value(p: int, end: int, tag_value: int) -> Any:
    """Returns (where it ends, key, its size, kind, a, b) of a field that holds a KeyValue in a usual layout.

    Those that `key_value` reads at once, with a length below 128 of the field itself, too. Tags and lengths that come
    together are compared together. Where it ends is -1 for any other layout and for what is refused.

    Args:
        p: At the tag of the field; it and what follows may be anything.
        end: Where the message ends that the field is in.
        tag_value: The tag of a field that holds a KeyValue, of one byte.
    """
    kind, a, b = int64(NONE), int64(0), int64(0)
    head = load32(p)  # tag, length, tag, length
    tags, size, first = head & uint64(_TAGS_AND_LENGTH_BITS), int64(head >> uint64(8)) & 0xFF, int64(head >> uint64(24))
    stop, second = p + 2 + size, size - 4 - first
    if stop > end or second < 0:
        return int64(-1), p, int64(0), kind, a, b
    middle = p + 4 + first
    tag_and_length = load32(middle)
    if tags == uint64(tag_value | _KEY_TAG << 16):
        key, key_size = p + 4, first
        text_size = second - 2
        if tag_and_length == uint64(_VALUE_TAG | second << 8 | _STRING_TAG << 16 | text_size << 24) and text_size >= 0:
            return stop, key, key_size, int64(STRING), middle + 4, text_size
        value, value_end, second_tag = middle + 2, stop, _VALUE_TAG
    else:
        key, key_size = middle + 2, second
        value, value_end, second_tag = p + 4, middle, _KEY_TAG
        if tags != uint64(tag_value | _VALUE_TAG << 16):
            return int64(-1), key, key_size, kind, a, b
    if tag_and_length & uint64(0xFFFF) != uint64(second_tag | second << 8):
        return int64(-1), key, key_size, kind, a, b
    kind, a, b = any_value(value, value_end)
    return (stop if kind >= 0 else int64(-1)), key, key_size, kind, a, b


@inlined
def lookup(table: int, key: int, size: int) -> Any:
    """Returns the index of a key in a `KeyTable`, or `UNWANTED`."""
    last = load64(key + size - 8) if size >= 8 else load_short(key, size)
    bucket = ((last + uint64(size)) * uint64(_BUCKET_MULTIPLIER)) >> load64(table)
    entry = load_word(table + 8 + 8 * int64(bucket))
    while entry != 0:
        if load64(entry + 24) == last and load_word(entry + 16) == size:
            done = int64(0)
            while done + 8 < size and load64(key + done) == load64(entry + 32 + done):
                done += 8
            if done + 8 >= size:
                return load_word(entry + 8)
        entry = load_word(entry)
    return int64(UNWANTED)


class KeyTable:
    """Byte strings that `lookup` finds: by a hash of their length and their last eight bytes, then by all.

    There are so many buckets that a key which is not here nearly always meets an empty one.

    Layout, in words: by how much a hash is shifted, then by bucket the address of its first key or 0; of each key: the
    address of the next one of its bucket or 0, its index, its length, its last eight bytes (or all, if fewer), all its
    bytes.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        assert len(set(keys)) == len(keys), "a key has one index"
        bits = (_BUCKETS_A_KEY * len(keys)).bit_length() + 1
        words = [64 - bits] + [0] * (1 << bits)
        entries = []
        for key in keys:
            entries.append(len(words))
            padded = key + bytes(PADDING - len(key) % 8)
            words += [0, 0, len(key), _last_word(key)]
            words += np.frombuffer(padded, "int64").tolist()
        self._words = np.array(words, "int64")
        self.address: int = self._words.ctypes.data
        for index in reversed(range(len(keys))):
            head, entry = 1 + _bucket(keys[index], bits), entries[index]
            self._words[entry : entry + 2] = self._words[head], index
            self._words[head] = self.address + 8 * entry


def _last_word(key: bytes) -> int:
    return int.from_bytes(key[-8:], "little", signed=len(key) >= 8)


def _bucket(key: bytes, bits: int) -> int:
    return ((_last_word(key) + len(key)) * _BUCKET_MULTIPLIER & _WORD_MASK) >> 64 - bits
