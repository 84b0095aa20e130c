"""What the compiled decoders share: the wire format as upb reads it, interned strings, UTF-8 and receipts."""

import hashlib

import numpy as np
import pytest
from google.protobuf.message import DecodeError as ProtobufDecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from stream.core.columns import RejectReason
from stream.core.otlp import Messages
from stream.core.otlp.reference.batch import Batch, Refusal, Row
from stream.core.otlp.scan import wire
from stream.core.otlp.scan.accounts import Refused, make_receipts
from stream.core.otlp.scan.intern import InternTable
from stream.core.otlp.scan.memory import PADDING, address_of, joined, kernel
from stream.core.otlp.scan.text import is_utf8
from tests.core.otlp.scan.equality import accounts
from tests.core.otlp.spans import attribute


@kernel
def utf8_kernel(p, size):
    return is_utf8(p, size)


@kernel
def any_value_kernel(p, size):
    return wire.validated(p, p + size, wire.ANY_VALUE) >= 0


@kernel
def key_value_kernel(p, size, table):
    return wire.key_value(p, p + size, table)


def run(function, data, *arguments):
    padded = data + bytes(PADDING)
    return function(address_of(padded), len(data), *arguments)


MALFORMED = {
    "a field number of 0": b"\x02\x00",
    "a tag of six bytes": b"\x98\x80\x80\x80\x80\x00\x05",
    "a tag beyond 32 bits": b"\x98\x80\x80\x80\x10\x05",
    "a varint of eleven bytes": b"\x18" + b"\xff" * 10 + b"\x00",
    "a length of six bytes": b"\x0a\x81\x80\x80\x80\x80\x00a",
    "a length beyond 31 bits": b"\x0a\x81\x80\x80\x80\x10a",
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "a group that ends as another": b"\x7b\x74",
    "a group that does not end": b"\x7b",
    "an end without a group": b"\x7c",
    "a group across the end of a message": b"\x2a\x01\x0b\x0c",
    "too few bytes": b"\x21\x00\x00",
    "a length beyond the end": b"\x0a\x05abc",
    "a broken value in an array": b"\x2a\x03\x0a\x01\x0a",
    "a broken key in a map": b"\x32\x04\x0a\x02\x0a\x05",
    "101 groups": b"\x7b" * 101 + b"\x7c" * 101,
}
ACCEPTED = {
    "nothing": b"",
    "a long tag": b"\x98\x80\x80\x80\x00\x05",
    "a varint with bits past the 64th": b"\x18" + b"\xff" * 9 + b"\x7f",
    "a long length": b"\x0a\x81\x80\x80\x80\x00a",
    "the largest tag": b"\xf8\xff\xff\xff\x0f\x00",
    "a group": b"\x7b\x0a\x01a\x7c",
    "a known field as a group": b"\x0b\x08\x01\x0c",
    "a field number of 0 within a group": b"\x7b\x00\x00\x7c",
    "another wire type": b"\x0d\x01\x02\x03\x04",
    "100 groups": b"\x7b" * 100 + b"\x7c" * 100,
}


@pytest.mark.parametrize("what", [*MALFORMED, *ACCEPTED])
def test_the_wire_format_is_read_as_upb_reads_it(what):
    data = {**MALFORMED, **ACCEPTED}[what]
    try:
        AnyValue.FromString(data)
        accepted = True
    except ProtobufDecodeError:
        accepted = False
    assert accepted == (what in ACCEPTED)
    assert run(any_value_kernel, data) == accepted


WIRE_BYTES = st.lists(
    st.one_of(
        st.sampled_from([0, 1, 2, 3, 8, 10, 11, 12, 16, 18, 24, 33, 42, 50, 0x7B, 0x7C, 0x80, 0xFF]),
        st.integers(0, 255),
    ),
    max_size=24,
).map(bytes)


@given(WIRE_BYTES)
@settings(max_examples=500)
def test_any_bytes_are_accepted_as_a_key_value_exactly_when_upb_accepts_them(data):
    try:
        KeyValue.FromString(data)
        accepted = True
    except ProtobufDecodeError as error:
        if "UTF-8" in str(error):
            return
        accepted = False
    table = wire.KeyTable([])
    assert (run(key_value_kernel, data, table.address)[0] == wire.UNWANTED) == accepted


KEYS = ("a", "ab", "", "http.status_code", "http.response.status_code", "x" * 9, "x" * 300)


