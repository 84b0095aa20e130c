"""Makes OTLP metric messages, reads the captured ones, and compares what decoders made of them."""

import base64
import gzip
import json
import random
from itertools import pairwise
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from stream.core.otlp import Decoded
from stream.core.points import Points
from tests.core.otlp.captures import GOLDEN
from tests.core.otlp.scan.equality import accounts
from tests.core.otlp.spans import T0, attributes

WORDS = {**Points.DICTIONARIES, "bounds": "bounds_sets"}


def captured(name: str) -> list[bytes]:
    """Returns the values of a capture's metric records in file order."""
    with gzip.open(GOLDEN / f"{name}.metrics.jsonl.gz") as lines:
        return [base64.b64decode(json.loads(line)["value"]) for line in lines]


def truth(name: str) -> dict[str, Any]:
    """Returns the totals that the capture's own tool counted."""
    totals: dict[str, Any] = json.loads((GOLDEN / f"{name}.metrics.truth.json").read_text())
    return totals


def request(*pairs, scope=()):
    """Returns a request with one resource and scope, and its list of metrics."""
    made = ExportMetricsServiceRequest()
    part = made.resource_metrics.add()
    part.resource.attributes.extend(attributes(*(pairs or (("service.name", "checkout"),))))
    scoped = part.scope_metrics.add()
    scoped.scope.attributes.extend(attributes(*scope))
    return made, scoped.metrics


def one(kind="sum", name="requests", pairs=(), resource=(), **fields):
    """Returns a request with one point of a metric of this kind."""
    made, metrics = request(*resource)
    metric = metrics.add(name=name)
    data = getattr(metric, kind)
    for field in ("is_monotonic", "aggregation_temporality"):
        if field in fields:
            setattr(data, field, fields.pop(field))
    fields = {"time_unix_nano": T0, **fields}
    point = data.data_points.add(**fields)
    point.attributes.extend(attributes(*pairs))
    return made


def resolved(points: Points) -> dict[str, Any]:
    """Returns the columns with words in place of indices, doubles by their bits; each has the type it must have."""
    columns: dict[str, Any] = {}
    for name, dtype in Points.DTYPES.items():
        values = getattr(points, name)
        assert values.dtype == dtype, name
        columns[name] = values.view("int64").tolist() if dtype == "float64" else values.tolist()
        if name in WORDS:
            words = getattr(points, WORDS[name])
            assert len(set(words)) == len(words), name
            columns[name] = [words[i] for i in columns[name]]
    for name in ("names", "units", "error_types", "attribute_sets"):
        assert getattr(points, name)[0] == "", name
    assert points.bounds_sets[0] == ()
    assert points.buckets.dtype == points.bucket_first.dtype == "int64"
    first = points.bucket_first.tolist()
    columns["buckets"] = [points.buckets[a:b].tolist() for a, b in pairwise(first)]
    return columns


def assert_equal(actual: Decoded, expected: Decoded) -> None:
    """Asserts that points and receipts are equal in every field but the wording of details."""
    ours, theirs = resolved(actual.points), resolved(expected.points)
    for name, values in theirs.items():
        assert ours[name] == values, name
    assert accounts(actual.receipts) == accounts(expected.receipts)
    assert len(actual.rows) == len(expected.rows) == 0


