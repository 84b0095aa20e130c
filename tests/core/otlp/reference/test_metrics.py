"""The plain decoder of metrics: what each column holds, what is refused and why."""

import json
import math
from collections import Counter
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint, SummaryDataPoint

from stream.core.columns import Kind, Status
from stream.core.otlp import Limits, Messages, Reading
from stream.core.otlp.reference import metrics
from stream.core.points import MetricType, PointFlag, Temporality
from stream.core.units import TIME_NS_MAX
from tests.core.otlp.captures import CAPTURES
from tests.core.otlp.metric_messages import assert_equal, captured, one, request, resolved, truth
from tests.core.otlp.spans import T0, attribute, span

Buckets = ExponentialHistogramDataPoint.Buckets


def decode(*requests, **reading):
    return metrics.decode(Messages.of([made.SerializeToString() for made in requests]), Reading(**reading))


def point(made, **reading):
    """Returns the columns of the one point of a request."""
    decoded = decode(made, **reading)
    assert decoded.receipts.rejected.tolist() == [0], decoded.receipts.details
    columns = {name: values[0] for name, values in resolved(decoded.points).items()}
    columns["value"] = float(decoded.points.value[0])
    columns["flags"] = PointFlag(columns["flags"])
    return columns


def refusal(made, **reading):
    """Returns why the one point of a request is refused."""
    decoded = decode(made, **reading)
    assert len(decoded.points) == 0
    assert decoded.receipts.items.tolist() == decoded.receipts.rejected.tolist() == [1]
    assert decoded.receipts.details[0]
    return decoded.receipts.reasons[decoded.receipts.reason[0]]


def stream(made):
    columns = point(made)
    return columns["stream_hi"], columns["stream_lo"]


# What a metric is.


def test_a_sum():
    columns = point(one("sum", as_int=7, is_monotonic=True, aggregation_temporality=2, start_time_unix_nano=T0 - 5))
    assert columns["type"] == MetricType.SUM
    assert columns["temporality"] == Temporality.CUMULATIVE
    assert (columns["value"], columns["value_int"], columns["count"]) == (7.0, 7, 0)
    assert (columns["start_ns"], columns["time_ns"]) == (T0 - 5, T0)
    assert columns["flags"] == PointFlag.INTEGER | PointFlag.MONOTONIC
    assert (columns["name"], columns["unit"], columns["buckets"]) == ("requests", "", [])
    assert columns["service"] == "unknown/-/checkout"


