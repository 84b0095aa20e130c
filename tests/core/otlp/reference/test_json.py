"""The plain decoder of OTLP/JSON: it equals that of protobuf on the same items, and keeps the rules of the spelling."""

import base64
import gzip
import hashlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.columns import RowFlag, Signal
from stream.core.otlp import ONLY_FIELDS, Limits, Messages, Reading
from stream.core.otlp.reference import json as plain
from stream.core.otlp.reference import logs, metrics, schema, traces
from tests.core.otlp.captures import GOLDEN
from tests.core.otlp.json_texts import LISTED, Writer, captured, mutated, resolved, seeded

REQUESTS = {
    Signal.SPAN: ExportTraceServiceRequest,
    Signal.METRIC: ExportMetricsServiceRequest,
    Signal.LOG: ExportLogsServiceRequest,
}
TWINS = [
    *((name, Signal.SPAN, traces.decode, plain.traces) for name in ("tgen", "codec", "edge")),
    *((name, Signal.LOG, logs.decode, plain.logs) for name in ("tgen", "codec", "edge", "app_default")),
    *((name, Signal.METRIC, metrics.decode, plain.metrics) for name in ("tgen", "edge", "app_default")),
]
T0 = 1_760_000_000_000_000_000


def spans_of(value, reading=ONLY_FIELDS):
    return plain.traces(Messages.of([value]), reading)


def reason_of(decoded):
    (index,) = decoded.receipts.reason.tolist()
    return decoded.receipts.reasons[index]


def with_span(members, resource=b"{}"):
    span = b'{"endTimeUnixNano":"%d",%s}' % (T0, members)
    return b'{"resourceSpans":[{"resource":%s,"scopeSpans":[{"spans":[%s]}]}]}' % (resource, span)


def with_attribute(value):
    return with_span(b'"attributes":[{"key":"x","value":%s}]' % value)


def request_of(value, signal=Signal.SPAN):
    request: Any = REQUESTS[signal]
    return request.FromString(plain.protobuf(signal, value, Limits()))


def span_of(value):
    return request_of(value).resource_spans[0].scope_spans[0].spans[0]


def value_of(value):
    return span_of(with_attribute(value)).attributes[0].value


def assert_malformed(value):
    decoded = spans_of(value)
    assert reason_of(decoded) == "malformed", value
    assert len(decoded.rows) == 0
    assert decoded.receipts.items.tolist() == decoded.receipts.rejected.tolist() == [1]
    assert decoded.receipts.digests == (hashlib.sha256(value).digest(),)
    assert "byte" in decoded.receipts.details[0]


def twin_values(name, signal):
    word = {Signal.SPAN: "traces", Signal.METRIC: "metrics", Signal.LOG: "logs"}[signal]
    with gzip.open(GOLDEN / f"{name}.{word}.jsonl.gz") as lines:
        return [base64.b64decode(json.loads(line)["value"]) for line in lines]


def items_of(decoded):
    """The rows and points of several messages in an order of their own: twins need not be in the same order."""
    found = resolved(decoded)
    columns = {key: found[key] for key in found if key[0] in ("Rows", "Points") and key[1] not in ("source", "offset")}
    names = {key[0] for key in columns}
    return sorted(
        repr(row)
        for name in names
        for row in zip(*(column for key, column in columns.items() if key[0] == name), strict=True)
    )


@pytest.mark.parametrize(("name", "signal", "in_protobuf", "in_json"), TWINS)
def test_a_captured_message_has_the_rows_of_its_twin_in_protobuf(name, signal, in_protobuf, in_json):
    twin = twin_values(name, signal)
    reading = Reading(attributes=LISTED)
    decoded = in_json(Messages.of(captured(name, signal)), reading)
    assert items_of(decoded) == items_of(in_protobuf(Messages.of(twin), reading))
    assert len(decoded.rows) + len(decoded.points) > 0


def test_the_spans_of_the_captures_are_those_that_another_program_counted():
    for name in ("tgen", "codec", "edge"):
        truth = json.loads((GOLDEN / f"{name}.traces.truth.json").read_text())
        reading = Reading(limits=Limits(attributes=1000))
        assert len(plain.traces(Messages.of(captured(name, Signal.SPAN)), reading).rows) == truth["spans"]


