"""Reference decoders of OTLP/JSON: each message is spelled in protobuf and given to the plain decoder of its signal.

Keeps the rules of `stream.core.otlp.json_fields`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from stream.core.columns import Receipts, RejectReason, Signal
from stream.core.otlp import ONLY_FIELDS, Decoded, Limits, Messages, Reading
from stream.core.otlp.json_fields import (
    DOUBLE_DIGITS,
    RANGES,
    REQUESTS,
    TRACE_ID_BYTES,
    Field,
    Kind,
    brackets_max,
    fields,
    nothing_of,
)

_UNLIMITED = 1 << 62


def traces(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP/JSON trace messages; never raises on what a producer sent."""
    from stream.core.otlp.reference.traces import decode

    return _decoded(Signal.SPAN, decode, messages, reading)


def metrics(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the points and receipts of OTLP/JSON metric messages; never raises on what a producer sent."""
    from stream.core.otlp.reference.metrics import decode

    return _decoded(Signal.METRIC, decode, messages, reading)


def logs(messages: Messages, reading: Reading = ONLY_FIELDS) -> Decoded:
    """Returns the rows and receipts of OTLP/JSON log messages; never raises on what a producer sent."""
    from stream.core.otlp.reference.logs import decode

    return _decoded(Signal.LOG, decode, messages, reading)


class Refused(Exception):
    """A message that is refused as a whole: why, and a plain sentence on it."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _decoded(
    signal: Signal, decode: Callable[[Messages, Reading], Decoded], messages: Messages, reading: Reading
) -> Decoded:
    values: list[bytes | None] = []
    refused: dict[int, Refused] = {}
    for i, value in enumerate(messages.values):
        try:
            values.append(protobuf(signal, value, reading.limits) if value else value)
        except Refused as error:
            refused[i] = error
            values.append(None)
    limits = replace(reading.limits, message_bytes=_UNLIMITED)  # what was sent is not what is decoded here
    spelled = Messages(source=messages.source, offset=messages.offset, values=values)
    decoded = decode(spelled, replace(reading, limits=limits))
    return replace(decoded, receipts=receipts_of_sent(messages, decoded.receipts, refused))


def receipts_of_sent(messages: Messages, receipts: Receipts, refused: Mapping[int, Refused]) -> Receipts:
    """Returns the receipts of what was decoded as those of what was sent.

    Args:
        messages: What was sent.
        receipts: Of the same messages spelled in protobuf, an empty one for each that was refused.
        refused: By the index of the message.
    """
    if not refused and not receipts.rejected.any():
        return receipts
    columns = {name: getattr(receipts, name).copy() for name in Receipts.DTYPES}
    reasons = {reason: i for i, reason in enumerate(receipts.reasons)}
    reasons.setdefault("", 0)
    digests, details = list(receipts.digests), list(receipts.details)
    for i, index in _messages_of(receipts):
        if index in refused:
            columns["items"][i] = columns["rejected"][i] = 1
            columns["reason"][i] = reasons.setdefault(refused[index].reason.value, len(reasons))
            details[i] = str(refused[index])
        if index in refused or digests[i] is not None:
            digests[i] = hashlib.sha256(messages.values[index] or b"").digest()
    return Receipts(**columns, reasons=tuple(reasons), digests=tuple(digests), details=tuple(details))


def _messages_of(receipts: Receipts) -> Iterator[tuple[int, int]]:
    """Yields the place of each receipt and that of its first message: receipts are in the order of messages.

    A further reason for a message that has a receipt already is a receipt of no items with some rejected.
    """
    index = -1
    after = 0
    for i in range(len(receipts.items)):
        further = receipts.items[i] == 0 and receipts.rejected[i] > 0
        if not further:
            index = after
            after += int(receipts.last_offset[i] - receipts.first_offset[i]) + 1
        yield i, index


def protobuf(signal: Signal, value: bytes, limits: Limits) -> bytes:
    """Returns what is read of an OTLP/JSON message as the protobuf request that it spells.

    Raises:
        Refused: When it is too large, too deep, no JSON or another signal's.
    """
    if len(value) > limits.message_bytes:
        raise Refused(
            RejectReason.TOO_LARGE,
            f"this message has {len(value)} bytes; limits.message_bytes allows {limits.message_bytes}",
        )
    reader = _Reader(value, fields(signal), brackets_max(limits.depth))
    reader.blank()
    if reader.byte() != b"{":
        raise reader.malformed("an OTLP/JSON message is an object")
    written = reader.message(REQUESTS[signal])
    reader.blank()
    if reader.at < len(value):
        raise reader.malformed("nothing may follow the message")
    if reader.any_member and not reader.any_own_member:
        raise Refused(RejectReason.WRONG_TYPE, nothing_of(signal, value))
    return written


