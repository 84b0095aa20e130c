"""Which decoder reads which signal in which encoding, and how an encoding is told from the bytes.

Decoders are imported when they are asked for: the compiled ones take a moment, and most processes need few of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module

import orjson

from stream.core.columns import Signal
from stream.core.otlp import Decoded, Messages, Reading

Decode = Callable[[Messages, Reading], Decoded]


class Encoding(StrEnum):
    """How a message is written. The values are the names that a Collector's Kafka exporter gives them."""

    OTLP_PROTO = "otlp_proto"
    OTLP_JSON = "otlp_json"
    FLAT = "flat"
    """One JSON object an event, `schemas/telemetry-event.v1.schema.json`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """The two decoders of one signal in one encoding, each as `module:function` below this package.

    Args:
        plain: One Python object per item: slow, ready at once.
        compiled: Equal results from machine code, which is made on its first use.
    """

    plain: str
    compiled: str

    def load_plain(self) -> Decode:
        """Returns the plain decoder."""
        return _loaded(self.plain)

    def load_compiled(self) -> Decode:
        """Returns the compiled decoder; its first call may take seconds.

        Raises:
            ModuleNotFoundError: When the machine has no compiler.
        """
        return _loaded(self.compiled)


def _loaded(name: str) -> Decode:
    module, _, function = name.partition(":")
    decode: Decode = getattr(import_module(f"{__package__}.{module}"), function)
    return decode


DECODERS: Mapping[tuple[Signal, Encoding], Decoder] = {
    (Signal.SPAN, Encoding.OTLP_PROTO): Decoder(plain="reference.traces:decode", compiled="scan.traces:decode"),
    (Signal.METRIC, Encoding.OTLP_PROTO): Decoder(plain="reference.metrics:decode", compiled="scan.metrics:decode"),
    (Signal.LOG, Encoding.OTLP_PROTO): Decoder(plain="reference.logs:decode", compiled="scan.logs:decode"),
    (Signal.SPAN, Encoding.OTLP_JSON): Decoder(plain="reference.json:traces", compiled="scan.json:traces"),
    (Signal.METRIC, Encoding.OTLP_JSON): Decoder(plain="reference.json:metrics", compiled="scan.json:metrics"),
    (Signal.LOG, Encoding.OTLP_JSON): Decoder(plain="reference.json:logs", compiled="scan.json:logs"),
    (Signal.EVENT, Encoding.FLAT): Decoder(plain="reference.flat:decode", compiled="scan.flat:decode"),
}
"""Every signal in every encoding that it has."""

_OBJECT = re.compile(rb"[ \t\r\n]*\{")
_RESOURCE_TAG = 0x0A
"""Field 1, length-delimited: what every OTLP request begins with. Also a newline, which JSON may begin with."""


def encodings(signal: Signal) -> tuple[Encoding, ...]:
    """Returns the encodings that a signal has."""
    return tuple(encoding for of, encoding in DECODERS if of == signal)


def sniff(value: bytes) -> Encoding:
    """Returns whether an OTLP message is JSON or protobuf.

    JSON begins with `{`, perhaps after white space. So may a protobuf message: a newline is the tag that each begins
    with, and `{` the length 123. One whose lengths lead exactly to its end is JSON only if it can be read as JSON.
    """
    if not _OBJECT.match(value):
        return Encoding.OTLP_PROTO
    if value[0] == _RESOURCE_TAG and _lengths_fit(value) and not _is_json(value):
        return Encoding.OTLP_PROTO
    return Encoding.OTLP_JSON


def _lengths_fit(value: bytes) -> bool:
    """Returns whether the bytes are nothing but length-delimited fields of number 1."""
    at, end = 0, len(value)
    while at < end:
        if value[at] != _RESOURCE_TAG:
            return False
        at, length, shift = at + 1, 0, 0
        while at < end:
            byte = value[at]
            at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80 or shift > 63:
                break
        else:
            return False
        at += length
    return at == end


def _is_json(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


def runs(signal: Signal, messages: Messages) -> Iterator[tuple[Encoding, Messages]]:
    """Yields the messages in order, cut where the encoding changes, each run with the encoding told from its bytes.

    What is empty joins the run that it is found in.
    """
    if signal == Signal.EVENT:
        yield Encoding.FLAT, messages
        return
    start, running = 0, None
    for i, value in enumerate(messages.values):
        encoding = sniff(value) if value else None
        if encoding is None or encoding == running:
            continue
        if running is not None:
            yield running, _cut(messages, start, i)
            start = i
        running = encoding
    yield running or Encoding.OTLP_PROTO, _cut(messages, start, len(messages))


def _cut(messages: Messages, start: int, end: int) -> Messages:
    if start == 0 and end == len(messages):
        return messages
    part = slice(start, end)
    return Messages(source=messages.source[part], offset=messages.offset[part], values=messages.values[part])