@pytest.mark.parametrize(
    ("spelled", "number"),
    [
        (b"7", 7),
        (b'"7"', 7),
        (b"-7", -7),
        (b"1e3", 1000),
        (b'"1E+3"', 1000),
        (b"1.0", 1),
        (b"1.500e2", 150),
        (b"150e-1", 15),
        (b"-0", 0),
        (b"0e999999999999999999999", 0),
        (b"9223372036854775807", 2**63 - 1),
        (b'"-9223372036854775808"', -(2**63)),
        (b"922337203685477580700e-2", 2**63 - 1),
        (b'"\\u0037"', 7),
    ],
)
def test_an_integer_may_be_spelled_in_many_ways(spelled, number):
    assert value_of(b'{"intValue":%s}' % spelled).int_value == number


@pytest.mark.parametrize(
    "spelled",
    [
        *(
            b"1.5",
            b"1e-1",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"1e19",
            b"1e999999999999999999999",
            b'"07"',
        ),
        *(
            b"07",
            b"+7",
            b'"+7"',
            b'" 7"',
            b'""',
            b'"x"',
            b"true",
            b"{}",
            b"[7]",
            b"7.",
            b".7",
            b"7e",
            b'"NaN"',
            b"0x7",
            b"-",
        ),
    ],
)
def test_what_is_no_integer_of_the_range_is_malformed(spelled):
    assert_malformed(with_attribute(b'{"intValue":%s}' % spelled))


@pytest.mark.parametrize("members", [b'"kind":"SPAN_KIND_SERVER"', b'"kind":"2"', b'"kind":2147483648', b'"kind":true'])
def test_an_enum_is_a_number(members):
    assert_malformed(with_span(members))


@pytest.mark.parametrize("spelled", [b"-1", b"18446744073709551616", b'"-5"'])
def test_times_are_unsigned(spelled):
    assert_malformed(with_span(b'"startTimeUnixNano":' + spelled))


def test_the_largest_time_can_be_spelled():
    assert span_of(with_span(b'"startTimeUnixNano":18446744073709551615')).start_time_unix_nano == 2**64 - 1


@pytest.mark.parametrize(
    ("spelled", "number"),
    [
        (b"3", 3.0),
        (b"-0", -0.0),
        (b"1e-07", 1e-7),
        (b'"2.5"', 2.5),
        (b'"Infinity"', float("inf")),
        (b'"-Infinity"', float("-inf")),
        (b"4.9e-324", 5e-324),
        (b"1e-999999999999999999", 0.0),
        (b"0.1000000000000000055511151231257827021181583404541015625", 0.1),
    ],
)
def test_a_double_may_be_spelled_in_many_ways(spelled, number):
    assert struct.pack("<d", value_of(b'{"doubleValue":%s}' % spelled).double_value) == struct.pack("<d", number)


def test_nan_is_a_double():
    assert value_of(b'{"doubleValue":"NaN"}').double_value != value_of(b'{"doubleValue":"NaN"}').double_value


@pytest.mark.parametrize("spelled", [b"1e309", b'"1e309"', b"NaN", b"Infinity", b'"nan"', b'"inf"', b'""', b"[]"])
def test_what_is_no_finite_double_is_malformed(spelled):
    assert_malformed(with_attribute(b'{"doubleValue":%s}' % spelled))


