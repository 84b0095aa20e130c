"""Realistic messages of every signal and encoding, for the decoders alone. The same seed gives the same bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message as ProtobufMessage
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from stream.core.units import MINUTE_NS, SECOND_NS
from tests.bench import workload

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
ROUTES = tuple(f"/api/v1/resource-{i}/{{id}}" for i in range(12))
AGENTS = (
    "okhttp/4.12.0",
    "python-requests/2.32.3",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/129.0.0.0",
)
END_NS = 1_790_000_000 * SECOND_NS
_POINTS_OF_EACH, _RECORDS = 60, 512
_IDS = ("traceId", "spanId", "parentSpanId")


def traces(count: int, seed: int = 1) -> list[bytes]:
    """Returns requests of 512 spans in protobuf."""
    return workload.messages(count, seed=seed, end_ns=END_NS)


def as_json(values: list[bytes]) -> list[bytes]:
    """Returns requests of spans as OTLP/JSON: hexadecimal ids, enums as integers, 64-bit integers as strings."""
    return [orjson.dumps(_json_of(ExportTraceServiceRequest.FromString(value))) for value in values]


def _json_of(request: ProtobufMessage) -> Any:
    return _with_hex_ids(MessageToDict(request, use_integers_for_enums=True))


def _with_hex_ids(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_hex_ids(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {key: base64.b64decode(value).hex() if key in _IDS else _with_hex_ids(value) for key, value in node.items()}


def metrics(count: int, seed: int = 2) -> list[bytes]:
    """Returns requests of 500 points in protobuf: histograms and sums of five services."""
    random = np.random.default_rng(seed)
    return [_metrics(random, END_NS + number * MINUTE_NS) for number in range(count)]


def _metrics(random: np.random.Generator, time_ns: int) -> bytes:
    request = ExportMetricsServiceRequest()
    for service in range(5):
        resource = request.resource_metrics.add()
        resource.resource.attributes.extend(_attributes(_resource(service)))
        scope = resource.scope_metrics.add()
        scope.scope.name = "opentelemetry.instrumentation.asgi"
        histogram = scope.metrics.add(name="http.server.request.duration", unit="s").histogram
        histogram.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        for number in range(_POINTS_OF_EACH):
            counts = random.integers(0, 1000, len(BOUNDS_S) + 1).tolist()
            histogram.data_points.add(
                attributes=_attributes(
                    {
                        "http.request.method": "GET",
                        "http.route": ROUTES[number % len(ROUTES)],
                        "http.response.status_code": 200,
                        "network.protocol.version": "1.1",
                        "url.scheme": "https",
                    }
                ),
                start_time_unix_nano=END_NS - MINUTE_NS,
                time_unix_nano=time_ns,
                explicit_bounds=BOUNDS_S,
                bucket_counts=counts,
                count=sum(counts),
                sum=0.05 * sum(counts),
            )
        total = scope.metrics.add(name="http.server.active_requests").sum
        total.aggregation_temporality = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        for number in range(100 - _POINTS_OF_EACH):
            total.data_points.add(
                attributes=_attributes({"http.request.method": "GET", "shard": number}),
                start_time_unix_nano=END_NS - MINUTE_NS,
                time_unix_nano=time_ns,
                as_int=int(random.integers(100)),
            )
    return request.SerializeToString()


def logs(count: int, seed: int = 3) -> list[bytes]:
    """Returns requests of 512 log records in protobuf."""
    random = np.random.default_rng(seed)
    return [_logs(random) for _ in range(count)]


def _logs(random: np.random.Generator) -> bytes:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.extend(_attributes(_resource(int(random.integers(5)))))
    records = resource.scope_logs.add().log_records
    for number in range(_RECORDS):
        time_ns = END_NS - int(random.integers(MINUTE_NS))
        record = records.add(
            time_unix_nano=time_ns,
            observed_time_unix_nano=time_ns,
            severity_number=int(random.choice([9, 9, 9, 13, 17])),
            severity_text="INFO",
            trace_id=random.bytes(16),
            span_id=random.bytes(8),
            attributes=_attributes(
                {
                    "log.iostream": "stdout",
                    "http.route": ROUTES[number % len(ROUTES)],
                    "thread.name": "MainThread",
                    "code.function.name": "app.handlers.get",
                }
            ),
        )
        record.body.string_value = (
            f"GET /api/v1/products/{random.integers(1 << 40):010X} HTTP/1.1 200 for user {number:08d}"
        )
    return request.SerializeToString()


def flat(count: int, seed: int = 4) -> list[bytes]:
    """Returns flat events of about 413 bytes, one a message."""
    random = np.random.default_rng(seed)
    return [
        orjson.dumps(
            {
                "time": f"2026-09-21T14:30:{random.integers(60):02d}.{random.integers(10**6):06d}Z",
                "service": f"service-{random.integers(50)}",
                "namespace": "shop",
                "environment": "production",
                "version": f"1.{random.integers(3)}.0",
                "method": "GET",
                "route": ROUTES[int(random.integers(len(ROUTES)))],
                "path": f"/api/v1/products/{random.integers(1 << 40):010X}",
                "status": "ok" if random.random() < 0.97 else "error",
                "code": 200,
                "duration_ms": round(float(random.lognormal(3.7, 1.1)), 3),
                "user_id": f"u-{random.integers(10**8):08d}",
                "trace_id": random.bytes(16).hex(),
                "region": "eu-west-1",
                "user_agent": AGENTS[int(random.integers(len(AGENTS)))],
            }
        )
        for _ in range(count)
    ]


def _resource(service: int) -> Mapping[str, str]:
    return {
        "service.name": f"service-{service}",
        "service.namespace": "shop",
        "service.version": "1.4.0",
        "deployment.environment.name": "production",
        "host.arch": "amd64",
        "k8s.pod.name": f"service-{service}-7d9f8c6b5d-x2x5z",
        "k8s.node.name": "ip-10-0-1-17.ec2.internal",
        "telemetry.sdk.language": "python",
    }


def _attributes(values: Mapping[str, str | int]) -> list[KeyValue]:
    made = []
    for key, value in values.items():
        attribute = KeyValue(key=key)
        if isinstance(value, int):
            attribute.value.int_value = value
        else:
            attribute.value.string_value = value
        made.append(attribute)
    return made