@pytest.mark.parametrize(
    ("sent", "floor"), [(2.5, 2), (-2.5, -3), (3.0, 3), (9.3e18, 0), (-(2.0**63), -(2**63)), (2.0**63, 0), (-0.0, 0)]
)
def test_a_double_and_its_floor(sent, floor):
    columns = point(one("gauge", as_double=sent))
    assert (columns["type"], columns["value"], columns["value_int"]) == (MetricType.GAUGE, sent, floor)
    assert not columns["flags"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gauge_may_be_no_finite_number_and_a_sum_may_not(value):
    columns = point(one("gauge", as_double=value))
    assert (repr(columns["value"]), columns["value_int"]) == (repr(value), 0)
    assert refusal(one("sum", as_double=value)) == "out_of_range"


def test_integers_are_exact_where_doubles_are_not():
    assert point(one("sum", as_int=2**53 + 1))["value_int"] == 2**53 + 1


@pytest.mark.parametrize("sent", [-1, 3, 2**31 - 1])
def test_a_temporality_that_is_not_known_is_none(sent):
    assert point(one("sum", as_int=1, aggregation_temporality=sent))["temporality"] == Temporality.UNSPECIFIED


def test_an_explicit_histogram():
    columns = point(
        one("histogram", count=6, sum=2.5, bucket_counts=[1, 2, 3], explicit_bounds=[0.1, 0.5], name="x", pairs=())
    )
    assert columns["type"] == MetricType.HISTOGRAM
    assert (columns["count"], columns["value"], columns["buckets"]) == (6, 2.5, [1, 2, 3])
    assert columns["bounds"] == (0.1, 0.5)
    assert columns["flags"] == PointFlag.HAS_SUM


def test_a_histogram_without_a_sum_or_without_a_finite_one():
    for fields in ({}, {"sum": math.nan}, {"sum": math.inf}):
        columns = point(one("histogram", count=1, bucket_counts=[1], **fields))
        assert (columns["flags"], columns["value"], columns["buckets"]) == (PointFlag(0), 0.0, [1])
    assert point(one("histogram", count=0, sum=0.0, bucket_counts=[0]))["flags"] == PointFlag.HAS_SUM


def test_a_histogram_without_buckets_has_no_bounds():
    columns = point(one("histogram", count=3, sum=1.0, explicit_bounds=[2.0, 1.0]))
    assert columns["flags"] == PointFlag.HAS_SUM | PointFlag.NO_BUCKETS
    assert (columns["count"], columns["bounds"], columns["buckets"]) == (3, (), [])


def test_an_exponential_histogram():
    columns = point(
        one(
            "exponential_histogram",
            count=11,
            sum=3.0,
            scale=-2,
            zero_count=1,
            zero_threshold=0.5,
            positive=Buckets(offset=-7, bucket_counts=[1, 2]),
            negative=Buckets(offset=3, bucket_counts=[3, 4]),
        )
    )
    assert columns["type"] == MetricType.EXPONENTIAL_HISTOGRAM
    assert (columns["count"], columns["value"], columns["flags"]) == (11, 3.0, PointFlag.HAS_SUM)
    assert (columns["scale"], columns["bucket_offset"], columns["buckets"]) == (-2, -7, [1, 2])
    assert (columns["zero_count"], columns["negative_count"]) == (1, 7)


def test_an_exponential_histogram_of_which_only_the_count_is_known():
    assert point(one("exponential_histogram", count=5, sum=1.0))["flags"] == PointFlag.HAS_SUM | PointFlag.NO_BUCKETS
    assert point(one("exponential_histogram", count=0))["flags"] == PointFlag(0)


def test_a_point_without_a_recorded_value_has_none_whatever_it_holds():
    for made in (
        one("sum", flags=1, as_double=math.nan, is_monotonic=True),
        one("sum", flags=3, is_monotonic=True),
        one("histogram", flags=1, count=2**64 - 1, sum=3.0, bucket_counts=[5] * 1000, explicit_bounds=[1.0]),
        one(
            "exponential_histogram", flags=1, count=3, zero_count=9, scale=4, positive=Buckets(bucket_counts=[1] * 999)
        ),
    ):
        columns = point(made)
        assert columns["flags"] & ~PointFlag.MONOTONIC == PointFlag.NO_RECORDED_VALUE
        assert not any(columns[name] for name in ("value", "value_int", "count", "scale", "zero_count", "buckets"))
        assert columns["bounds"] == ()


def test_a_metric_without_data_has_no_items():
    made, listed = request()
    listed.add(name="nothing")
    listed.add(name="empty").gauge.SetInParent()
    listed.add(name="one").gauge.data_points.add(time_unix_nano=T0, as_int=1)
    decoded = decode(made)
    assert decoded.receipts.items.tolist() == [1]
    assert len(decoded.points) == 1


# What is refused.


def test_summaries_are_not_supported():
    assert refusal(one("summary", count=3, quantile_values=[SummaryDataPoint.ValueAtQuantile()])) == "unsupported"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (one("sum", as_int=1, time_unix_nano=0), "missing_field"),
        (one("gauge"), "missing_field"),
        (one("histogram", count=2**63, bucket_counts=[2**63]), "out_of_range"),
        (one("histogram", count=2**63), "out_of_range"),
        (one("histogram", count=5, bucket_counts=[2**64 - 1, 6], explicit_bounds=[1.0]), "out_of_range"),
        (one("histogram", count=3, bucket_counts=[1, 1], explicit_bounds=[1.0]), "malformed"),
        (one("histogram", count=2, bucket_counts=[1, 1]), "malformed"),
        (one("histogram", count=2, bucket_counts=[1, 1, 0], explicit_bounds=[1.0, 1.0]), "malformed"),
        (one("histogram", count=2, bucket_counts=[1, 1, 0], explicit_bounds=[2.0, 1.0]), "malformed"),
        (one("histogram", count=2, bucket_counts=[1, 1], explicit_bounds=[math.nan]), "malformed"),
        (one("histogram", count=2, bucket_counts=[0] * 257), "too_many_buckets"),
        (one("histogram", count=2, explicit_bounds=[0] * 257), "too_many_buckets"),
        (one("exponential_histogram", count=3, zero_count=2), "malformed"),
        (one("exponential_histogram", count=3, positive=Buckets(bucket_counts=[2**64 - 1])), "out_of_range"),
        (one("exponential_histogram", count=2**64 - 1), "out_of_range"),
        (one("exponential_histogram", zero_threshold=math.nan), "out_of_range"),
        (one("exponential_histogram", zero_threshold=-0.1), "out_of_range"),
        (one("exponential_histogram", zero_threshold=math.inf), "out_of_range"),
        (one("exponential_histogram", negative=Buckets(bucket_counts=[0] * 161)), "too_many_buckets"),
        (one("exponential_histogram", positive=Buckets(bucket_counts=[0] * 161)), "too_many_buckets"),
        (one("gauge", as_int=1, pairs=[("k", i) for i in range(129)]), "too_many_attributes"),
        (one("gauge", as_int=1, resource=[("k", i) for i in range(129)]), "too_many_attributes"),
        (one("gauge", as_int=1, pairs=[("error.type", "x" * 4097)]), "value_too_long"),
        (one("gauge", as_int=1, resource=[("service.name", "x" * 4097)]), "value_too_long"),
        (one("gauge", as_int=1, name="x" * 4097), "value_too_long"),
    ],
)
def test_a_point_is_refused_with_a_reason(made, reason):
    assert refusal(made) == reason


