"""The compiled decoder of OTLP logs equals the plain one, and so the official classes, on whatever bytes arrive."""

import base64
import gzip
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from stream.core.columns import RejectReason, RowFlag
from stream.core.otlp import ONLY_FIELDS, Limits, Messages, Reading
from stream.core.otlp.reference import logs as plain
from stream.core.otlp.scan import logs as compiled
from tests.core.otlp.captures import CAPTURES, GOLDEN
from tests.core.otlp.log_messages import (
    BROKEN_TEXTS,
    MESSAGES,
    delimited,
    fixed64,
    log,
    request,
    resolved,
    tagged,
    varint,
)
from tests.core.otlp.spans import T0

LISTED = ("deployment.environment.name", "error.type", "feature_flag.key", "feature_flag.result.variant", "team")
READINGS = st.builds(
    Reading,
    attributes=st.sampled_from([(), ("team",), LISTED]),
    limits=st.sampled_from(
        [Limits(), Limits(attributes=2), Limits(value_bytes=4), Limits(items=2), Limits(message_bytes=60)]
    ),
)


def captured(name):
    with gzip.open(GOLDEN / f"{name}.logs.jsonl.gz") as lines:
        return [base64.b64decode(json.loads(line)["value"]) for line in lines]


def assert_equal(values, reading=ONLY_FIELDS):
    messages = Messages.of(values, first_offset=7)
    assert resolved(compiled.decode(messages, reading)) == resolved(plain.decode(messages, reading))


@pytest.mark.parametrize("attributes", [(), LISTED])
@pytest.mark.parametrize("name", CAPTURES)
def test_captured_messages(name, attributes):
    assert_equal(captured(name), Reading(attributes=attributes))


@settings(max_examples=300)
@given(st.lists(st.one_of(MESSAGES, st.just(b""), st.none()), max_size=4), READINGS)
def test_messages_as_no_writer_would_write_them(values, reading):
    assert_equal(values, reading)


@settings(max_examples=150)
@given(MESSAGES, st.data())
def test_messages_cut_or_changed_at_any_byte(value, data):
    at = data.draw(st.integers(0, len(value)))
    changed = data.draw(st.sampled_from([value[:at], value[:at] + data.draw(st.binary(max_size=3)) + value[at:]]))
    assert_equal([changed, value, changed + b"\x00"])


@pytest.mark.parametrize("name", CAPTURES)
def test_seeded_mutations_of_captured_messages(name):
    source = random.Random(f"mutations of {name}")
    values = sorted(captured(name), key=len)[:3]
    count = min(300, 2_000_000 // len(values[-1]))
    assert_equal([mutated(source, source.choice(values)) for _ in range(count)], Reading(attributes=LISTED))


def mutated(source, value):
    changed = bytearray(value)
    for _ in range(source.choice([1, 1, 2, 8])):
        at, size = source.randrange(len(changed) + 1), source.randrange(1, 5)
        match source.randrange(4):
            case 0:
                changed[at : at + 1] = source.choice([b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", source.randbytes(1)])
            case 1:
                del changed[at : at + size]
            case 2:
                del changed[at:]
            case 3:
                changed[at:at] = source.randbytes(size)
    return bytes(changed)


def test_a_message_cut_off_anywhere_does_not_touch_its_neighbour():
    value, neighbour = captured("app_default")[0], captured("app_default")[1]
    cuts = [value[:cut] for cut in range(1, len(value), 7)]
    messages = Messages.of([part for cut in cuts for part in (cut, neighbour)])
    result = compiled.decode(messages)
    assert resolved(result) == resolved(plain.decode(messages))
    alone = compiled.decode(Messages.of([neighbour]))
    for i in range(len(cuts)):
        assert int((result.rows.offset == 2 * i + 1).sum()) == len(alone.rows)


@given(BROKEN_TEXTS, st.sampled_from(["service.name", "error.type", "team", "note"]))
def test_a_text_that_is_no_utf8_is_flagged_where_it_is_read(text, key):
    attribute = delimited(1, key.encode()) + delimited(2, delimited(1, text))
    resource = delimited(1, delimited(1, attribute)) if key == "service.name" else b""
    record = fixed64(1, T0) + (b"" if resource else delimited(6, attribute))
    value = delimited(1, resource + delimited(2, delimited(2, record)))
    reading = Reading(attributes=("team",))
    assert_equal([value], reading)
    rows = compiled.decode(Messages.of([value]), reading).rows
    assert bool(rows.flags[0] & RowFlag.INVALID_UTF8) == (key != "note")


def test_attributes_that_are_not_read_may_be_nested_as_deep_as_they_like():
    value = b""
    for _ in range(2000):
        value = delimited(5, delimited(1, value))
    attribute = delimited(1, b"deep") + delimited(2, value)
    record = fixed64(1, T0) + delimited(6, attribute)
    message = delimited(1, delimited(2, delimited(2, record) + delimited(2, record)))
    result = compiled.decode(Messages.of([message]))
    assert (len(result.rows), result.receipts.rejected.tolist()) == (2, [0])
    refused = plain.decode(Messages.of([message])).receipts
    assert refused.reasons[refused.reason[0]] == RejectReason.TOO_DEEP


def test_many_rows_words_and_resources_in_one_message():
    made = ExportLogsServiceRequest()
    for i in range(1500):
        value = request(
            [log(("error.type", f"error-{i}-{'x' * 60}"), ("team", f"team-{i}"), event_name=f"event-{i}")],
            resource=(("service.name", f"service-{i}"), ("service.version", str(i)), ("team", i)),
        )
        made.MergeFrom(value)
    small = made.resource_logs[0].scope_logs[0].log_records.add()
    small.time_unix_nano = T0
    empty = delimited(1, delimited(2, delimited(2, b"") * 5000))
    assert_equal([made.SerializeToString(), empty, made.SerializeToString()], Reading(attributes=LISTED))


def test_unknown_groups_end_where_they_began():
    record = (
        fixed64(1, T0) + tagged(20, 3, tagged(1, 0, varint(5)) + tagged(2, 3, tagged(2, 4, b""))) + tagged(20, 4, b"")
    )
    crossed = fixed64(1, T0) + tagged(20, 3, b"") + tagged(21, 4, b"")
    for part in (record, crossed, record[:-2]):
        assert_equal([delimited(1, delimited(2, delimited(2, part)))])


def test_no_messages():
    result = compiled.decode(Messages.of([]))
    assert (len(result.rows), len(result.receipts)) == (0, 0)
