"""Compiled decoders of OTLP/JSON: equal to `reference.json`, whose rules are those of `stream.core.otlp.json_fields`.

What is read of a message is spelled in protobuf (`json_messages`) and goes through the compiled decoder of its signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numba import int64

from stream.core.columns import Array, RejectReason, Signal
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Messages, Reading, semconv
from stream.core.otlp.json_fields import brackets_max, nothing_of
from stream.core.otlp.reference.json import Refused, receipts_of_sent
from stream.core.otlp.reference.logs import LOG_ATTRIBUTES
from stream.core.otlp.scan.json_messages import (
    FRAME_WORDS,
    NO_ROOM,
    OK,
    TOO_DEEP,
    TOO_LARGE,
    WRONG_TYPE,
    spelled,
)
from stream.core.otlp.scan.json_numbers import powers_address
from stream.core.otlp.scan.json_tables import field_tables
from stream.core.otlp.scan.json_text import PADDING
from stream.core.otlp.scan.json_values import ROOM_BEHIND
from stream.core.otlp.scan.memory import address_of, kernel, load_word, store64
from stream.core.otlp.scan.wire import KeyTable

_UNLIMITED = 1 << 62
_ROOM_AT_FIRST, _ROOM_KEPT = 1 << 20, 1 << 24


def traces(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP/JSON trace messages; never raises on what a producer sent."""
    from stream.core.otlp.scan.traces import decode

    return _decoded(Signal.SPAN, decode, messages, reading)