KEYS = (
    "span.kind", "status.code", "error.type", "http.response.status_code", "http.status_code", "rpc.status_code",
    "rpc.grpc.status_code", "rpc.response.status_code", "http.route", "http.request.method", "http.method", "host.name",
    "cohort",
)  # fmt: skip
TEXTS = (
    "SPAN_KIND_SERVER", "server", "SPAN_KIND_CLIENT", "client", "internal", "STATUS_CODE_ERROR", "ERROR",
    "STATUS_CODE_OK",
    "UNAVAILABLE", "NOT_FOUND", "OK", "", "timeout", "GET", "/api/{id}", "é😀", "x" * 200,
)  # fmt: skip
SCALARS: tuple[object, ...] = (
    *TEXTS,
    0,
    4,
    14,
    16,
    17,
    99,
    200,
    404,
    500,
    600,
    -1,
    2**63 - 1,
    True,
    False,
    1.5,
    float("nan"),
    None,
    [],
)
METRICS = ("http.server.request.duration", "rpc.client.call.duration", "messaging.process.duration", "calls", "", "é")
TIMES = (0, T0, T0, T0, T0 + 1, 2**63, 2**64 - 1)
COUNTS = (0, 1, 2, 5, 5, 100, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DOUBLES = (0.0, -0.0, 1.5, -2.25, 27.0, 1e300, 9.3e18, -9.3e18, float("inf"), float("nan"))
BOUNDS: tuple[list[float], ...] = (
    [],
    [0.1],
    [0.1, 0.5, 1.0],
    [1.0, 1.0],
    [2.0, 1.0],
    [float("nan")],
    [float("-inf"), 0.0, float("inf")],
)


def generated(seed: int) -> ExportMetricsServiceRequest:
    """Returns a request with metrics of every kind; most points are sound, and some of every fault are not."""
    chance = random.Random(seed)
    made = ExportMetricsServiceRequest()
    for _ in range(chance.choice((1, 1, 2, 3))):
        part = made.resource_metrics.add()
        keys = ("service.name", "service.version", "service.namespace", "deployment.environment", *KEYS)
        part.resource.attributes.extend(attributes(*_pairs(chance, keys)))
        for _ in range(chance.choice((1, 1, 2))):
            scoped = part.scope_metrics.add()
            scoped.scope.name = chance.choice(("", "lib"))
            scoped.scope.version = chance.choice(("", "1"))
            scoped.scope.attributes.extend(attributes(*_pairs(chance, ("short", "cohort"))))
            for _ in range(chance.choice((0, 1, 3))):
                _add_metric(chance, scoped.metrics.add())
    return made


def _pairs(chance, keys):
    return [(chance.choice(keys), chance.choice(SCALARS)) for _ in range(chance.choice((0, 1, 2, 4)))]


def _add_metric(chance, metric):
    metric.name, metric.unit = chance.choice(METRICS), chance.choice(("", "s", "ms"))
    kind = chance.choice(("gauge", "sum", "sum", "histogram", "histogram", "exponential_histogram", "summary", None))
    if kind is None:
        return
    data = getattr(metric, kind)
    data.SetInParent()
    if kind not in ("gauge", "summary"):
        data.aggregation_temporality = chance.choice((0, 1, 2, 2, 3, -1))
    if kind == "sum":
        data.is_monotonic = chance.random() < 0.5
    for _ in range(chance.choice((0, 1, 2, 4))):
        point = data.data_points.add(time_unix_nano=chance.choice(TIMES), start_time_unix_nano=chance.choice(TIMES))
        point.flags = chance.choice((0, 0, 0, 0, 1, 2, 2**32 - 1))
        point.attributes.extend(attributes(*_pairs(chance, KEYS)))
        if kind in ("gauge", "sum"):
            _set_number(chance, point)
        elif kind == "histogram":
            _set_histogram(chance, point)
        elif kind == "exponential_histogram":
            _set_exponential(chance, point)


def _set_number(chance, point):
    match chance.randrange(5):
        case 0 | 1:
            point.as_int = chance.choice((0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)))
        case 2 | 3:
            point.as_double = chance.choice(DOUBLES)


def _set_histogram(chance, point):
    point.explicit_bounds.extend(chance.choice(BOUNDS))
    if chance.random() < 0.8:
        small = COUNTS if chance.random() < 0.2 else COUNTS[:6]
        point.bucket_counts.extend(chance.choice(small) for _ in range(len(point.explicit_bounds) + 1))
    if chance.random() < 0.1:
        point.bucket_counts.append(1)
    point.count = min(sum(point.bucket_counts), 2**64 - 1) if chance.random() < 0.8 else chance.choice(COUNTS)
    if chance.random() < 0.7:
        point.sum = chance.choice(DOUBLES)
    if chance.random() < 0.3:
        point.exemplars.add(time_unix_nano=T0, as_double=1.0).filtered_attributes.extend(attributes(("k", "v")))


def _set_exponential(chance, point):
    point.scale = chance.choice((0, 3, -10, 20, 2**31 - 1, -(2**31)))
    point.zero_count = chance.choice(COUNTS[:4])
    point.zero_threshold = chance.choice((0.0, 0.0, 0.001, -0.0, -1.0, float("inf"), float("nan")))
    for side in (point.positive, point.negative):
        if chance.random() < 0.6:
            side.offset = chance.choice((0, -3, 700, -(2**31)))
            small = COUNTS if chance.random() < 0.1 else COUNTS[:6]
            side.bucket_counts.extend(chance.choice(small) for _ in range(chance.randrange(6)))
    total = sum(point.positive.bucket_counts) + sum(point.negative.bucket_counts) + point.zero_count
    point.count = min(total, 2**64 - 1) if chance.random() < 0.8 else chance.choice(COUNTS)
    if chance.random() < 0.7:
        point.sum = chance.choice(DOUBLES)