def test_a_refused_point_costs_none_of_its_neighbours():
    made, listed = request()
    points = listed.add(name="calls").sum.data_points
    for value in (1.0, math.nan, 2.0, math.inf):
        points.add(time_unix_nano=T0, as_double=value)
    points.add(as_int=1)
    decoded = decode(made)
    assert decoded.points.value.tolist() == [1.0, 2.0]
    assert decoded.receipts.items.tolist() == [5, 0]
    refused = [decoded.receipts.reasons[i] for i in decoded.receipts.reason]
    assert dict(zip(refused, decoded.receipts.rejected.tolist(), strict=True)) == {
        "missing_field": 1,
        "out_of_range": 2,
    }


def test_limits_are_inclusive():
    limits = Limits(attributes=2, explicit_buckets=2, exponential_buckets=2, value_bytes=3, items=1)
    pairs = [("http.route", "/abc" * 9), ("error.type", "abc")]
    made = one("histogram", name="abc", pairs=pairs, resource=[("service.name", "abc"), ("k", 1)], count=2)
    made.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0].bucket_counts.extend([1, 1])
    made.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0].explicit_bounds.append(1)
    assert point(made, limits=limits)["buckets"] == [1, 1]
    assert refusal(made, limits=limits, attributes=("http.route",)) == "value_too_long"


def test_a_message_that_is_too_large_or_has_too_many_points_counts_as_one_item():
    made, listed = request()
    for _ in range(3):
        listed.add(name="x").gauge.data_points.add(time_unix_nano=T0, as_int=1)
    assert refusal(made, limits=Limits(items=2)) == "too_many_items"
    assert refusal(made, limits=Limits(message_bytes=made.ByteSize() - 1)) == "too_large"
    limits = Limits(items=3, message_bytes=made.ByteSize())
    assert len(decode(made, limits=limits).points) == 3


def test_other_signals_and_broken_messages_are_refused_as_a_whole():
    traces = span(("http.route", "/a"))
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    made = ExportTraceServiceRequest()
    made.resource_spans.add().scope_spans.add().spans.append(traces)
    assert refusal(made) == "wrong_type"
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=T0)
    assert refusal(logs) == "wrong_type"
    decoded = metrics.decode(Messages.of([b"{}", b"\x0a\xff", one(as_int=1).SerializeToString()]))
    reasons = [decoded.receipts.reasons[i] for i in decoded.receipts.reason]
    assert reasons == ["wrong_type", "malformed", ""]
    assert len(decoded.points) == 1


# What a point says of a call.


@pytest.mark.parametrize(
    ("name", "pairs", "kind"),
    [
        ("http.server.request.duration", (), Kind.SERVER),
        ("http.client.request.duration", (), Kind.CLIENT),
        ("messaging.client.sent.messages", (), Kind.CLIENT),
        ("messaging.process.duration", (), Kind.CONSUMER),
        ("x.messaging.process.duration", (), Kind.UNSPECIFIED),
        ("server.requests", (), Kind.UNSPECIFIED),
        ("calls", (), Kind.UNSPECIFIED),
        ("calls", [("span.kind", "SPAN_KIND_SERVER")], Kind.SERVER),
        ("http.server.request.duration", [("span.kind", "client")], Kind.CLIENT),
        ("http.server.request.duration", [("span.kind", "Client")], Kind.SERVER),
        ("http.server.request.duration", [("span.kind", 3)], Kind.SERVER),
        ("http.server.request.duration", [("span.kind", "SPAN_KIND_UNSPECIFIED")], Kind.UNSPECIFIED),
    ],
)
def test_kind(name, pairs, kind):
    assert point(one(as_int=1, name=name, pairs=pairs))["kind"] == kind