@pytest.mark.parametrize(
    ("spelled", "text"),
    [
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\u00e9\\n\\/\\"\\\\\\b\\f\\r\\t"', 'é\n/"\\\b\f\r\t'),
        (b'"\\ud83d"', "\ufffd"),
        (b'"\\ude00a"', "\ufffda"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd😀"),
        (b'"\\ud83d\\u0041"', "\ufffdA"),
        (b'"\\ud83d \\ude00"', "\ufffd \ufffd"),
        ('"\x7f\u2028"'.encode(), "\x7f\u2028"),
        (b'"\\u0000"', "\x00"),
    ],
)
def test_escapes_of_texts(spelled, text):
    assert value_of(b'{"stringValue":%s}' % spelled).string_value == text


@pytest.mark.parametrize(
    "spelled", [b'"\n"', b'"\x1f"', b'"\\x"', b'"\\u12g4"', b'"\\u123"', b'"\\', b"5", b"'a'", b'"']
)
def test_what_is_no_text_is_malformed(spelled):
    assert_malformed(with_attribute(b'{"stringValue":%s}' % spelled))


def test_bytes_that_are_no_utf8_are_replaced_and_flagged_where_they_are_read():
    reading = Reading(attributes=("x",))
    decoded = spans_of(with_span(b'"name":"\xff","attributes":[{"key":"x","value":{"stringValue":"a\xff"}}]'), reading)
    assert decoded.rows.attribute_sets[decoded.rows.attributes[0]] == '{"x":"a\ufffd"}'
    assert decoded.rows.flags[0] & RowFlag.INVALID_UTF8
    assert not spans_of(with_span(b'"name":"\xff"')).rows.flags[0] & RowFlag.INVALID_UTF8


def test_a_trace_id_is_hexadecimal_of_either_case():
    for digits in (b"0102030405060708090A0b0c0d0e0f10", b"\\u00301" + b"02030405060708090A0b0c0d0e0f10"):
        assert span_of(with_span(b'"traceId":"%s"' % digits)).trace_id == bytes(range(1, 17))
    assert span_of(with_span(b'"traceId":""')).trace_id == b""


@pytest.mark.parametrize(
    "spelled", [b'"01"', b'"%s"' % (b"0" * 31), b'"%sg"' % (b"0" * 31), b'"%s"' % (b"0" * 34), b"5"]
)
def test_any_other_trace_id_is_malformed(spelled):
    assert_malformed(with_span(b'"traceId":' + spelled))


def test_ids_that_nobody_reads_are_not_looked_at():
    assert len(spans_of(with_span(b'"spanId":5,"parentSpanId":"nonsense","links":7,"flags":"x"')).rows) == 1


def test_bytes_are_base64():
    assert value_of(b'{"bytesValue":"+/8A"}').bytes_value == b"\xfb\xff\x00"
    for wrong in (b'"+/8"', b'"-_8A"', b'"A==="', b'"+/8A "', b"5"):
        assert_malformed(with_attribute(b'{"bytesValue":%s}' % wrong))


def test_names_are_lower_camel_case_and_others_are_ignored():
    span = span_of(with_span(b'"start_time_unix_nano":5,"Kind":2,"new":{"a":[1,{}]},"k\\u0069nd":3'))
    assert (span.start_time_unix_nano, span.kind) == (0, 3)


def test_of_a_number_that_occurs_twice_the_last_counts_and_lists_grow():
    span = span_of(with_span(b'"kind":1,"kind":2,"kind":null,"attributes":[{"key":"x"}],"attributes":[{"key":"y"}]'))
    assert (span.kind, [attribute.key for attribute in span.attributes]) == (2, ["x", "y"])


def test_null_is_absent_and_an_empty_message_in_a_list():
    assert span_of(with_span(b'"kind":null,"attributes":null,"status":null,"traceId":null')).kind == 0
    assert len(spans_of(b'{"resourceSpans":[null,{"scopeSpans":[null,{"spans":[null]}]}]}').rows) == 1
    assert_malformed(with_span(b'"attributes":[{"key":"x","value":{"arrayValue":null}},nul]'))


@pytest.mark.parametrize(
    "value", [b"{}", b" \t\r\n{ } ", b'{"resourceSpans":[]}', b'{"resourceSpans":null}', b"", None]
)
def test_a_message_without_items(value):
    decoded = spans_of(value)
    assert (decoded.receipts.items.tolist(), decoded.receipts.rejected.tolist()) == ([0], [0])


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"[]",
            b"null",
            b" ",
            b"{",
            b"{}}",
            b"{}{}",
            b"{},",
            b'{"a":1,}',
            b'{"a" 1}',
            b"{a:1}",
            b'{"a":tru}',
            b'{"a":nulll}',
        ),
        *(
            b'\xef\xbb\xbf{"resourceSpans":[]}',
            b'{"resourceSpans":{}}',
            b'{"resourceSpans":[5]}',
            b'{"resourceSpans":[{}{}]}',
        ),
        *(
            b'{"a":[1,]}',
            b'{"a":[,]}',
            b'{"a":01}',
            b'{"a":1.}',
            b'{"a":-}',
            b'{"a":"\x00"}',
            b'{"a":/**/1}',
            b'{"a":1}\x00',
            b"\x0b{}",
        ),
    ],
)
def test_what_is_no_json_object_is_malformed(value):
    assert_malformed(value)