@pytest.mark.parametrize("key", [*KEYS, "b", "abc", "http.status_codf", "ittp.status_code", "x" * 8, "x" * 299 + "y"])
@pytest.mark.parametrize(
    "value", ["", "text", "t" * 127, "t" * 128, "t" * 20_000, 0, 127, 128, 200, -1, 2**62, True, False, 1.5]
)
def test_a_key_value_in_either_order(key, value):
    table = wire.KeyTable([key.encode() for key in KEYS])
    usual = attribute(key, value)
    other = KeyValue(value=usual.value).SerializeToString() + KeyValue(key=key).SerializeToString()
    for data in (usual.SerializeToString(), other):
        padded = data + bytes(PADDING)
        p = address_of(padded)
        slot, kind, a, b = key_value_kernel(p, len(data), table.address)
        assert slot == (KEYS.index(key) if key in KEYS else wire.UNWANTED)
        if isinstance(value, bool):
            assert (kind, a) == (wire.BOOL, value)
        elif isinstance(value, int):
            assert (kind, a) == (wire.INT, value)
        elif isinstance(value, float):
            assert (kind, np.int64(a).view("float64")) == (wire.DOUBLE, value)
        else:
            assert (kind, padded[a - p : a - p + b]) == (wire.STRING, value.encode())


@given(st.lists(st.binary(max_size=40), max_size=300))
def test_a_string_has_one_index_while_the_table_grows(words):
    table = InternTable(most=4, arena=64)
    expected: dict[bytes, int] = {}
    for word in words:
        assert table.add(word) == expected.setdefault(word, len(expected))
    assert table.words() == list(expected)
    assert [table.word(i) for i in range(len(table))] == list(expected)
    assert table.texts() == [word.decode("utf-8", "replace") for word in expected]


UTF8_BYTES = st.lists(
    st.sampled_from([0x41, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xE0, 0xE1, 0xED, 0xF0, 0xF1, 0xF4, 0xF5]),
    max_size=12,
).map(bytes)


@given(st.one_of(st.text().map(str.encode), st.binary(), UTF8_BYTES))
@settings(max_examples=500)
def test_utf8_is_what_python_decodes(data):
    try:
        data.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert bool(run(utf8_kernel, data)) == valid


def test_messages_are_joined_with_padding():
    data, offsets = joined([b"ab", None, b"", b"c"])
    assert (data, offsets.tolist()) == (b"abc" + bytes(PADDING), [0, 2, 2, 2, 3])


MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(1, 2),
        st.sampled_from([0, 1, 1, 1, 2, 5]),
        st.sampled_from(["", "", "", "part", "both", "all"]),
    ),
    max_size=12,
)


@given(MESSAGES)
def test_receipts_are_those_that_the_plain_decoders_collect(sent):
    batch, refused, items, offset = Batch(), [], [], 0
    sources, offsets, values = [], [], []
    for i, (source, step, count, how) in enumerate(sent):
        offset += step
        sources.append(source)
        offsets.append(offset)
        values.append(b"value %d" % i)
        reasons = {
            "part": [RejectReason.VALUE_TOO_LONG],
            "both": [RejectReason.TOO_MANY_ATTRIBUTES, RejectReason.VALUE_TOO_LONG],
        }
        parts = [RejectReason.MALFORMED] if how == "all" else reasons.get(how, [])
        refused += [Refused(message=i, reason=reason, items=1, detail="why") for reason in parts]
        items.append(1 if how == "all" else count + len(parts))
    messages = Messages(source=np.array(sources, "int16"), offset=np.array(offsets, "int64"), values=values)
    for message, (_, _, count, how), total in zip(messages, sent, items, strict=True):
        if how == "all":
            batch.reject(message, RejectReason.MALFORMED, "why")
            continue
        row = Row(message.source, message.offset, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0, 0)
        why = [one.reason for one in refused if values[one.message] == message.value]
        batch.service(None, None, None)
        batch.version("")
        batch.accept(message, [row] * count, [Refusal(reason=reason, items=1, detail="why") for reason in why])
        assert total == count + len(why)
    actual = make_receipts(messages, np.array(items, "int64"), refused)
    expected = batch.decoded().receipts
    assert accounts(actual) == accounts(expected)
    assert actual.reasons == expected.reasons
    assert all(
        digest is None or digest == hashlib.sha256(values[offsets.index(int(actual.first_offset[i]))]).digest()
        for i, digest in enumerate(actual.digests)
    )
