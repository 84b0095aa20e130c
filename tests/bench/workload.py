"""Realistic OTLP requests: 512 spans of 50 services with 3 versions each, 9 attributes a span, sampling known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from stream.core.service_key import service_key
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.core.units import MINUTE_NS

SPANS_PER_MESSAGE = 512
SERVICES = 50
VERSIONS = 3
LATENCY_NS = 200_000_000
_ROUTES = ("/api/v1/products/{id}", "/api/v1/cart", "/api/v1/checkout", "/api/v1/orders/{id}", "/healthz")
_UNKNOWN_FIELD = bytes((15 << 3 | 1,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many services, versions of each, and resources in a message there are."""

    services: int = SERVICES
    versions: int = VERSIONS
    resources: int = 3


USUAL = Shape()


def bundle(partitions: int, shape: Shape = USUAL) -> Bundle:
    """Returns a configuration with two objectives on each of the services."""
    objectives = []
    for i in range(shape.services):
        key = service_key("production", "shop", f"service-{i}")
        common = {"service": key, "window_minutes": 30 * 24 * 60}
        objectives += [
            Objective(**common, name=f"availability-{i}", target="0.999"),  # type: ignore[arg-type]
            Objective(**common, name=f"latency-{i}", target="0.95", duration_lte_ns=LATENCY_NS),  # type: ignore[arg-type]
        ]
    return Bundle(
        pipeline="bench",
        generation="1",
        partitions=partitions,
        sources=(Source(topic="otlp_spans", encoding="otlp_proto"),),
        objectives=tuple(objectives),
        settings=Settings(),
    )


def messages(count: int, *, seed: int, end_ns: int, shape: Shape = USUAL) -> list[bytes]:
    """Returns `count` serialised requests whose spans end within the minute before `end_ns`.

    The services and versions take turns in an order drawn once, so that all of them come about equally often.
    """
    random = np.random.default_rng(seed)
    pairs = random.permutation(shape.services * shape.versions)
    requests = []
    for number in range(count):
        drawn = pairs[np.arange(number * shape.resources, (number + 1) * shape.resources) % len(pairs)]
        requests.append(_request(random, end_ns, [divmod(int(pair), shape.versions) for pair in drawn]))
    return [request.SerializeToString() for request in requests]


def distinct(values: Sequence[bytes], number: int) -> bytes:
    """Returns one of the messages, with a field that no decoder knows: equal bytes would count as sent twice."""
    return values[number % len(values)] + _UNKNOWN_FIELD + number.to_bytes(8, "little")


def _request(random: np.random.Generator, end_ns: int, drawn: Sequence[tuple[int, int]]) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for service, number in drawn:
        resource = request.resource_spans.add()
        version = f"1.{number}.0"
        names = {
            "service.name": f"service-{service}",
            "service.namespace": "shop",
            "service.version": version,
            "deployment.environment.name": "production",
            "host.arch": "amd64",
            "telemetry.sdk.language": "python",
            "k8s.pod.name": f"service-{service}-7d9f8c6b5d-{random.integers(1 << 20):05x}",
        }
        resource.resource.attributes.extend(_text(key, value) for key, value in names.items())
        _add_spans(resource, random, end_ns, -(-SPANS_PER_MESSAGE // len(drawn)))
    return request


def _add_spans(resource: ResourceSpans, random: np.random.Generator, end_ns: int, count: int) -> None:
    spans = resource.scope_spans.add().spans
    for _ in range(count):
        end = end_ns - int(random.integers(MINUTE_NS))
        failed = random.random() < 0.001
        span = Span(
            trace_id=random.bytes(16),
            span_id=random.bytes(8),
            name="GET",
            kind=Span.SPAN_KIND_SERVER if random.random() < 0.6 else Span.SPAN_KIND_CLIENT,
            start_time_unix_nano=end - int(random.lognormal(17.5, 1.0)),
            end_time_unix_nano=end,
            trace_state="ot=th:0",
        )
        route = _ROUTES[int(random.integers(len(_ROUTES)))]
        attributes = {
            "http.request.method": "GET",
            "url.scheme": "https",
            "url.path": route,
            "http.route": route,
            "server.address": "service.shop.svc.cluster.local",
            "client.address": f"10.0.{random.integers(256)}.{random.integers(256)}",
            "user_agent.original": "okhttp/4.12.0",
            "network.protocol.version": "1.1",
        }
        span.attributes.extend(_text(key, value) for key, value in attributes.items())
        code = span.attributes.add()
        code.key, code.value.int_value = "http.response.status_code", 500 if failed else 200
        spans.append(span)


def _text(key: str, value: str) -> KeyValue:
    entry = KeyValue(key=key)
    entry.value.string_value = value
    return entry
