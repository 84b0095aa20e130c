"""The reference decoder of OTLP traces: what each field becomes, and what is refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.columns import NO_CODE, Kind, RowFlag, Signal, Status
from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.attributes import parse
from stream.core.otlp.reference import traces
from stream.core.units import TIME_NS_MAX, WEIGHT_MAX, WEIGHT_ONE
from tests.core.otlp.spans import T0, attributes, span


def request(spans, resource=(("service.name", "checkout"),)):
    made = ExportTraceServiceRequest()
    part = made.resource_spans.add()
    part.resource.attributes.extend(attributes(*resource))
    part.scope_spans.add().spans.extend(spans)
    return made


def decode(*values):
    return traces.decode(Messages.of(values))


def rows_of(*spans, **fields):
    return decode(request(spans, **fields).SerializeToString()).rows


def code_of(*pairs):
    return int(rows_of(span(*pairs)).code[0])


def refusal(value):
    """Returns (reason, detail) of a message that is refused as one item."""
    result = decode(value)
    receipts = result.receipts
    assert (len(result.rows), receipts.items.tolist(), receipts.rejected.tolist()) == (0, [1], [1])
    assert receipts.digests == (hashlib.sha256(value).digest(),)
    return receipts.reasons[receipts.reason[0]], receipts.details[0]


def test_a_span_becomes_a_row():
    made = span(
        ("error.type", "timeout"),
        ("http.response.status_code", 504),
        start_time_unix_nano=T0,
        end_time_unix_nano=T0 + 250_000_001,
        trace_state="ot=th:8",
        trace_id=b"\xff" * 16,
    )
    resource = (
        ("service.name", "checkout"),
        ("service.namespace", "shop"),
        ("service.version", "1.4.0"),
        ("deployment.environment.name", "production"),
    )
    value = request([made], resource=resource).SerializeToString()
    rows = traces.decode(Messages.of([value], source=2, first_offset=77)).rows
    assert {name: getattr(rows, name).tolist() for name in rows.DTYPES} == {
        "source": [2],
        "offset": [77],
        "service": [0],
        "version": [0],
        "kind": [Kind.SERVER],
        "status": [Status.UNSET],
        "code": [504],
        "error_type": [1],
        "end_ns": [T0 + 250_000_001],
        "duration_ns": [250_000_001],
        "count": [1],
        "weight": [2 * WEIGHT_ONE],
        "flags": [RowFlag.FAILED],
        "signal": [Signal.SPAN],
        "severity": [0],
        "name": [0],
        "attributes": [0],
        "trace_hi": [-1],
        "trace_lo": [-1],
    }
    assert rows.services == ("production/shop/checkout",)
    assert rows.versions == ("1.4.0",)
    assert rows.error_types == ("", "timeout")


@pytest.mark.parametrize(
    ("resource", "key", "version"),
    [
        ((), "unknown/-/unknown_service", ""),
        ((("service.name", ""),), "unknown/-/unknown_service", ""),
        ((("service.name", 42), ("service.version", 1.5)), "unknown/-/unknown_service", ""),
        ((("service.name", ["a"]), ("service.version", True)), "unknown/-/unknown_service", ""),
        ((("service.name", None),), "unknown/-/unknown_service", ""),
        ((("service.name", "first"), ("service.name", "second")), "unknown/-/first", ""),
        ((("service.name", 42), ("service.name", "second")), "unknown/-/unknown_service", ""),
        ((("service.name", "a/b%c"),), "unknown/-/a%2Fb%25c", ""),
        ((("service.name", "s"), ("deployment.environment", "old")), "old/-/s", ""),
        (
            (
                ("deployment.environment", "old"),
                ("service.name", "s"),
                ("deployment.environment.name", "new"),
            ),
            "new/-/s",
            "",
        ),
        (
            (
                ("deployment.environment.name", 1),
                ("deployment.environment", "old"),
                ("service.name", "s"),
            ),
            "old/-/s",
            "",
        ),
    ],
)
def test_service_key_and_version_of_a_resource(resource, key, version):
    rows = rows_of(span(), resource=resource)
    assert rows.services == (key,)
    assert rows.versions == (version,)


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([], NO_CODE),
        ([("http.response.status_code", 200)], 200),
        ([("http.status_code", 404)], 404),
        ([("http.status_code", 500), ("http.response.status_code", 200)], 200),
        ([("http.response.status_code", "200"), ("http.status_code", 404)], 404),
        ([("http.response.status_code", 500), ("http.response.status_code", 200)], 500),
        ([("http.response.status_code", "200")], NO_CODE),
        ([("http.response.status_code", 200.0)], NO_CODE),
        ([("http.response.status_code", True)], NO_CODE),
        ([("http.response.status_code", 99)], NO_CODE),
        ([("http.response.status_code", 600)], NO_CODE),
        ([("http.response.status_code", -(2**63))], NO_CODE),
        ([("rpc.grpc.status_code", 0)], 0),
        ([("rpc.grpc.status_code", 16)], 16),
        ([("rpc.grpc.status_code", 17)], NO_CODE),
        ([("rpc.grpc.status_code", -1)], NO_CODE),
        ([("rpc.response.status_code", "DEADLINE_EXCEEDED")], 4),
        ([("rpc.response.status_code", "OK")], 0),
        ([("rpc.response.status_code", "not_found")], NO_CODE),
        ([("rpc.response.status_code", "")], NO_CODE),
        ([("rpc.response.status_code", None)], NO_CODE),
        ([("rpc.status_code", "UNAVAILABLE")], 14),
        ([("rpc.grpc.status_code", 0), ("rpc.response.status_code", "UNAVAILABLE")], 14),
        ([("http.response.status_code", 200), ("rpc.grpc.status_code", 14)], 14),
        ([("http.response.status_code", 503), ("rpc.response.status_code", "no name")], 503),
    ],
)
def test_the_status_code(pairs, code):
    assert code_of(*pairs) == code


@pytest.mark.parametrize(
    ("fields", "pairs", "failed"),
    [
        ({}, [], False),
        ({}, [("http.response.status_code", 500)], True),
        ({}, [("http.response.status_code", 404)], False),
        ({"kind": 3}, [("http.response.status_code", 404)], True),
        ({}, [("error.type", "timeout")], True),
        ({}, [("error.type", 500)], False),
        ({"status": {"code": 1}}, [("error.type", "timeout"), ("http.response.status_code", 500)], False),
        ({"status": {"code": 2}}, [("http.response.status_code", 200)], True),
        ({"status": {"code": 9}}, [("http.response.status_code", 200)], False),
    ],
)
def test_failed(fields, pairs, failed):
    assert bool(rows_of(span(*pairs, **fields)).flags[0] & RowFlag.FAILED) is failed


def test_unknown_kinds_and_statuses():
    values = [-(2**31), -1, 0, 5, 6, 17, 2**31 - 1]
    rows = rows_of(*(span(kind=value, status={"code": value}) for value in values))
    assert rows.kind.tolist() == [0, 0, 0, 5, 0, 0, 0]
    assert rows.status.tolist() == [0] * 7


@pytest.mark.parametrize(
    ("start", "end", "end_ns", "duration_ns", "negative"),
    [
        (T0, T0, T0, 0, False),
        (T0, T0 - 1, T0 - 1, 0, True),
        (T0, 0, 0, 0, True),
        (2**64 - 2, 2**64 - 1, TIME_NS_MAX, 1, False),
        (0, 2**64 - 1, TIME_NS_MAX, TIME_NS_MAX, False),
        (2**64 - 1, 2**63, TIME_NS_MAX, 0, True),
    ],
)
def test_times_at_the_edges(start, end, end_ns, duration_ns, negative):
    rows = rows_of(span(start_time_unix_nano=start, end_time_unix_nano=end), span())
    assert (int(rows.end_ns[0]), int(rows.duration_ns[0])) == (end_ns, duration_ns)
    assert bool(rows.flags[0] & RowFlag.NEGATIVE_DURATION) is negative


@pytest.mark.parametrize(
    ("trace_state", "weight", "flags"),
    [
        ("", WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ("vendor=x", WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ("ot=th:0", WEIGHT_ONE, 0),
        ("ot=th:c", 4 * WEIGHT_ONE, 0),
        ("ot=th:c;rv:00000000000000", WEIGHT_ONE, RowFlag.SAMPLING_UNKNOWN),
        ("ot=th:ffff", WEIGHT_MAX, 0),
        ("ot=th:ffff8", WEIGHT_MAX, RowFlag.WEIGHT_CAPPED),
        ("ot=p:63", 0, 0),
    ],
)
def test_weights(trace_state, weight, flags):
    rows = rows_of(span(trace_state=trace_state, trace_id=b"\xff" * 16))
    assert (int(rows.weight[0]), int(rows.flags[0])) == (weight, flags)


def test_a_tombstone_and_an_empty_request_have_no_items():
    result = decode(None, b"", request([]).SerializeToString())
    assert len(result.rows) == 0
    assert result.receipts.items.tolist() == result.receipts.rejected.tolist() == [0, 0, 0]


def test_bad_messages_are_refused_and_their_neighbours_counted():
    good = request([span(), span()]).SerializeToString()
    result = decode(good, good[:-1], b"\xff\xff", None, good)
    assert result.rows.offset.tolist() == [0, 0, 4, 4]
    assert result.receipts.items.tolist() == [2, 1, 1, 0, 2]
    assert result.receipts.rejected.tolist() == [0, 1, 1, 0, 0]


def test_invalid_utf8_that_is_not_read_costs_nothing():
    value = request([span(name="NAME")]).SerializeToString().replace(b"NAME", b"\xff\xfe\xfd\xfc")
    assert decode(value).rows.flags.tolist() == [RowFlag.SAMPLING_UNKNOWN]


def test_invalid_utf8_that_is_read_is_replaced_and_flags_its_span():
    value = request([span(("error.type", "TEXT")), span()]).SerializeToString().replace(b"TEXT", b"a\xff\xffb")
    rows = decode(value).rows
    assert rows.error_types == ("", "a\ufffd\ufffdb")
    assert (rows.flags & RowFlag.INVALID_UTF8 != 0).tolist() == [True, False]


def test_invalid_utf8_of_a_resource_flags_all_its_spans():
    value = request([span(), span()], resource=[("service.name", "TEXT")]).SerializeToString()
    rows = decode(value.replace(b"TEXT", b"caf\xe9")).rows
    assert rows.services == ("unknown/-/caf\ufffd",)
    assert (rows.flags & RowFlag.INVALID_UTF8 != 0).all()


def test_invalid_utf8_in_a_tracestate_does_not_hide_its_threshold():
    made = span(trace_state="vendor=TEXT,ot=th:8", trace_id=b"\xff" * 16)
    value = request([made]).SerializeToString().replace(b"TEXT", b"\xff\xfe\xfd\xfc")
    rows = decode(value).rows
    assert (rows.weight.tolist(), rows.flags.tolist()) == ([2 * WEIGHT_ONE], [RowFlag.INVALID_UTF8])


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("exception", True),
        ("my.exception", True),
        (".exception", True),
        ("xexception", False),
        ("exceptions", False),
        ("", False),
    ],
)
def test_exception_events(name, recorded):
    rows = rows_of(span(events=[{"name": "retry"}, {"name": name}]), span(events=[{"name": "retry"}]))
    assert (rows.flags & RowFlag.EXCEPTION != 0).tolist() == [recorded, False]


@pytest.mark.parametrize(
    ("trace_id", "high", "low"),
    [
        (b"", 0, 0),
        (b"\1" * 8, 0, 0),
        (b"\1" * 17, 0, 0),
        (bytes(7) + b"\1" + bytes(7) + b"\2", 1, 2),
        (b"\x80" + bytes(14) + b"\xff", -(2**63), 255),
    ],
)
def test_trace_ids(trace_id, high, low):
    rows = rows_of(span(trace_id=trace_id))
    assert (rows.trace_hi.tolist(), rows.trace_lo.tolist()) == ([high], [low])


def listed(keys, *pairs, resource=(), **limits):
    value = request([span(*pairs)], resource=resource).SerializeToString()
    rows = traces.decode(Messages.of([value]), Reading(attributes=keys, limits=Limits(**limits))).rows
    return [parse(rows.attribute_sets[i]) for i in rows.attributes]


@pytest.mark.parametrize(
    ("pairs", "resource", "expected"),
    [
        ([], [], {}),
        ([("k", "v"), ("other", "x")], [], {"k": "v"}),
        ([("k", "first"), ("k", "second")], [], {"k": "first"}),
        ([("k", "own")], [("k", "resource")], {"k": "own"}),
        ([], [("k", "resource")], {"k": "resource"}),
        ([("k", ["a"])], [("k", "resource")], {"k": "resource"}),
        ([("k", float("nan"))], [], {}),
        ([("k", True)], [], {"k": True}),
        ([("k", 1)], [], {"k": 1}),
        ([("k", 1.5)], [], {"k": 1.5}),
        ([("k", "")], [], {"k": ""}),
        ([("http.method", "old")], [], {"http.request.method": "old"}),
        ([("http.method", "old"), ("http.request.method", "new")], [], {"http.request.method": "new"}),
        ([("http.method", "old")], [("http.request.method", "resource")], {"http.request.method": "old"}),
        ([], [("http.method", "old")], {"http.request.method": "old"}),
    ],
)
def test_attributes_of_the_allow_list(pairs, resource, expected):
    assert listed(("http.request.method", "k"), *pairs, resource=resource) == [expected]


def refused_as(value, **limits):
    result = traces.decode(Messages.of([value]), Reading(attributes=("k",), limits=Limits(**limits)))
    receipts = result.receipts
    reasons = [receipts.reasons[i] for i in receipts.reason]
    return len(result.rows), receipts.items.tolist(), list(zip(reasons, receipts.rejected.tolist(), strict=True))


def test_limits_of_a_message():
    value = request([span(), span(), span()]).SerializeToString()
    assert refused_as(value, items=3) == (3, [3], [("", 0)])
    assert refused_as(value, items=2) == (0, [1], [("too_many_items", 1)])
    assert refused_as(value, message_bytes=len(value)) == (3, [3], [("", 0)])
    assert refused_as(value, message_bytes=len(value) - 1) == (0, [1], [("too_large", 1)])


def test_limits_of_a_span_cost_the_span():
    spans = [
        span(("a", 1), ("b", 2), ("c", 3)),
        span(("k", "long")),
        span(trace_state="a=bcd"),
        span(("other", "long")),
    ]
    value = request(spans, resource=()).SerializeToString()
    expected = [("too_many_attributes", 1), ("value_too_long", 2)]
    assert refused_as(value, attributes=2, value_bytes=3) == (1, [4, 0], expected)


def test_limits_of_a_resource_cost_its_spans():
    value = request([span()], resource=[("a", 1)]).SerializeToString()
    value += request([span(), span()], resource=[("a", 1), ("b", 2)]).SerializeToString()
    assert refused_as(value, attributes=1) == (1, [3], [("too_many_attributes", 2)])
    value += request([span(("a", 1), ("b", 2)), span()], resource=[("service.name", "long")]).SerializeToString()
    assert refused_as(value, attributes=1, value_bytes=3) == (
        1, [5, 0], [("too_many_attributes", 3), ("value_too_long", 1)]
    )  # fmt: skip


def test_a_limit_of_a_scope_costs_its_spans():
    made = request([span()])
    scope = made.resource_spans[0].scope_spans.add(spans=[span(), span()])
    scope.scope.attributes.extend(attributes(("a", 1), ("b", 2)))
    assert refused_as(made.SerializeToString(), attributes=1) == (1, [3], [("too_many_attributes", 2)])


def field(number, content):
    """Returns a length-delimited field of the wire format."""
    length, size = len(content), b""
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def test_nested_too_deep():
    # By hand, the official classes refuse to make it: AnyValue.array_value is 5, ArrayValue.values is 1.
    value = field(1, b"leaf")
    for _ in range(60):
        value = field(5, field(1, value))
    made = field(9, field(1, b"deep") + field(2, value))
    reason, detail = refusal(field(1, field(2, field(2, made))))
    assert (reason, "100 levels" in detail) == ("too_deep", True)


def metrics(kind, **point):
    made = ExportMetricsServiceRequest()
    part = made.resource_metrics.add()
    part.resource.attributes.extend(attributes(("service.name", "checkout")))
    metric = part.scope_metrics.add().metrics.add(name="http.server.active_requests", unit="1")
    getattr(metric, kind).data_points.add(time_unix_nano=T0, **point)
    return made.SerializeToString()


@pytest.mark.parametrize("kind", ["gauge", "sum", "histogram", "exponential_histogram", "summary"])
def test_metrics_are_refused_as_the_wrong_type(kind):
    reason, detail = refusal(metrics(kind))
    assert (reason, "metrics" in detail) == ("wrong_type", True)


@pytest.mark.parametrize("ids", [{}, {"trace_id": b"\xf0" * 16, "span_id": b"\xf0" * 8}])
def test_logs_are_refused_as_the_wrong_type(ids):
    made = ExportLogsServiceRequest()
    record = made.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=T0, **ids)
    record.body.string_value = "GET /cart 200"
    record.severity_text = "INFO"
    reason, detail = refusal(made.SerializeToString())
    assert (reason, "logs" in detail) == ("wrong_type", True)


def test_json_is_refused_as_the_wrong_type():
    assert refusal(b'{"resourceSpans":[]}') == (
        "wrong_type",
        "this looks like JSON; this source is read as OTLP protobuf",
    )


def test_fields_that_traces_do_not_have_are_refused_where_no_span_is():
    # Field 7 of the request, and field 1000 of ResourceSpans: neither exists.
    assert refusal(b"\x3a\x03abc")[0] == "wrong_type"
    assert refusal(b"\x0a\x06\xc2\x3e\x03abc")[0] == "wrong_type"


def test_unknown_fields_beside_spans_are_ignored():
    value = request([span()]).SerializeToString() + b"\x3a\x03abc"
    assert len(decode(value).rows) == 1


def test_spans_that_never_ended_are_still_spans():
    rows = rows_of(span(start_time_unix_nano=T0, end_time_unix_nano=0))
    assert rows.end_ns.tolist() == [0]


@given(st.binary(max_size=200))
def test_no_bytes_raise(value):
    result = decode(value)
    accepted = int(result.receipts.items.sum() - result.receipts.rejected.sum())
    assert accepted == len(result.rows)