def metrics(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the points and receipts of OTLP/JSON metric messages; never raises on what a producer sent."""
    from stream.core.otlp.scan.metrics import decode

    return _decoded(Signal.METRIC, decode, messages, reading)


def logs(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP/JSON log messages; never raises on what a producer sent."""
    from stream.core.otlp.scan.logs import decode

    return _decoded(Signal.LOG, decode, messages, reading)


def _decoded(
    signal: Signal, decode: Callable[[Messages, Reading], Decoded], messages: Messages, reading: Reading
) -> Decoded:
    idle = _idle(signal, reading)
    try:
        speller = idle.pop()  # one step: another thread gets another one
    except IndexError:
        speller = _Speller(signal, reading)
    spelling = speller.spelled(messages)
    limits = replace(reading.limits, message_bytes=_UNLIMITED)  # what was sent is not what is decoded here
    in_protobuf = Messages(source=messages.source, offset=messages.offset, values=spelling.values)
    decoded = decode(in_protobuf, replace(reading, limits=limits))
    if speller.is_small():
        idle.append(speller)
    return replace(decoded, receipts=receipts_of_sent(messages, decoded.receipts, spelling.refused))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """Messages in protobuf.

    Args:
        values: What is read of each; empty for one that is refused. In memory of the speller: its next call
            overwrites them.
        refused: By the index of the message.
    """

    values: list[bytes | None]
    refused: dict[int, Refused]


class _Speller:
    """What the kernel is told beside the messages, and the memory that it works in: kept for later calls."""

    def __init__(self, signal: Signal, reading: Reading) -> None:
        self._signal, self._limits = signal, reading.limits
        self._brackets = brackets_max(reading.limits.depth)
        self._stack = np.empty(FRAME_WORDS * (self._brackets + 1), "int64")
        self._tables = field_tables(signal)
        self._keys = None if signal == Signal.METRIC else _keys(reading.attributes)
        self._most = np.array([reading.limits.message_bytes, reading.limits.attributes], "int64")
        self._buffer = np.empty(_ROOM_AT_FIRST, "uint8")

    def is_small(self) -> bool:
        """Returns whether its memory is worth keeping for the next call."""
        return len(self._buffer) <= _ROOM_KEPT

    def spelled(self, messages: Messages) -> Spelling:
        """Returns what is read of OTLP/JSON messages as the protobuf requests that they spell."""
        count = len(messages)
        lengths = np.fromiter((len(value or b"") for value in messages.values), "int64", count)
        starts = np.zeros(count + 1, "int64")
        np.cumsum(lengths, out=starts[1:])
        data = b"".join([*(value or b"" for value in messages.values), bytes(PADDING)])
        # Of each message: where it begins, what became of it, where it is at fault; where what is written ends.
        outcome = np.zeros((3, count + 1), "int64")
        outcome[0] = starts
        done = 0
        while (done := self._go(data, outcome, done)) < count:
            larger = np.empty(2 * len(self._buffer), "uint8")
            used = outcome[2, done]
            larger[:used] = self._buffer[:used]
            self._buffer = larger
        written: Any = self._buffer.data  # not copied: the decoders take it as they take bytes
        values = [written[first:last] for first, last in pairwise(outcome[2].tolist())]
        return Spelling(values=values, refused=_refused(self._signal, messages, outcome, self._limits))

    def _go(self, data: bytes, outcome: Array, done: int) -> int:
        """Spells the messages from `done` on; returns how many are done when the buffer is full."""
        finished: int = _spell_all(
            address_of(data),
            address_of(outcome),
            outcome.shape[1] - 1,
            done,
            self._tables.request,
            self._keys.address if self._keys is not None else 0,
            address_of(self._most),
            self._brackets,
            powers_address(),
            address_of(self._stack),
            address_of(self._buffer),
            len(self._buffer) - ROOM_BEHIND,
        )
        return finished


@lru_cache(maxsize=16)
def _idle(signal: Signal, reading: Reading) -> list[_Speller]:
    """Returns the spellers for this signal and reading that nobody uses."""
    return []


@lru_cache(maxsize=8)
def _keys(listed: tuple[str, ...]) -> KeyTable:
    """Returns the keys of attributes that the decoders of traces and logs look at. More than these would do no harm."""
    old = (semconv.OLD_NAMES[key] for key in listed if key in semconv.OLD_NAMES)
    names = {*semconv.RESOURCE_ATTRIBUTES, *semconv.SPAN_ATTRIBUTES, *LOG_ATTRIBUTES, *listed, *old}
    return KeyTable(sorted(name.encode() for name in names))


def _refused(signal: Signal, messages: Messages, outcome: Array, limits: Limits) -> dict[int, Refused]:
    """Returns why messages were refused."""
    refused = {}
    for index in np.flatnonzero(outcome[1, :-1] & 7 != OK).tolist():
        value = messages.values[index] or b""
        became, at = int(outcome[1, index]) & 7, int(outcome[1, index]) >> 3
        refused[index] = _refusal(signal, value, became, at, limits)
    return refused


def _refusal(signal: Signal, value: bytes, became: int, at: int, limits: Limits) -> Refused:
    if became == TOO_LARGE:
        sizes = f"{len(value)} bytes; limits.message_bytes allows {limits.message_bytes}"
        return Refused(RejectReason.TOO_LARGE, f"this message has {sizes}")
    if became == TOO_DEEP:
        return Refused(RejectReason.TOO_DEEP, f"at byte {at}: nested deeper than limits.depth allows: {limits.depth}")
    if became == WRONG_TYPE:
        return Refused(RejectReason.WRONG_TYPE, nothing_of(signal, value))
    return Refused(RejectReason.MALFORMED, f"no OTLP/JSON from byte {at} on")  # and no payload: nobody allowed it


@kernel
def _spell_all(data: int, outcome: int, count: int, done: int, request: int, keys: int, limits: int, brackets: int,
               powers: int, stack: int, buffer: int, size: int) -> Any:  # fmt: skip
    """Spells messages from `done` on; returns the one for which there is no room, or `count`.

    `outcome` has three rows of `count` + 1 words: where each message begins; what became of it, with the place where it
    is at fault above the lowest three bits; where what is written begins.
    """
    row = 8 * (count + 1)
    message_bytes, most = load_word(limits), load_word(limits + 8)
    while done < count:
        word = outcome + 8 * done
        start = data + load_word(word)
        end = data + load_word(word + 8)
        out = buffer + load_word(word + 2 * row)
        became, stopped = int64(OK), out
        if end - start > message_bytes:
            became = int64(TOO_LARGE)
        elif end > start:
            became, stopped = spelled(start, end, request, keys, most, brackets, powers, stack, out, buffer + size)
        if became == NO_ROOM:
            break
        if became == OK:
            store64(word + row, int64(OK))
            store64(word + 2 * row + 8, stopped - buffer)
        else:
            store64(word + row, (stopped - start) << 3 | became)
            store64(word + 2 * row + 8, out - buffer)
        done += 1
    return done
