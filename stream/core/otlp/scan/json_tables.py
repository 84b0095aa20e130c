"""The fields that are read of OTLP/JSON, as tables that kernels look up: made once per signal from `json_fields`."""

from __future__ import annotations

from functools import cache

import numpy as np

from stream.core.columns import Signal
from stream.core.otlp.json_fields import REQUESTS, Field, Kind, fields
from stream.core.otlp.scan.wire import KeyTable

MESSAGE_WORDS, FIELD_WORDS = 2, 5
"""Words of a message: the address of its names (a `KeyTable`) and of its fields, in the order of the names.
Words of a field, from `FIELD_KIND` on."""

FIELD_KIND, FIELD_TAG, FIELD_SHAPE, FIELD_MESSAGE, FIELD_RESERVE = 0, 8, 16, 24, 32
"""Offsets of a field's words: its `Kind`, its tag in protobuf (one byte), how it is written (`SINGLE`, ...), the
address of the message that it holds, and how many bytes are kept for that one's length."""

SINGLE, PACKED, MESSAGES, ATTRIBUTES, ATTRIBUTES_OF_ITEM = range(5)
"""Shapes: one value; a list of numbers; a list of messages; one of attributes, of which those that nobody reads are
written as empty ones so that they are counted; the same, where they are written only if they are too many."""

_FIXED64, _LENGTH_DELIMITED = 1, 2
_WIRE_TYPES = {
    Kind.MESSAGE: _LENGTH_DELIMITED,
    Kind.TEXT: _LENGTH_DELIMITED,
    Kind.TRACE_ID: _LENGTH_DELIMITED,
    Kind.BYTES: _LENGTH_DELIMITED,
    Kind.FIXED64: _FIXED64,
    Kind.SFIXED64: _FIXED64,
    Kind.DOUBLE: _FIXED64,
}
_ITEMS = ("Span", "LogRecord")
_LONG = ("ResourceSpans", "ResourceMetrics", "ResourceLogs", "ScopeSpans", "ScopeMetrics", "ScopeLogs", "Metric")
_SHORT = ("KeyValue", "AnyValue", "Status", "Event", "Buckets")


class FieldTables:
    """The tables of a signal.

    Args:
        signal: Which one.

    Attributes:
        request: Address of the table of its request. It stays valid as long as this object.
    """

    def __init__(self, signal: Signal) -> None:
        messages = fields(signal)
        size = sum(MESSAGE_WORDS + FIELD_WORDS * len(known) for known in messages.values())
        self._words = np.zeros(size, "int64")
        self._names = {name: KeyTable([field.encode() for field in known]) for name, known in messages.items()}
        base: int = self._words.ctypes.data
        addresses, at = {}, 0
        for name, known in messages.items():
            addresses[name] = base + 8 * at
            at += MESSAGE_WORDS + FIELD_WORDS * len(known)
        for name, known in messages.items():
            first = (addresses[name] - base) // 8
            self._words[first : first + MESSAGE_WORDS] = (
                self._names[name].address,
                addresses[name] + 8 * MESSAGE_WORDS,
            )
            for i, field in enumerate(known.values()):
                start = first + MESSAGE_WORDS + FIELD_WORDS * i
                self._words[start : start + FIELD_WORDS] = _field_words(name, field, addresses)
        self.request: int = addresses[REQUESTS[signal]]


def _field_words(message: str, field: Field, addresses: dict[str, int]) -> tuple[int, ...]:
    wire_type = _WIRE_TYPES.get(field.kind, 0)
    shape = _shape(message.rpartition(".")[2], field)
    tag = field.number << 3 | (_LENGTH_DELIMITED if shape != SINGLE else wire_type)
    assert tag < 0x80, "a tag is written as one byte"
    return int(field.kind), tag, shape, addresses.get(field.message, 0), _reserve(field.message.rpartition(".")[2])


def _shape(message: str, field: Field) -> int:
    if not field.repeated:
        return SINGLE
    if field.kind != Kind.MESSAGE:
        return PACKED
    if field.name != "attributes":
        return MESSAGES
    return ATTRIBUTES_OF_ITEM if message in _ITEMS else ATTRIBUTES


def _reserve(message: str) -> int:
    """Returns the bytes for the length of a message: what is longer than they say has to be moved."""
    if message in _LONG:
        return 4
    return 1 if message in _SHORT else 2


@cache
def field_tables(signal: Signal) -> FieldTables:
    """Returns the tables of a signal, which stay as long as the process."""
    return FieldTables(signal)
