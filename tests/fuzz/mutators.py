"""Mutations of messages: bytes, fields with the lengths around them made right again, and tokens of JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.core.otlp.json_texts import TOKENS
from tests.core.otlp.scan.wire_messages import INTEGERS, varint

_BYTES = (0, 1, 7, 8, 10, 11, 12, 18, 26, 34, 0x20, 0x22, 0x2C, 0x30, 0x3A, 0x5B, 0x5C, 0x7B, 0x7C, 0x7D, 127, 128, 255)
_SIZES = (1, 1, 2, 3, 4, 8, 9, 16, 33, 64)
_VARINTS = (
    *(varint(number, extra) for number in INTEGERS for extra in (0, 1) if len(varint(number)) + extra < 11),
    b"\xff" * 10,
    b"\x80" * 9 + b"\x01",
    b"\x80" * 9 + b"\x02",
    b"\x80" * 10 + b"\x00",
    b"\xff\xff\xff\xff\x07",
    b"\xff\xff\xff\xff\x0f",
    b"\xff\xff\xff\xff\x1f",
)
_VALUES = (
    *TOKENS,
    *b'0 -0 1 -1 1.0 1.5 01 1e5 1e400 -1e-400 9223372036854775807 9223372036854775808 18446744073709551616 "1" "" "NaN"'
    b' "-Infinity" NaN true false null [] {} [[]] {"a":1} [1,] "\\ud83d\\ude00" "\\udc00" "\\u0000" "\xff"'.split(),
)
_GOOD_VALUES = (
    *b"0 -0 1 -1 1.0 1.5 1e5 3e0 2147483647 2147483648 9223372036854775807 9223372036854775808 18446744073709551615"
    b' "0" "1" "-1" "200" "1e2" "" "NaN" "-Infinity" "x" "4bf92f3577b34da6a3ce929d0e0e4736" true false null [] {} [[]]'
    b' "1767323045000000000" 1767323045123456789 "2026-01-02T03:04:05Z" "\\ud83d\\ude00" "\\u0000" "\xff"'.split(),
)
_WORD_MAX = 1 << 31

Span = tuple[int, int]
Field = tuple[int, int, int, int]
"""Where a field's tag, length and content begin, and where it ends."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A message that mutations start from.

    Args:
        value: The message.
        fields: The length-delimited fields of protobuf; each as a chain, from the outermost to the field itself.
        tokens: Where tokens of JSON begin and end.
        nodes: Where members (`"key":value`), elements of arrays and values of members begin and end, in this order.
    """

    value: bytes
    fields: Sequence[Sequence[Field]] = ()
    tokens: Sequence[Span] = ()
    nodes: Sequence[Sequence[Span]] = ((), (), ())


def seed_of_protobuf(value: bytes, descriptor: Any) -> Seed:
    """Returns a message with its fields, as far as it can be read."""
    return Seed(value, fields=list(_fields(value, 0, len(value), descriptor, ())))


def _fields(value: bytes, at: int, end: int, descriptor: Any, around: tuple[Field, ...]) -> Iterator[tuple[Field, ...]]:
    while at < end:
        begin = at
        tag, at = _varint_at(value, at, end)
        if tag & 7 != 2:
            at = {0: _varint_at(value, at, end)[1], 1: at + 8, 5: at + 4}.get(tag & 7, end)
            continue
        length_at = at
        size, at = _varint_at(value, at, end)
        if at + size > end:
            return
        chain = (*around, (begin, length_at, at, at + size))
        yield chain
        field = descriptor.fields_by_number.get(tag >> 3)
        if field is not None and field.message_type is not None:
            yield from _fields(value, at, at + size, field.message_type, chain)
        at += size


def _varint_at(value: bytes, at: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while at < end:
        byte = value[at]
        number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            break
    return number, at


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.0-9a-zA-Z]+|[\[\]{}:,]|[ \t\r\n]+')
_MEMBERS, _ELEMENTS, _VALUES_OF_MEMBERS = range(3)


def seed_of_json(value: bytes) -> Seed:
    """Returns a message with its tokens and nodes, as far as it can be read."""
    tokens = [found.span() for found in _TOKEN.finditer(value)]
    nodes: tuple[list[Span], ...] = ([], [], [])
    opened: list[tuple[int, int]] = []  # where a container begins, and the key that it is the value of
    key, text = -1, -1
    for begin, end in tokens:
        match value[begin : begin + 1]:
            case b":":
                key = text
                continue
            case b"{" | b"[":
                opened.append((begin, key))
                key = -1
                continue
            case b"}" | b"]":
                if not opened:
                    break
                begin, key = opened.pop()
            case b"," | b" " | b"\n" | b"\t" | b"\r":
                continue
            case b'"':
                text = begin
                if key < 0 and opened and value[opened[-1][0]] == 0x7B:
                    continue  # a key
        if key >= 0:
            nodes[_MEMBERS].append((key, end))
            nodes[_VALUES_OF_MEMBERS].append((begin, end))
        elif opened:
            nodes[_ELEMENTS].append((begin, end))
        key = -1
    return Seed(value, tokens=tokens, nodes=nodes)


# Mutations of any bytes: the bytes, a place in them, a size, a random word, another message.
def _flip(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << word % 8,)) + data[at + 1 :] if at < len(data) else data


def _set(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + bytes((_BYTES[word % len(_BYTES)] if word & 1024 else word % 251,)) + data[at + 1 :]


def _add(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return (
        data[:at] + bytes(((data[at] + (-2, -1, 1, 2)[word % 4]) % 256,)) + data[at + 1 :] if at < len(data) else data
    )


def _delete(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + data[at + size :]


def _insert(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + (word.to_bytes(4, "little") * (size // 4 + 1))[:size] + data[at:]


def _duplicate(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[: at + size] + data[at:]


def _splice(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + other[word % (len(other) + 1) :]


def _take(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    begin = word % (len(other) + 1)
    return data[:at] + other[begin : begin + size] + data[at:]


def _repeat(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + bytes((_BYTES[word % len(_BYTES)],)) * size + data[at:]


def _truncate(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at]


def _swap(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + data[at + size : at + 2 * size] + data[at : at + size] + data[at + 2 * size :]


def _put_varint(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + _VARINTS[word % len(_VARINTS)] + data[at + 1 :]


def _put_value(data: bytes, at: int, size: int, word: int, other: bytes) -> bytes:
    return data[:at] + _VALUES[word % len(_VALUES)] + data[at:]


_NODES, _TOKENS = 1 << 20, 1 << 21
"""Bits of a random word: half of the messages, then half of the others, are changed with their structure in view."""

Change = Callable[[bytes, int, int, int, bytes], bytes]
_ANYWHERE: tuple[Change, ...] = (
    *(_flip, _flip, _set, _set, _add, _delete, _insert, _duplicate, _splice, _take, _repeat, _truncate, _swap),
)
_OF_PROTOBUF, _OF_JSON = (*_ANYWHERE, _put_varint, _put_varint), (*_ANYWHERE, _put_value, _put_value)


def _with_field(seed: Seed, change: Change, at: int, size: int, word: int, other: Seed) -> bytes:
    """Returns the message with one field changed, left out, moved, put twice; the lengths around it are right again."""
    chain = seed.fields[at % len(seed.fields)]
    value = seed.value
    tag_at, length_at, begin, end = chain[-1]
    field, content = value[tag_at:end], value[begin:end]
    around = chain[:-1]
    _, _, outer_begin, outer_end = around[-1] if around else (0, 0, 0, len(value))
    before, behind = value[outer_begin:tag_at], value[end:outer_end]
    match word % 16:
        case 0:
            new = before + behind
        case 1:
            new = before + field + field + behind
        case 2:
            new = field + before + behind
        case 3:
            new = before + behind + field
        case 4:  # a field of another message, which may be another kind of message
            tag_at, _, _, end = other.fields[size * word % len(other.fields)][-1]
            new = before + other.value[tag_at:end] + behind
        case 5:
            new = before + value[tag_at:length_at] + _VARINTS[(word >> 4) % len(_VARINTS)] + content + behind
        case 6:  # in two parts: parsers merge them
            cut = size % (len(content) + 1)
            parts = (value[tag_at:length_at] + varint(len(part)) + part for part in (content[:cut], content[cut:]))
            new = before + b"".join(parts) + behind
        case 7 | 8 | 9 if len(content) < 64:  # a text of the same length, or a longer one: mostly still a text
            new = before + value[tag_at:length_at] + varint(len(content) * size) + content * size + behind
        case _:
            changed = change(content, (word >> 4) % (len(content) + 1), size, word >> 8, other.value)
            new = before + value[tag_at:length_at] + varint(len(changed)) + changed + behind
    for place in range(len(around) - 1, -1, -1):
        tag_at, length_at, _, end = around[place]
        outer_begin, outer_end = around[place - 1][2:] if place else (0, len(value))
        new = value[outer_begin:length_at] + varint(len(new)) + new + value[end:outer_end]
    return new


def _with_node(seed: Seed, at: int, size: int, word: int, other: Seed) -> bytes:
    """Returns the message with a member, an element or a value left out, put twice, replaced; it stays JSON."""
    kind = size % 3
    nodes, others = seed.nodes[kind], other.nodes[kind]
    if not nodes or not others:
        return seed.value
    begin, end = nodes[at % len(nodes)]
    node, before, behind = seed.value[begin:end], seed.value[:begin], seed.value[end:]
    first, last = others[(word >> 4) % len(others)]
    foreign = other.value[first:last]
    if kind == _VALUES_OF_MEMBERS:
        return before + (_GOOD_VALUES[(word >> 8) % len(_GOOD_VALUES)] if word % 2 else foreign) + behind
    match word % 5:
        case 0:
            return before + behind[1:] if behind[:1] == b"," else before.removesuffix(b",") + behind
        case 1:
            return before + node + b"," + node + behind
        case 2:
            return before + node + b"," + foreign + behind
        case 3:
            return before + foreign + b"," + node + behind
    return before + foreign + behind


def _with_token(seed: Seed, names: Sequence[bytes], at: int, size: int, word: int, other: Seed) -> bytes:
    """Returns the message with a token changed, left out, put twice, swapped with another."""
    value, tokens = seed.value, seed.tokens
    begin, end = tokens[at % len(tokens)]
    before, token, behind = value[:begin], value[begin:end], value[end:]
    match word % 9:
        case 0:
            return before + behind
        case 1:
            return before + token + token + behind
        case 2:
            return before + _VALUES[(word >> 4) % len(_VALUES)] + behind
        case 3:
            first, last = other.tokens[(word >> 4) % len(other.tokens)]
            return before + other.value[first:last] + behind
        case 4:
            return before + (b" ", b"\n", b"\t\r\n", b"\x0b", b"  " * 20)[(word >> 4) % 5] + token + behind
        case 5:
            (first, last), (begin, end) = sorted(((begin, end), tokens[(word >> 4) % len(tokens)]))
            if last > begin:
                return before + behind
            swapped = value[begin:end] + value[last:begin] + value[first:last]
            return value[:first] + swapped + value[end:]
        case 6 if token[:1] == b'"':
            return before + names[(word >> 4) % len(names)] + behind
        case 7 if token[:1] == b'"' and len(token) > 2 and token[1] != 0x5C:
            return before + b'"\\u%04x' % token[1] + token[2:] + behind
        case 8:
            deep = 1 << (word >> 4) % 7
            return (
                before
                + (b"[" * deep + token + b"]" * deep if word & 8 else b'{"a":' * deep + token + b"}" * deep)
                + behind
            )
    # Any value between the quotes or in place of them, as long as the token is.
    return before + (b"%d" % word)[: len(token)].rjust(len(token), b"1") + behind


def mutated(chance: np.random.Generator, seeds: Sequence[Seed], count: int, names: Sequence[bytes] = ()) -> list[bytes]:
    """Returns messages with one to four mutations each.

    Args:
        chance: Where the choices come from.
        seeds: What they start from.
        count: How many.
        names: Of JSON messages: names of members as texts with their quotes; () for protobuf.
    """
    changes = _OF_JSON if names else _OF_PROTOBUF
    rounds = chance.choice((1, 1, 1, 1, 1, 2, 2, 4), count).tolist()
    words = chance.integers(0, _WORD_MAX, (count, 16), "int64").tolist()
    pairs = chance.integers(0, len(seeds), (count, 2)).tolist()
    made = []
    for (first, second), times, word in zip(pairs, rounds, words, strict=True):
        seed, other = seeds[first], seeds[second]
        data = seed.value
        for i in range(times):
            kind, at, size, more = word[4 * i : 4 * i + 4]
            size_of = _SIZES[size % len(_SIZES)]
            change = changes[kind % len(changes)]
            if i == 0 and kind & _NODES and names:
                data = _with_node(seed, at, size >> 4, more, other)
            elif i == 0 and kind & _TOKENS and seed.tokens and other.tokens:
                data = _with_token(seed, names, at, size_of, more, other)
            elif i == 0 and kind & (_NODES | _TOKENS) and seed.fields and other.fields:
                data = _with_field(seed, change, at, size_of, more, other)
            else:
                data = change(data, at % (len(data) + 1), size_of, more, other.value)
        made.append(data)
    return made


def truncated(value: bytes, places: Sequence[int]) -> list[bytes]:
    """Returns the message cut off at each of the places, each time followed by what was cut off."""
    return [part for place in places for part in (value[:place], value[place:])]