@pytest.mark.parametrize(
    ("pairs", "status", "code", "error_type", "failed"),
    [
        ([("status.code", "STATUS_CODE_ERROR")], Status.ERROR, -1, "", True),
        ([("status.code", "ERROR")], Status.ERROR, -1, "", True),
        ([("status.code", "STATUS_CODE_UNSET")], Status.UNSET, -1, "", False),
        ([("status.code", "OK"), ("error.type", "timeout")], Status.OK, -1, "timeout", False),
        ([("status.code", 2)], Status.UNSET, -1, "", False),
        ([("error.type", "timeout")], Status.UNSET, -1, "timeout", True),
        ([("http.response.status_code", 503)], Status.UNSET, 503, "", True),
        ([("http.response.status_code", 404)], Status.UNSET, 404, "", False),
        ([("http.response.status_code", "503")], Status.UNSET, -1, "", False),
        ([("http.status_code", 500)], Status.UNSET, 500, "", True),
        ([("rpc.response.status_code", "UNAVAILABLE"), ("http.status_code", 200)], Status.UNSET, 14, "", True),
        ([("rpc.grpc.status_code", 5)], Status.UNSET, 5, "", False),
    ],
)
def test_status_code_and_failure(pairs, status, code, error_type, failed):
    columns = point(one(as_int=1, pairs=pairs))
    assert (columns["status"], columns["code"], columns["error_type"]) == (status, code, error_type)
    assert bool(columns["flags"] & PointFlag.FAILED) == failed


def test_the_code_table_knows_clients_by_their_name():
    assert PointFlag.FAILED in point(one(as_int=1, name="http.client.x", pairs=[("http.status_code", 404)]))["flags"]


def test_service_and_version():
    resource = [
        ("deployment.environment", "old"),
        ("deployment.environment.name", "prod"),
        ("service.namespace", "shop"),
        ("service.name", "cart"),
        ("service.name", "second"),
        ("service.version", "1.2"),
    ]
    columns = point(one(as_int=1, resource=resource))
    assert (columns["service"], columns["version"]) == ("prod/shop/cart", "1.2")


def test_allow_listed_attributes_from_the_point_then_the_resource_by_new_then_old_names():
    made = one(
        as_int=1,
        pairs=[("http.method", "GET"), ("cohort", []), ("n", 1.5), ("nan", math.nan), ("b", True), ("not", "listed")],
        resource=[("http.request.method", "POST"), ("cohort", "beta"), ("service.name", "x"), ("n", 2)],
    )
    listed = ("b", "cohort", "http.request.method", "missing", "n", "nan", "service.name")
    columns = point(made, attributes=listed)
    assert json.loads(columns["attributes"]) == {
        "b": True,
        "cohort": "beta",
        "http.request.method": "GET",
        "n": 1.5,
        "service.name": "x",
    }
    assert point(made)["attributes"] == ""


def test_times_are_clipped():
    columns = point(one(as_int=1, time_unix_nano=2**64 - 1, start_time_unix_nano=2**63))
    assert columns["time_ns"] == columns["start_ns"] == TIME_NS_MAX


def test_text_that_is_no_utf8_is_read_and_flagged():
    value = one(as_int=1, name="caf_", pairs=[("error.type", "b_d"), ("http.route", "ok")]).SerializeToString()
    columns = {}
    for old, new in ((b"caf_", b"caf\xe9"), (b"b_d", b"b\xffd"), (b"ok", b"\xff\xff"), (b"checkout", b"checkou\xff")):
        decoded = metrics.decode(Messages.of([value.replace(old, new)]))
        columns[new] = {name: values[0] for name, values in resolved(decoded.points).items()}
    flagged = {new for new, column in columns.items() if column["flags"] & PointFlag.INVALID_UTF8}
    assert flagged == {b"caf\xe9", b"b\xffd", b"checkou\xff"}
    assert columns[b"caf\xe9"]["name"] == "caf\ufffd"
    assert columns[b"b\xffd"]["error_type"] == "b\ufffdd"
    assert columns[b"checkou\xff"]["service"].startswith("unknown/-/checkou")


# Streams.


