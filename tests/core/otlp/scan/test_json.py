"""The compiled decoders of OTLP/JSON equal the plain ones on whatever bytes arrive."""

import ctypes
import mmap
import random
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.columns import Signal
from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.json_fields import DOUBLE_DIGITS, brackets_max
from stream.core.otlp.reference import json as plain
from stream.core.otlp.scan import json as compiled
from stream.core.otlp.scan.json_messages import FRAME_WORDS
from stream.core.otlp.scan.json_numbers import double, number_end, plain_integer, powers_address, whole_number
from stream.core.otlp.scan.json_tables import field_tables
from stream.core.otlp.scan.json_text import PADDING
from stream.core.otlp.scan.json_values import ROOM_BEHIND
from stream.core.otlp.scan.memory import address_of, kernel
from tests.core.otlp.json_texts import LISTED, TEXTS, Writer, captured, mutated, resolved, seeded

DECODERS = {
    Signal.SPAN: (plain.traces, compiled.traces),
    Signal.METRIC: (plain.metrics, compiled.metrics),
    Signal.LOG: (plain.logs, compiled.logs),
}
CAPTURES = [
    (name, signal) for signal in (Signal.SPAN, Signal.LOG) for name in ("tgen", "codec", "edge")
] + [(name, Signal.METRIC) for name in ("tgen", "edge", "app_default")]  # fmt: skip
READINGS = (
    Reading(),
    Reading(attributes=tuple(sorted(LISTED))),
    Reading(attributes=("x",), limits=Limits(attributes=3, value_bytes=8, depth=4, items=9, message_bytes=20_000)),
)


def assert_equal(signal, values, reading=READINGS[1]):
    by_plain, by_compiled = DECODERS[signal]
    messages = Messages.of(values, first_offset=3)
    assert resolved(by_compiled(messages, reading)) == resolved(by_plain(messages, reading))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize(("name", "signal"), CAPTURES)
def test_captured_messages(name, signal, reading):
    assert_equal(signal, captured(name, signal), reading)


@settings(max_examples=150)
@given(st.integers(0, 1 << 40), st.sampled_from(list(DECODERS)), st.sampled_from(READINGS), st.sampled_from((0, 0.01)))
def test_messages_in_every_spelling(seed, signal, reading, faults):
    writer = Writer(seeded(seed), signal, faults)
    assert_equal(signal, [writer.text(), b"", None, writer.text(), writer.text()], reading)


@pytest.mark.parametrize("signal", DECODERS)
def test_seeded_mutations(signal):
    source = seeded("mutations", signal.name)
    for _ in range(40):
        values = [Writer(source, signal).text()]
        values += [mutated(source, values[0]) for _ in range(12)]
        assert_equal(signal, values, source.choice(READINGS))


@pytest.mark.parametrize("signal", DECODERS)
def test_a_message_cut_at_each_byte(signal):
    texts = (Writer(seeded("cut", i), signal).text() for i in range(100))
    value = next(text for text in texts if 400 < len(text) < 2500)
    assert_equal(signal, [value[:length] for length in range(len(value) + 1)])


@pytest.mark.parametrize("inserted", [b" ", b",", b"0", b'"', b"\\", b"null", b"[]"])
def test_the_usual_spelling_with_something_inserted_anywhere(inserted):
    span = (
        b'{"traceId":"%s","spanId":"0102030405060708","traceState":"ot=th:8","name":"GET","kind":2,'
        b'"startTimeUnixNano":"1790000000000000000","endTimeUnixNano":"1790000000000000001","attributes":['
        b'{"key":"http.route","value":{"stringValue":"/"}},{"key":"y","value":{"intValue":"3"}}],"status":{"code":2}}'
    ) % (b"ab" * 16)
    value = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s,{}]}]}]}' % span
    reading = Reading(attributes=("http.route",))
    assert_equal(Signal.SPAN, [value[:at] + inserted + value[at:] for at in range(len(value) + 1)], reading)


@pytest.mark.parametrize(("name", "signal"), CAPTURES)
def test_captured_messages_with_changed_bytes(name, signal):
    source = seeded("captures", name, signal.name)
    value = min(captured(name, signal), key=len)
    assert_equal(signal, [mutated(source, value) for _ in range(10)])