@pytest.mark.parametrize("value", [b'{"resourceMetrics":[]}', b'{"service":"checkout"}', b'{"resource_spans":[]}'])
def test_a_message_of_something_else_is_of_the_wrong_type(value):
    assert reason_of(spans_of(value)) == "wrong_type"


def nested(levels):
    return with_attribute(b'{"kvlistValue":{"values":[{"value":' * (levels - 1) + b"{}" + b"}]}}" * (levels - 1))


def test_values_may_be_nested_as_deep_as_the_limit_says_and_no_deeper():
    assert len(spans_of(nested(32)).rows) == 1
    assert reason_of(spans_of(nested(33))) == "too_deep"
    assert len(spans_of(nested(5), Reading(limits=Limits(depth=5))).rows) == 1
    assert reason_of(spans_of(nested(6), Reading(limits=Limits(depth=5)))) == "too_deep"
    assert reason_of(spans_of(b'{"a":' * 100_000)) == "too_deep"


def test_limits_are_those_of_what_was_sent():
    value = with_span(b'"attributes":[{"key":"x"},{"key":"y"},{"key":"z"}]')
    assert reason_of(spans_of(value, Reading(limits=Limits(message_bytes=len(value) - 1)))) == "too_large"
    assert len(spans_of(value, Reading(limits=Limits(message_bytes=len(value)))).rows) == 1
    assert reason_of(spans_of(value, Reading(limits=Limits(attributes=2)))) == "too_many_attributes"
    digest = spans_of(value, Reading(limits=Limits(attributes=2))).receipts.digests
    assert digest == (hashlib.sha256(value).digest(),)


def test_a_refused_message_does_not_cost_its_neighbours():
    good = with_span(b'"kind":2')
    decoded = plain.traces(Messages.of([good, good, b"{", good, None, good], first_offset=5))
    assert decoded.rows.offset.tolist() == [5, 6, 8, 10]
    receipts = decoded.receipts
    assert receipts.first_offset.tolist() == [5, 7, 8, 9, 10]
    assert receipts.rejected.tolist() == [0, 1, 0, 0, 0]
    assert receipts.digests[1] == hashlib.sha256(b"{").digest()


@given(st.integers(0, 1 << 32), st.booleans())
def test_what_is_accepted_is_what_a_json_library_accepts(seed, change):
    source = seeded(seed)
    value = Writer(source, Signal.SPAN).text()
    value = mutated(source, value) if change else value
    try:
        # It replaces what is no UTF-8, which a message may hold within texts only.
        parsed = json.loads(value.decode("utf-8", "replace"), parse_constant=lambda name: 1 / 0)
    except (ValueError, ZeroDivisionError, RecursionError):
        parsed = None
    accepted = reason_of(spans_of(value)) not in ("malformed", "too_deep")
    assert not accepted or isinstance(parsed, dict) or value == b""


@given(st.integers(0, 1 << 32), st.sampled_from(list(REQUESTS)))
def test_what_is_spelled_in_protobuf_can_be_parsed(seed, signal):
    try:
        spelled = plain.protobuf(signal, Writer(seeded(seed), signal).text(), Limits())
    except plain.Refused:
        return
    request = {Signal.SPAN: schema.TRACES, Signal.METRIC: schema.METRICS, Signal.LOG: schema.LOGS}[signal]
    assert request.FromString(spelled).ByteSize() <= len(spelled)