def test_a_stream_is_its_resource_scope_metric_and_attributes_but_neither_its_times_nor_values():
    same = one(as_int=1, pairs=[("a", 1), ("b", "x")])
    assert stream(one(as_int=9, time_unix_nano=T0 + 9, pairs=[("b", "x"), ("a", 1)])) == stream(same)
    others = [
        one(as_int=1, pairs=[("a", 1)]),
        one(as_int=1, pairs=[("a", "1"), ("b", "x")]),
        one(as_int=1, pairs=[("a", 1), ("b", "x")], name="other"),
        one(as_int=1, pairs=[("a", 1), ("b", "x")], resource=[("service.name", "checkout"), ("pod", "2")]),
        one(as_int=1, pairs=[("a", 1), ("b", "x")], is_monotonic=True),
        one(as_int=1, pairs=[("a", 1), ("b", "x")], aggregation_temporality=1),
        one("gauge", as_int=1, pairs=[("a", 1), ("b", "x")]),
        one("histogram", pairs=[("a", 1), ("b", "x")]),
    ]
    scoped = one(as_int=1, pairs=[("a", 1), ("b", "x")])
    scoped.resource_metrics[0].scope_metrics[0].scope.attributes.append(attribute("a", 1))
    assert len({stream(same), stream(scoped), *map(stream, others)}) == len(others) + 2


# Captured messages.


def refused_by_us(metric: str, kind: str) -> set[str]:
    """Returns what the truth counts that is refused here."""
    return {"empty.value.point": {"no_value"}}.get(metric, set()) | ({"summary"} if kind == "summary" else set())


def totals(points) -> dict[str, Any]:
    columns = resolved(points)
    found: dict[str, Any] = {}
    for i in range(len(points)):
        kind = MetricType(columns["type"][i]).name.lower()
        temporality = "-" if kind == "gauge" else Temporality(columns["temporality"][i]).name.lower()
        flags = PointFlag(columns["flags"][i])
        monotonic = PointFlag.MONOTONIC in flags if kind == "sum" else None
        key = json.dumps([columns["name"][i], kind, temporality, columns["unit"][i], monotonic])
        total = found.setdefault(key, Counter())
        total["points"] += 1
        total["count"] += columns["count"][i]
        value = float(points.value[i])
        if PointFlag.INTEGER in flags:
            total["int_sum"] += columns["value_int"][i]
        elif kind in ("gauge", "sum") and PointFlag.NO_RECORDED_VALUE not in flags:
            total["double_sum_finite" if math.isfinite(value) else "non_finite"] += value if math.isfinite(value) else 1
        if PointFlag.HAS_SUM in flags:
            total["has_sum"] += 1
            total["sum"] += value
        if kind == "exponential_histogram":
            total["positive"] += sum(columns["buckets"][i])
            total["negative"] += columns["negative_count"][i]
            total["zero_count"] += columns["zero_count"][i]
            total["scale", str(columns["scale"][i])] += 1
        if kind == "histogram" and columns["buckets"][i]:
            for j, count in enumerate(columns["buckets"][i]):
                total["bucket", json.dumps(list(columns["bounds"][i])), j] += count
    return found


@pytest.mark.parametrize("name", CAPTURES)
def test_totals_equal_the_truth(name):
    decoded = metrics.decode(Messages.of(captured(name)))
    expected, actual = truth(name)["by_metric"], totals(decoded.points)
    whole = {key for key, total in expected.items() if total["points"] == actual.get(key, {}).get("points", 0)}
    for key in whole:
        total, ours = expected[key], actual.get(key, Counter())
        for field in ("count", "int_sum", "non_finite", "positive", "negative", "zero_count"):
            assert ours[field] == total.get(field, 0), (key, field)
        for field in ("double_sum_finite", "sum"):
            truly = total.get("sum_finite", total.get("sum", 0)) if field == "sum" else total.get(field, 0)
            assert ours[field] == pytest.approx(truly), (key, field)
        for scale, points in total.get("scales", {}).items():
            assert ours["scale", scale] == points, key
        for bounds, counts in total.get("buckets_by_bounds", {}).items():
            assert [ours["bucket", bounds, j] for j in range(len(counts))] == counts, (key, bounds)
    missing = {key: total["points"] - actual.get(key, {}).get("points", 0) for key, total in expected.items()}
    assert sum(missing.values()) == int(decoded.receipts.rejected.sum())
    refused = {json.loads(key)[0] for key in expected.keys() - whole}
    odd = {"summary", "empty.value.point", "http.server.request.duration"}
    assert refused == (odd if name in ("edge", "codec") else set())


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_decodes_alike_message_by_message_and_together(name):
    values = captured(name)
    together = metrics.decode(Messages.of(values))
    assert int(together.receipts.items.sum()) == truth(name)["points"]
    for i, value in enumerate(values):
        alone = metrics.decode(Messages.of([value], first_offset=i))
        points = together.points.take(together.points.offset == i)
        first = (together.receipts.first_offset == i).nonzero()[0]
        assert resolved(points) == resolved(alone.points)
        assert together.receipts.items[first].tolist() == alone.receipts.items.tolist()
    assert_equal(together, together)