def test_what_lies_behind_a_message_does_not_decide():
    """Each message ends where the next one would complete it."""
    whole = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"endTimeUnixNano":"123","kind":2,"traceId":"%s"}]}]}]}' % (
        b"ab" * 16
    )
    for at in range(1, len(whole)):
        assert_equal(Signal.SPAN, [whole[:at], whole[at:]])


def test_texts_of_every_length_around_the_blocks_that_are_read_at_once():
    for length in (*range(70), 127, 128, 129, 4095, 4096, 4097, 20_000):
        for text in (b"a" * length, b"a" * (length // 2) + b'\\"' + b"b" * (length // 2), b"\\u00e9" * (length // 6)):
            attribute = b'{"key":"x","value":{"stringValue":"%s"}}' % text
            other = b'{"value":{"stringValue":"%s"},"key":"x"}' % text
            for written in (attribute, other):
                span = b'{"endTimeUnixNano":1,"attributes":[%s]}' % written
                assert_equal(Signal.SPAN, [b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % span])


def test_lengths_of_messages_that_need_more_bytes_than_were_kept_for_them():
    for count in (1, 3, 14, 30, 1000, 5000):
        attributes = b",".join(b'{"key":"x","value":{"stringValue":"%d%s"}}' % (i, b"y" * 20) for i in range(count))
        values = b",".join(b'{"stringValue":"%d"}' % i for i in range(count))
        listed = b'{"key":"x","value":{"arrayValue":{"values":[%s]}}}' % values
        for written in (attributes, listed):
            span = b'{"endTimeUnixNano":1,"attributes":[%s]}' % written
            message = b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % span
            assert_equal(Signal.SPAN, [message], Reading(attributes=("x",), limits=Limits(attributes=count)))
            assert_equal(Signal.SPAN, [message], Reading(attributes=("x",), limits=Limits(attributes=count - 1)))


def test_attributes_that_nobody_reads_count_for_the_limit():
    unread = b",".join([b'{"key":"unread","value":{"intValue":1}}', b'{"value":{},"key":"other"}', b"null", b"{}"])
    item = b'{"endTimeUnixNano":1,"timeUnixNano":1,"attributes":[%s],"attributes":[%s]}' % (unread, unread)
    scope = b'"scope":{"attributes":[%s]}' % unread
    resource = b'"resource":{"attributes":[%s]}' % unread
    for limit in (3, 4, 7, 8):
        reading = Reading(limits=Limits(attributes=limit))
        for signal, (outer, middle, items) in {
            Signal.SPAN: (b"resourceSpans", b"scopeSpans", b"spans"),
            Signal.LOG: (b"resourceLogs", b"scopeLogs", b"logRecords"),
        }.items():
            for one, two, three in ((item, b'"a":0', b'"a":0'), (b"{}", scope, b'"a":0'), (b"{}", b'"a":0', resource)):
                value = b'{"%s":[{%s,"%s":[{%s,"%s":[%s]}]}]}' % (outer, three, middle, two, items, one)
                assert_equal(signal, [value], reading)


def test_numbers_that_fill_more_room_than_they_are_spelled_in():
    numbers = b",".join([b"0"] * 120_000)
    point = b'{"timeUnixNano":"1","count":"0","bucketCounts":[%s],"explicitBounds":[]}' % numbers
    metric = b'{"name":"m","histogram":{"aggregationTemporality":1,"dataPoints":[%s]}}' % point
    value = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%s]}]}]}' % metric
    assert_equal(Signal.METRIC, [b"{}", value, value, b"{}"], Reading(limits=Limits(explicit_buckets=1 << 20)))


def test_texts_that_are_mostly_escapes():
    for text in TEXTS:
        escaped = "".join(
            f"\\u{ord(c):04X}" for c in text.encode("utf-16-le").decode("utf-16-le") if ord(c) < 0x10000
        ).encode()
        members = b'"\\u0065ndTimeUnixNano":"\\u0031","traceState":"%s","traceId":"%s"' % (escaped, b"\\u0061" * 32)
        assert_equal(Signal.SPAN, [b'{"resourceSpans":[{"scopeSpans":[{"spans":[{%s}]}]}]}' % members])


class GuardedMemory:
    """Memory whose end is followed by a page that nobody may touch."""

    def __init__(self, pages):
        self.size = pages * mmap.PAGESIZE
        self._memory = mmap.mmap(-1, self.size + mmap.PAGESIZE)
        self.end = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + self.size
        protect = ctypes.CDLL(None).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        assert protect(self.end, mmap.PAGESIZE, 0) == 0

    def put(self, data):
        """Puts bytes at the end; returns where they begin."""
        ctypes.memmove(self.end - len(data), data, len(data))
        return self.end - len(data)


