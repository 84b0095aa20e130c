"""Makes messages at the level of the wire format: legal in every odd way that protobuf knows, and then damaged."""

import random
import struct

from google.protobuf.descriptor import Descriptor, FieldDescriptor

VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, END_GROUP, FIXED32 = range(6)
_FIXED64 = (FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64, FieldDescriptor.TYPE_DOUBLE)
_FIXED32 = (FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32, FieldDescriptor.TYPE_FLOAT)
_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_T0 = 1_767_323_045_000_000_000

KEYS = (
    b"service.name service.namespace service.version deployment.environment.name deployment.environment "
    b"http.response.status_code http.status_code rpc.response.status_code rpc.grpc.status_code rpc.status_code "
    b"error.type http.route http.request.method http.method cohort k event.name exception.type span.kind status.code"
).split()
TEXTS = (
    b"checkout", b"", b"a/b%c", b"-", b"1.4.0", b"OK", b"UNAVAILABLE", b"NOT_FOUND", b"timeout", b"exception",
    b"my.exception", b"xexception", b"GET", b"/api/{id}", "é😀".encode(), "\u0000\ud7ff".encode(), b"x" * 127,
    b"y" * 128, b"z" * 300,
    b"SPAN_KIND_SERVER", b"STATUS_CODE_ERROR",
)  # fmt: skip
INVALID_TEXTS = (b"\xff", b"caf\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"ok\x80")
TRACESTATES = (*b"ot=th:8 ot=th:c;rv:ffffffffffffff vendor=x,ot=th:0 ot=p:3;r:9 vendor=x ot=th:zz".split(), b"")
INTEGERS = (*range(6), 14, 16, 17, 99, 100, 200, 404, 500, 599, 600, 2**31, 2**32 + 2, 2**63, 2**64 - 1, 2**64 - 200)
TIMES = (0, 1, _T0, _T0 + 5, _T0 + 10**9, 2**63 - 1, 2**63, 2**64 - 1)
DOUBLES = (0.0, -0.0, 1.0, 1.5, -2.25, 1e300, float("inf"), float("-inf"), float("nan"))


def varint(value: int, extra: int = 0) -> bytes:
    """Returns a varint with `extra` bytes more than it needs."""
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    for _ in range(extra):
        data[-1] |= 128
        data.append(0)
    return bytes(data)


def delimited(number: int, content: bytes) -> bytes:
    """Returns a length-delimited field."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(len(content)) + content


class Writer:
    """Writes random messages of a schema.

    Args:
        random: Where the choices come from.
        invalid_utf8: Whether texts may be no UTF-8.
        depth: Levels of messages within messages at most.
        size: Messages within a message at most.
    """

    def __init__(self, random: random.Random, *, invalid_utf8: bool = True, depth: int = 12, size: int = 40) -> None:
        self._random = random
        self._texts = TEXTS + INVALID_TEXTS if invalid_utf8 else TEXTS
        self._depth = depth
        self._size = size
        self._left = size

    def message(self, descriptor: Descriptor, depth: int = 0) -> bytes:
        """Returns a message: fields in any order, repeated, sent in parts; unknown ones and other types among them."""
        if depth == 0:
            self._left = self._size
        self._left -= 1
        fields = descriptor.fields
        weights = [6 if field.message_type or field.name in ("key", "end_time_unix_nano") else 2 for field in fields]
        parts = []
        for _ in range(self._random.choice((0, 1, 2, 2, 3, 3, 4, 5, 8) if depth else (1, 1, 2, 3))):
            chance = self._random.random()
            if chance < 0.04:
                parts.append(self._other(self._random.choice(fields).number))
            elif chance < 0.08:
                parts.append(self._other(self._random.choice((15, 16, 17, 100, 1000, 18999, 2**29 - 1))))
            else:
                parts.append(self._field(self._random.choices(fields, weights)[0], depth))
        return b"".join(parts)

    def _tag(self, number: int, wire_type: int) -> bytes:
        tag = number << 3 | wire_type
        extra = self._random.randrange(5 - len(varint(tag)) + 1) if self._random.random() < 0.03 else 0
        return varint(tag, extra)

    def _delimited(self, number: int, content: bytes) -> bytes:
        extra = self._random.randrange(3) if self._random.random() < 0.03 else 0
        return self._tag(number, LENGTH_DELIMITED) + varint(len(content), extra) + content

    def _field(self, field: FieldDescriptor, depth: int) -> bytes:
        number = field.number
        if field.message_type is not None:
            content = self.message(field.message_type, depth + 1) if depth < self._depth and self._left > 0 else b""
            return self._delimited(number, content)
        if field.type in _TEXT:
            return self._delimited(number, self._text(field.name))
        if field.is_repeated and self._random.random() < 0.7:
            content = b"".join(self._scalar(field)[1] for _ in range(self._random.randrange(5)))
            return self._delimited(number, content)
        wire_type, content = self._scalar(field)
        return self._tag(number, wire_type) + content

    def _text(self, name: str) -> bytes:
        if name == "key":
            return self._random.choice(KEYS)
        if name == "trace_state" and self._random.random() < 0.8:
            return self._random.choice(TRACESTATES)
        if name == "trace_id":
            return self._random.randbytes(self._random.choice((0, 8, 16, 16, 16)))
        return self._random.choice(self._texts)

    def _scalar(self, field: FieldDescriptor) -> tuple[int, bytes]:
        if field.type in _FIXED64:
            if field.type == FieldDescriptor.TYPE_DOUBLE:
                return FIXED64, struct.pack("<d", self._random.choice(DOUBLES))
            return FIXED64, struct.pack("<Q", self._random.choice(TIMES))
        if field.type in _FIXED32:
            return FIXED32, self._random.randbytes(4)
        return VARINT, self._integer()

    def _integer(self) -> bytes:
        data = varint(self._random.choice(INTEGERS))
        extra = self._random.randrange(10 - len(data) + 1) if self._random.random() < 0.05 else 0
        return varint(self._random.choice(INTEGERS[:10]), min(extra, 8)) if extra else data

    def _other(self, number: int, depth: int = 0) -> bytes:
        """Returns a field of this number and any wire type."""
        wire_type = self._random.choice((VARINT, FIXED64, LENGTH_DELIMITED, START_GROUP, FIXED32))
        start = self._tag(number, wire_type)
        if wire_type == VARINT:
            return start + self._integer()
        if wire_type == FIXED64:
            return start + self._random.randbytes(8)
        if wire_type == FIXED32:
            return start + self._random.randbytes(4)
        if wire_type == LENGTH_DELIMITED:
            return start + delimited(1, self._random.choice(self._texts))[1:]
        inside = [self._other(self._random.choice((1, 2, 16)), depth + 1) for _ in range(self._random.randrange(3))]
        return start + (b"".join(inside) if depth < 4 else b"") + self._tag(number, END_GROUP)


def damaged(random: random.Random, value: bytes, other: bytes = b"") -> bytes:
    """Returns a message with one to three damages: bytes flipped, set, left out, put in, moved, cut off.

    Args:
        random: Where the choices come from.
        value: The message.
        other: Another one, from which a piece may be put in.
    """
    data = bytearray(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        at = random.randrange(len(data) + 1)
        size = random.choice((1, 1, 2, 4, 9, 30))
        match random.randrange(9) if at < len(data) else 8:
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.choice(
                    (0, 1, 7, 10, 11, 12, 18, 26, 0x7B, 0x7C, 127, 128, 255, random.randrange(256))
                )
            case 2:
                data[at] = (data[at] + random.choice((-2, -1, 1, 2))) % 256
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = random.randbytes(size)
            case 5:
                data[at:at] = data[at : at + size]
            case 6:
                begin = random.randrange(len(other) + 1)
                data[at:at] = other[begin : begin + size]
            case 7:
                data[at:at] = bytes([random.choice((0x7B, 0x7C, 0x0B, 0x0C, 0x80, 0xFF))]) * size
            case _:
                del data[at:]
    return bytes(data)
