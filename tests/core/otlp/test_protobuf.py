"""The reference decoder of OTLP traces: what each field becomes, and what is refused."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from stream.core.columns import NO_CODE, Kind, RowFlag, Status
from stream.core.otlp import Message, protobuf
from stream.core.units import TIME_NS_MAX, WEIGHT_MAX, WEIGHT_ONE
from tests.core.otlp.spans import T0, attributes, span


def request(spans, resource=(("service.name", "checkout"),)):
    made = ExportTraceServiceRequest()
    part = made.resource_spans.add()
    part.resource.attributes.extend(attributes(*resource))
    part.scope_spans.add().spans.extend(spans)
    return made


def decode(*values):
    return protobuf.decode([Message(source=0, offset=i, value=value) for i, value in enumerate(values)])


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
    rows = protobuf.decode([Message(source=2, offset=77, value=value)]).rows
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


def test_invalid_utf8_is_malformed():
    value = request([span(name="NAME")]).SerializeToString().replace(b"NAME", b"\xff\xfe\xfd\xfc")
    reason, detail = refusal(value)
    assert reason == "malformed"
    assert "no OTLP traces request" in detail


def field(number, content):
    """Returns a length-delimited field of the wire format."""
    length, size = len(content), b""
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def test_nested_too_deep_is_malformed():
    # By hand, the official classes refuse to make it: AnyValue.array_value is 5, ArrayValue.values is 1.
    value = field(1, b"leaf")
    for _ in range(60):
        value = field(5, field(1, value))
    made = field(9, field(1, b"deep") + field(2, value))
    reason, detail = refusal(field(1, field(2, field(2, made))))
    assert (reason, "MaxDepth" in detail) == ("malformed", True)


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