@pytest.mark.parametrize("signal", DECODERS)
def test_no_memory_is_touched_outside_of_what_was_given(signal):
    source = seeded("guard", signal.name)
    messages, written, stack = GuardedMemory(16), GuardedMemory(64), GuardedMemory(4)
    brackets = brackets_max(READINGS[1].limits.depth)
    keys = 0 if signal == Signal.METRIC else compiled._keys(READINGS[1].attributes).address
    limits = np.array([1 << 20, 4], "int64")
    for _ in range(20):
        value = Writer(source, signal, room=15).text()
        for _ in range(100):
            value_now = mutated(source, value)
            if len(value_now) > messages.size - PADDING:
                continue
            outcome = np.array([[0, len(value_now)], [0, 0], [0, 0]], "int64")
            room = source.choice((100, len(value_now) // 4 + 100, written.size))
            compiled._spell_all(
                *(messages.put(value_now + bytes(PADDING)), address_of(outcome), 1, 0),
                *(field_tables(signal).request, keys, address_of(limits), brackets, powers_address()),
                *(stack.end - 8 * FRAME_WORDS * (brackets + 1), written.end - room, room - ROOM_BEHIND),
            )
            assert 0 <= outcome[2, 1] <= room


@kernel
def read_number(start, end, powers):
    value, fits = whole_number(start, end)
    bits, finite = double(start, end, powers)
    short, stopped = plain_integer(start, end)
    return value, fits, bits, finite, short, stopped


@kernel
def end_of_number(start, end):
    return number_end(start, end)


def spellings(source):
    """Numbers that are hard to round, hard to read or no numbers."""
    match source.randrange(6):
        case 0:
            return repr(abs(struct.unpack("<d", source.randbytes(8))[0]))
        case 1:
            return str(source.getrandbits(source.randrange(1, 70)))
        case 2:  # in the middle between two doubles
            return str((2 * (source.getrandbits(53) | 1 << 52) + 1) << source.randrange(12))
        case 3:
            return f"{source.getrandbits(64)}e{source.randrange(-400, 330)}"
        case 4:
            return f"{source.randrange(1, 10_000)}e{source.randrange(-345, 312)}"
    return "".join(source.choice("0123456789000..eE+-") for _ in range(source.randrange(1, 30)))


def test_numbers_are_read_as_python_reads_them():
    source = random.Random(11)
    named = [
        "0",
        "1e23",
        "9007199254740993",
        "2.2250738585072011e-308",
        "2.4703282292062327e-324",
        "2.5e-324",
        "1.8e308",
    ]
    for spelled in (*named, *(spellings(source) for _ in range(20_000))):
        memory = np.frombuffer(spelled.encode() + b"123" + bytes(64), "uint8")
        start = address_of(memory)
        end = start + len(spelled)
        match = re.match(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", spelled)
        if match is None or match.end() < len(spelled):
            if not spelled.startswith("-"):
                assert end_of_number(start, end) == (start + match.end() if match else -1), spelled
            continue
        value, fits, bits, finite, short, stopped = read_number(start, end, powers_address())
        _, digits, power = plain._split(spelled.encode())
        counting = digits[:DOUBLE_DIGITS]
        nearest = float(f"{counting or 0}e{power + len(digits) - len(counting)}")
        assert struct.unpack("<d", struct.pack("<Q", bits)) == (nearest,), spelled
        assert finite == (nearest != float("inf"))
        is_integer = power >= 0 and len(digits) + power <= 20 and int(digits or 0) * 10**power < 1 << 64
        assert fits == is_integer
        assert not fits or value == int(digits or 0) * 10**power
        assert (stopped >= 0) == (re.fullmatch("0|[1-9][0-9]{0,18}", spelled) is not None)
        assert stopped < 0 or (stopped == end and short == int(spelled))


def test_a_refusal_tells_where_and_nothing_of_what_the_message_holds():
    text = b'{"resourceSpans": [{"resource": {"attributes": [{"key": "a", "value": {"stringValue": "password"; oops'
    [detail] = compiled.traces(Messages.of([text]), Reading()).receipts.details
    assert detail is not None
    assert "byte" in detail
    assert "passw" not in detail
