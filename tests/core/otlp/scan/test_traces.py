"""The compiled decoder of traces equals the plain one in every field, whatever is sent."""

import random

import pytest
from google.protobuf.message import DecodeError as ProtobufDecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from stream.core.columns import RejectReason, RowFlag
from stream.core.otlp import ONLY_FIELDS, Limits, Messages, Reading
from stream.core.otlp.reference import traces as plain
from stream.core.otlp.scan import traces as compiled
from tests.core.otlp import captures
from tests.core.otlp.scan.equality import assert_equal, without_too_deep
from tests.core.otlp.scan.wire_messages import Writer, damaged, delimited
from tests.core.otlp.spans import T0, attribute, attributes, span

LISTED = Reading(attributes=("cohort", "deployment.environment.name", "http.request.method", "k", "service.name"))
NARROW = Reading(
    attributes=("http.route", "k"), limits=Limits(attributes=3, value_bytes=120, items=2, message_bytes=4000)
)
READINGS = (ONLY_FIELDS, LISTED, NARROW)
REQUEST = ExportTraceServiceRequest.DESCRIPTOR
SEEDS = st.integers(0, 2**64 - 1)


def assert_same(values, reading):
    messages = Messages.of(values)
    assert_equal(compiled.decode(messages, reading), plain.decode(messages, reading))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("name", captures.CAPTURES)
def test_captures_of_a_collector(name, reading):
    assert_same(without_too_deep(captures.values(name), plain.decode), reading)


def test_a_message_that_only_the_parser_finds_too_deep_is_read():
    value, *others = [value for value in captures.values("edge") if not without_too_deep([value], plain.decode)]
    assert not others
    result = compiled.decode(Messages.of([value]), LISTED)
    assert (len(result.rows), result.receipts.rejected.tolist()) == (1, [0])
    assert result.rows.services[result.rows.service[0]].endswith("/deep")


@given(SEEDS, st.sampled_from(READINGS))
@settings(max_examples=150)
def test_requests_in_every_odd_spelling(seed, reading):
    writer = Writer(random.Random(seed))
    assert_same([writer.message(REQUEST) for _ in range(10)], reading)


@given(SEEDS, st.sampled_from(READINGS))
@settings(max_examples=150)
def test_damaged_requests(seed, reading):
    chance = random.Random(seed)
    writer = Writer(chance)
    whole = [writer.message(REQUEST) for _ in range(5)]
    values = [damaged(chance, value, chance.choice(whole)) for value in whole for _ in range(4)]
    assert_same(without_too_deep(values, plain.decode), reading)


@given(SEEDS)
@settings(max_examples=100)
def test_what_the_official_classes_refuse_is_refused_and_nothing_else(seed):
    chance = random.Random(seed)
    value = damaged(chance, Writer(chance, invalid_utf8=False).message(REQUEST))
    try:
        value.decode()
    except UnicodeDecodeError:
        return  # texts may be no UTF-8, which is another rule
    try:
        spans = [
            made
            for resource_spans in ExportTraceServiceRequest.FromString(value).resource_spans
            for scope_spans in resource_spans.scope_spans
            for made in scope_spans.spans
        ]
    except ProtobufDecodeError as error:
        if "MaxDepth" not in str(error):
            assert compiled.decode(Messages.of([value])).receipts.rejected.tolist() == [1]
        return
    result = compiled.decode(Messages.of([value]))
    if not result.receipts.rejected.any():
        assert result.rows.end_ns.tolist() == [min(made.end_time_unix_nano, 2**63 - 1) for made in spans]


