"""The identity of a metric stream as a 128-bit hash: the same in every process, version, encoding and decoder.

A stream's hash is the sum of the hashes of its parts, lane by lane modulo 2^64; so the order of attributes does not
matter, and what a resource or a scope adds is computed once. With `M(data, (a, b))` for MurmurHash3_x64_128 whose two
lanes start at `a` and `b` (its seed is the case `a = b`):

* The metric adds M(kind, M(scope version, M(scope name, M(unit, M(name, (4, 0)))))), where `kind` is the three bytes
  type (`MetricType`), temporality (`Temporality`), monotonic (1 or 0, 0 for what is no sum).
* Each attribute adds its value at the place M(key, (p, 0)), where p is 1 for the resource's, 2 for the scope's and 3
  for the point's. A key that occurs twice counts twice.
* A value at a place (a, b) adds M(payload, (a, b ^ tag)). Texts are tag 1, their bytes as sent; booleans 2, one byte;
  integers 3, eight bytes, little-endian; doubles 4, eight bytes, little-endian, every NaN as 0x7ff8000000000000; bytes
  7. No value is tag 0 without payload. Arrays (5) and maps (6) have no payload; their members are added too: member i
  of an array is a value at the place M(i as eight bytes, (a, b ^ 5)), a member of a map one at M(key, (a, b ^ 6)).
* Members of what is nested deeper than 32 levels (an attribute's value is at level 1) are not looked at.

So a number differs from the same digits as text, and 1 from 1.0. Nothing is resistant to somebody who looks for
collisions: producers are trusted not to forge each other's streams, which they could do by sending them.

Source: MurmurHash3_x64_128, Austin Appleby, public domain.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

_MASK = (1 << 64) - 1
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F

LEVELS_MAX = 32
"""Members of arrays and maps nested deeper are not looked at."""


class Place(IntEnum):
    """Whose attribute it is, or the metric itself."""

    RESOURCE = 1
    SCOPE = 2
    POINT = 3
    METRIC = 4


class Tag(IntEnum):
    """The type of an attribute's value: the number of its field in an AnyValue."""

    NONE = 0
    TEXT = 1
    BOOLEAN = 2
    INTEGER = 3
    DOUBLE = 4
    ARRAY = 5
    MAP = 6
    BYTES = 7


class Hash(NamedTuple):
    """Two lanes of 64 bits, unsigned."""

    high: int
    low: int

    def signed(self) -> tuple[int, int]:
        """Returns the lanes as int64: the columns `stream_hi` and `stream_lo`."""
        return _signed(self.high), _signed(self.low)


ZERO = Hash(0, 0)


class Value(NamedTuple):
    """An attribute's value: a payload, or the members of an array (values) or a map (pairs of key and value)."""

    tag: Tag
    payload: bytes = b""
    items: Sequence[Value] = ()
    entries: Sequence[tuple[bytes, Value]] = ()


NO_VALUE = Value(Tag.NONE)


def text(value: bytes) -> Value:
    """Returns a text, given as the bytes that were sent."""
    return Value(Tag.TEXT, value)


def boolean(value: bool) -> Value:
    """Returns a boolean."""
    return Value(Tag.BOOLEAN, b"\x01" if value else b"\x00")


def integer(value: int) -> Value:
    """Returns an integer, int64."""
    return Value(Tag.INTEGER, struct.pack("<q", value))


def double(value: float) -> Value:
    """Returns a number that was sent as a double."""
    return Value(Tag.DOUBLE, struct.pack("<d", value) if value == value else struct.pack("<Q", 0x7FF8 << 48))


def binary(value: bytes) -> Value:
    """Returns bytes."""
    return Value(Tag.BYTES, value)


def array(items: Sequence[Value]) -> Value:
    """Returns an array."""
    return Value(Tag.ARRAY, items=items)


def mapping(entries: Sequence[tuple[bytes, Value]]) -> Value:
    """Returns a map."""
    return Value(Tag.MAP, entries=entries)


def added(*parts: Hash) -> Hash:
    """Returns the sum of some parts, lane by lane."""
    return Hash(sum(part.high for part in parts) & _MASK, sum(part.low for part in parts) & _MASK)


def of_attributes(place: Place, attributes: Iterable[tuple[bytes, Value]]) -> Hash:
    """Returns what the attributes of a resource, scope or point add."""
    return added(*(_attribute(place, key, value) for key, value in attributes))


def of_metric(
    *, name: bytes, unit: bytes, scope_name: bytes, scope_version: bytes, kind: int, temporality: int, monotonic: bool
) -> Hash:
    """Returns what a metric adds by itself.

    Args:
        name: As sent; likewise the other texts.
        unit: Empty for none.
        scope_name: Of the instrumentation scope; empty for none.
        scope_version: Likewise.
        kind: A `MetricType`.
        temporality: A `Temporality`.
        monotonic: Whether a sum never falls; False for what is no sum.
    """
    state = Hash(Place.METRIC, 0)
    for part in (name, unit, scope_name, scope_version, bytes((kind, temporality, monotonic))):
        state = murmur(part, state)
    return state


def murmur(data: bytes, state: Hash = ZERO) -> Hash:
    """Returns the MurmurHash3_x64_128 of `data` with the lanes starting at `state`."""
    h1, h2 = state
    whole = len(data) & ~15
    for k1, k2 in struct.iter_unpack("<QQ", memoryview(data)[:whole]):
        h1 = ((_rotated(h1 ^ _first(k1), 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 = ((_rotated(h2 ^ _second(k2), 31) + h1) * 5 + 0x38495AB5) & _MASK
    if whole < len(data):
        k1, k2 = struct.unpack("<QQ", data[whole:].ljust(16, b"\x00"))
        # A word of zeros leaves its lane alone, as the rule for a short tail demands.
        h1 ^= _first(k1)
        h2 ^= _second(k2)
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    h1, h2 = _final(h1), _final(h2)
    h1 = (h1 + h2) & _MASK
    return Hash(h1, (h2 + h1) & _MASK)


def _attribute(place: Place, key: bytes, value: Value) -> Hash:
    if value.tag in (Tag.ARRAY, Tag.MAP):
        return _value(murmur(key, Hash(place, 0)), value, 1)
    return _scalar(int(place), key, int(value.tag), value.payload)


@lru_cache(maxsize=1 << 14)
def _scalar(place: int, key: bytes, tag: int, payload: bytes) -> Hash:
    """Returns what an attribute adds; producers repeat them from point to point."""
    high, low = murmur(key, Hash(place, 0))
    return murmur(payload, Hash(high, low ^ tag))


def _value(place: Hash, value: Value, level: int) -> Hash:
    inner = Hash(place.high, place.low ^ value.tag)
    parts = [murmur(value.payload, inner)]
    if level <= LEVELS_MAX:
        for i, item in enumerate(value.items):
            parts.append(_value(murmur(struct.pack("<q", i), inner), item, level + 1))
        for key, entry in value.entries:
            parts.append(_value(murmur(key, inner), entry, level + 1))
    return added(*parts)


def _first(word: int) -> int:
    return _rotated(word * _C1 & _MASK, 31) * _C2 & _MASK


def _second(word: int) -> int:
    return _rotated(word * _C2 & _MASK, 33) * _C1 & _MASK


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK


def _final(word: int) -> int:
    word ^= word >> 33
    word = word * 0xFF51AFD7ED558CCD & _MASK
    word ^= word >> 33
    word = word * 0xC4CEB9FE1A85EC53 & _MASK
    return word ^ word >> 33


def _signed(lane: int) -> int:
    return lane - (1 << 64) if lane >> 63 else lane