_STRING = re.compile(rb'"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_PARTS = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")
_POWER_DIGITS = 15
"""A larger power of ten than of so many digits is as good as infinite: no message has as many digits."""
_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BLANK = re.compile(rb"[ \t\r\n]*")
_WORD = re.compile(rb"null|true|false")
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_NAMED_DOUBLES = (b"NaN", b"Infinity", b"-Infinity")
_PACKED = 2
_FIXED = (Kind.FIXED64, Kind.SFIXED64, Kind.DOUBLE)


@dataclass(slots=True)
class _Reader:
    """A place in a message."""

    data: bytes
    messages: Mapping[str, Mapping[str, Field]]
    brackets: int
    """How many more may be open."""
    at: int = 0
    any_member: bool = False
    any_own_member: bool = False

    def malformed(self, what: str) -> Refused:
        return Refused(RejectReason.MALFORMED, f"at byte {self.at}: {what}")

    def byte(self) -> bytes:
        return self.data[self.at : self.at + 1]

    def blank(self) -> None:
        match = _BLANK.match(self.data, self.at)
        assert match
        self.at = match.end()

    def accept(self, byte: bytes) -> bool:
        """Returns whether `byte` comes next after white space, and goes beyond it."""
        self.blank()
        if self.byte() != byte:
            return False
        self.at += 1
        return True

    def expect(self, byte: bytes) -> None:
        if not self.accept(byte):
            raise self.malformed(f"expected {byte.decode()}")

    def accept_null(self) -> bool:
        if not self.data.startswith(b"null", self.at):
            return False
        self.at += 4
        return True

    def open(self, byte: bytes) -> None:
        """Goes beyond an opening bracket."""
        if self.byte() != byte:
            raise self.malformed(f"expected {byte.decode()} or null")
        if self.brackets == 0:
            raise Refused(RejectReason.TOO_DEEP, f"at byte {self.at}: nested deeper than limits.depth allows")
        self.brackets -= 1
        self.at += 1

    def members(self) -> Iterator[bytes]:
        """Yields the name of each member of an object, standing at its value, which the caller must read."""
        self.open(b"{")
        if not self.accept(b"}"):
            while True:
                self.blank()
                name = self.text()
                self.expect(b":")
                self.blank()
                yield name
                if self.accept(b"}"):
                    break
                self.expect(b",")
        self.brackets += 1

    def elements(self) -> Iterator[None]:
        """Yields at each element of a list, which the caller must read."""
        self.open(b"[")
        if not self.accept(b"]"):
            while True:
                self.blank()
                yield
                if self.accept(b"]"):
                    break
                self.expect(b",")
        self.brackets += 1

    def message(self, name: str) -> bytes:
        """Returns a message that stands here as an object."""
        known = self.messages[name]
        is_request = name in REQUESTS.values()
        written = bytearray()
        for member in self.members():
            field = known.get(member.decode("utf-8", "replace"))
            if is_request:
                self.any_member = True
                self.any_own_member |= field is not None
            if field is None:
                self.skip()
            elif not self.accept_null():
                written += self.field(field)
        return bytes(written)

    def field(self, field: Field) -> bytes:
        """Returns a member that is read, as protobuf."""
        if not field.repeated:
            return _written(field, self.value(field))
        if field.kind == Kind.MESSAGE:
            empty_or_message = (b"" if self.accept_null() else self.value(field) for _ in self.elements())
            return b"".join(_written(field, value) for value in empty_or_message)
        packed = b"".join(self.value(field) for _ in self.elements())
        return _varint(field.number << 3 | _PACKED) + _varint(len(packed)) + packed

    def value(self, field: Field) -> bytes:
        """Returns a value that is read, as protobuf without tag and length."""
        match field.kind:
            case Kind.MESSAGE:
                return self.message(field.message)
            case Kind.TEXT:
                return self.text()
            case Kind.TRACE_ID:
                return self.trace_id()
            case Kind.BYTES:
                return self.base64()
            case Kind.BOOL:
                return b"\x01" if self.boolean() else b"\x00"
            case Kind.DOUBLE:
                return struct.pack("<d", self.double())
        number = self.integer(field.kind)
        if field.kind in _FIXED:
            return struct.pack("<Q", number & (1 << 64) - 1)
        if field.kind == Kind.SINT32:
            number = number << 1 ^ number >> 31
        return _varint(number & (1 << 64) - 1)

    def text(self) -> bytes:
        match = _STRING.match(self.data, self.at)
        if match is None:
            raise self.malformed("expected a text")
        self.at = match.end()
        return _unescaped(match[1])

    def trace_id(self) -> bytes:
        digits = self.text()
        if len(digits) not in (0, 2 * TRACE_ID_BYTES) or re.fullmatch(rb"[0-9a-fA-F]*", digits) is None:
            raise self.malformed("a traceId is 32 hexadecimal digits")
        return bytes.fromhex(digits.decode())

    def base64(self) -> bytes:
        text = self.text()
        if _BASE64.fullmatch(text) is None:
            raise self.malformed("bytes are base64")
        return base64.b64decode(text)

    def boolean(self) -> bool:
        match = _WORD.match(self.data, self.at)
        if match is None or match[0] == b"null":
            raise self.malformed("expected true or false")
        self.at = match.end()
        return match[0] == b"true"

    def number(self, *, quoted: bool) -> bytes:
        """Returns the spelling of a number, bare or as a text."""
        if quoted and self.byte() == b'"':
            text = self.text()
            if _NUMBER.fullmatch(text) is None and text not in _NAMED_DOUBLES:
                raise self.malformed("expected a number")
            return text
        match = _NUMBER.match(self.data, self.at)
        if match is None:
            raise self.malformed("expected a number")
        self.at = match.end()
        return match[0]

    def integer(self, kind: Kind) -> int:
        text = self.number(quoted=kind != Kind.ENUM)
        if text in _NAMED_DOUBLES:
            raise self.malformed("expected an integer")
        negative, digits, exponent = _split(text)
        low, high = RANGES[kind]
        if exponent < 0 or len(digits) + exponent > len(str(1 << 64)):
            raise self.malformed("expected an integer of the field's range")
        number: int = int(digits or "0") * 10**exponent
        number = -number if negative else number
        if not low <= number <= high:
            raise self.malformed("expected an integer of the field's range")
        return number

    def double(self) -> float:
        text = self.number(quoted=True)
        if text in _NAMED_DOUBLES:
            return float(text)
        negative, digits, exponent = _split(text)
        counting = digits[:DOUBLE_DIGITS]
        number = float(f"{counting or 0}e{exponent + len(digits) - len(counting)}")
        if np.isinf(number):
            raise self.malformed("this number is larger than any double")
        return -number if negative else number

    def skip(self) -> None:
        """Goes beyond a value that is not read."""
        match self.byte():
            case b"{":
                for _ in self.members():
                    self.skip()
            case b"[":
                for _ in self.elements():
                    self.skip()
            case b'"':
                self.text()
            case _:
                found = _WORD.match(self.data, self.at) or _NUMBER.match(self.data, self.at)
                if found is None:
                    raise self.malformed("expected a value")
                self.at = found.end()


def _split(number: bytes) -> tuple[bool, str, int]:
    """Returns the sign, the significant digits without zeros at either end, and the exponent of the last of them."""
    match = _PARTS.fullmatch(number)
    assert match
    sign, whole, fraction, power = (part.decode() if part else "" for part in match.groups())
    significant = (whole + fraction).lstrip("0")
    digits = significant.rstrip("0")
    if not digits:
        return bool(sign), "", 0
    size = power.lstrip("+-").lstrip("0")
    exponent = int(size or "0") if len(size) <= _POWER_DIGITS else 10**_POWER_DIGITS
    exponent = -exponent if power.startswith("-") else exponent
    return bool(sign), digits, exponent - len(fraction) + len(significant) - len(digits)


def _unescaped(text: bytes) -> bytes:
    """Returns the bytes that the inside of a JSON string spells."""
    before, *parts = re.split(rb"\\(u[0-9a-fA-F]{4}|.)", text)
    written = bytearray(before)
    high = 0  # a surrogate that waits for its other half
    for escape, after in zip(parts[::2], parts[1::2], strict=True):
        unit = int(escape[1:], 16) if len(escape) > 1 else -1
        if high and unit in _LOW:
            unit = 0x10000 + ((high - _HIGH.start) << 10) + unit - _LOW.start
        elif high:
            written += "\ufffd".encode()
        high = 0
        if unit in _HIGH:
            high = unit
        elif unit in _LOW:
            written += "\ufffd".encode()
        else:
            written += chr(unit).encode() if unit >= 0 else _ESCAPES.get(escape, escape)
        if high and after:
            written += "\ufffd".encode()
            high = 0
        written += after
    return bytes(written + "\ufffd".encode() if high else written)


def _written(field: Field, value: bytes) -> bytes:
    if field.kind in _FIXED:
        return _varint(field.number << 3 | 1) + value
    if field.kind in (Kind.MESSAGE, Kind.TEXT, Kind.TRACE_ID, Kind.BYTES):
        return _varint(field.number << 3 | _PACKED) + _varint(len(value)) + value
    return _varint(field.number << 3) + value


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