@pytest.mark.parametrize("name", captures.CAPTURES)
def test_a_message_cut_off_anywhere(name):
    value = min((value for value in captures.values(name) if len(value) > 400), key=len)
    assert_same([value[:cut] for cut in range(0, len(value), max(1, len(value) // 300))], LISTED)


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_raise(values):
    result = compiled.decode(Messages.of(values), LISTED)
    assert int(result.receipts.items.sum() - result.receipts.rejected.sum()) == len(result.rows)


def test_a_neighbour_never_decides():
    whole = request([span(("http.response.status_code", 500))])
    for cut in range(1, len(whole)):
        alone = compiled.decode(Messages.of([whole[:cut]]))
        before = compiled.decode(Messages.of([whole[:cut], whole[cut:], whole]))
        assert before.receipts.rejected.tolist()[0] == alone.receipts.rejected.tolist()[0]


def request(spans, resource=(("service.name", "checkout"),)):
    made = ExportTraceServiceRequest()
    part = made.resource_spans.add()
    part.resource.attributes.extend(attributes(*resource))
    part.scope_spans.add().spans.extend(spans)
    return made.SerializeToString()


def resource(*pairs):
    made = ExportTraceServiceRequest()
    made.resource_spans.add().resource.attributes.extend(attributes(*pairs))
    return made.resource_spans[0].SerializeToString()


def test_a_resource_in_parts_around_its_spans_is_one():
    spans = ExportTraceServiceRequest.FromString(request([span()], resource=())).resource_spans[0]
    spans.ClearField("resource")
    parts = [
        resource(("service.name", "first")),
        spans.SerializeToString(),
        resource(("service.name", "second"), ("service.version", "2")),
    ]
    value = delimited(1, b"".join(parts))
    rows = compiled.decode(Messages.of([value])).rows
    assert (rows.services, rows.versions) == (("unknown/-/first",), ("2",))
    assert_same([value], LISTED)


def test_more_rows_and_words_than_there_is_room_for():
    spans = [span(("error.type", f"error {i}"), ("k", f"{i:0500}")) for i in range(6000)]
    values = [request(spans[i : i + 1500]) for i in range(0, 6000, 1500)]
    assert_same(values, Reading(attributes=("k",)))
    assert_same(values, Reading(attributes=("k",)))


def test_a_flood_of_spans_is_refused_and_its_neighbours_count():
    flood = delimited(1, delimited(2, delimited(2, b"\x41" + b"\1" * 8) * 60_000))
    good = request([span(), span()])
    messages = Messages.of([good, flood, good])
    result = compiled.decode(messages)
    assert result.receipts.items.tolist() == [2, 1, 2]
    assert result.receipts.reasons[result.receipts.reason[1]] == RejectReason.TOO_MANY_ITEMS
    assert_equal(result, plain.decode(messages))


@pytest.mark.parametrize("other", [ExportMetricsServiceRequest, ExportLogsServiceRequest])
def test_other_signals_are_refused(other):
    writer = Writer(random.Random(7), invalid_utf8=False)
    assert_same([writer.message(other.DESCRIPTOR) for _ in range(200)], ONLY_FIELDS)


def test_tombstones_and_empty_messages():
    assert_same([None, b"", request([]), None, request([span()]), request([span()])], LISTED)
    assert_same([], LISTED)


def test_invalid_utf8_flags_only_who_is_concerned():
    bad = request([span(("error.type", "TEXT"), ("other", "x")), span()]).replace(b"TEXT", b"\xff\xfe\xfd\xfc")
    name = request([span(name="TEXT")], resource=(("service.name", "SERVICE"), ("host.name", "TEXT")))
    name = name.replace(b"TEXT", b"\xff\xfe\xfd\xfc")
    everyone = name.replace(b"SERVICE", b"caf\xe9123")
    rows = compiled.decode(Messages.of([bad, name, everyone])).rows
    assert (rows.flags & RowFlag.INVALID_UTF8 != 0).tolist() == [True, False, False, True]
    assert rows.error_types[rows.error_type[0]] == "\ufffd" * 4
    assert rows.services[rows.service[3]] == "unknown/-/caf\ufffd123"
    assert_same([bad, name, everyone], ONLY_FIELDS)


def test_sources_and_offsets():
    messages = Messages.of(
        [request([span(end_time_unix_nano=T0 + i)] * i) for i in range(5)], source=3, first_offset=70
    )
    rows = compiled.decode(messages).rows
    assert rows.offset.tolist() == [offset for i in range(5) for offset in [70 + i] * i]
    assert rows.source.tolist() == [3] * 10


def test_a_tracestate_that_is_sent_again_is_weighed_by_each_trace_for_itself():
    states = ("ot=th:8", "ot=th:8", "ot=th:c", "ot=th:c;rv:c0000000000000", "ot=p:3", "", "x" * 130, "ot=th:8")
    ids = (b"", b"\0" * 16, b"\xff" * 16, b"\xff" * 8, b"\x7f" * 16, b"\x81" * 16)
    spans = [span(trace_state=state, trace_id=ids[i % 6]) for i, state in enumerate(states * 5)]
    assert_same([request(spans), request(spans[::-1])], ONLY_FIELDS)
    assert_same([request(spans)], NARROW)


def test_no_tracestate_is_remembered_from_another_call():
    for threshold in ("8", "c", "8", "0"):
        assert_same([request([span(trace_state=f"ot=th:{threshold}", trace_id=b"\x99" * 16)] * 3)], ONLY_FIELDS)


def either_way(key, value):
    """Returns an attribute of a span with its key first, and one with its value first."""
    usual = attribute(key, value)
    other = KeyValue(value=usual.value).SerializeToString() + KeyValue(key=key).SerializeToString()
    return [delimited(9, usual.SerializeToString()), delimited(9, other)]


def test_attributes_of_every_size_and_type_in_either_order():
    sizes = (*range(0, 10), 31, 32, *range(95, 135), 300)
    values = [*("é" * (size % 3) + "t" * size for size in sizes), 0, 127, 128, 16383, 16384, -1, True, 2.5, [], None]
    keys = ("k", "cohort", "http.request.method", "http.request.methoD", "q" * 90, "")
    fields = [field for key in keys for value in values for field in either_way(key, value)]
    spans = [b"".join(fields[i : i + 3]) for i in range(len(fields))]
    timed = span().SerializeToString()
    assert_same([delimited(1, delimited(2, delimited(2, one + timed))) for one in spans], LISTED)


@pytest.mark.parametrize("order", [0, 1])
def test_a_span_that_ends_anywhere_while_its_message_goes_on(order):
    pairs = ("http.request.method", "GET"), ("url.path", "/a"), ("http.response.status_code", 500), ("k", 3)
    head = span(trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=b"p" * 8, trace_state="ot=th:0", name="GET")
    whole = head.SerializeToString() + b"".join(either_way(*pair)[order] for pair in pairs)
    parts = [delimited(1, delimited(2, delimited(2, whole[:cut]))) for cut in range(len(whole) + 1)]
    assert_same(parts, LISTED)
    for part in parts:
        assert_same([part], LISTED)
