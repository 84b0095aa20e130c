"""For each example some telemetry, and what must be seen of it: good, bad, and what does not count.

Minutes count from `T0_NS`. A minute that is not named must be empty. The rest of some cohorts, `@__other__`, leaves out
on purpose what has a cohort of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.config.preset_messages import (
    CHECKOUT,
    Messages,
    Of,
    counter,
    dotted,
    event,
    gauge,
    histogram,
    http,
    http_call,
    log,
    of,
    scraped,
    spans,
)


@dataclass(frozen=True, slots=True)
class Seen:
    """The indicator of a minute: weighted good and total, events, and events that were left out on purpose."""

    good: float
    total: float
    n: int
    excluded: int = 0


Indicators = Mapping[str, Mapping[int, Seen]]
"""By objective and minute."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What is sent, and what is seen."""

    sent: Messages
    seen: Indicators


def seen(good: float, total: float, *, n: int | None = None, excluded: int = 0) -> Seen:
    """Returns an indicator; unweighted unless `n` is given."""
    return Seen(good, total, int(total) if n is None else n, excluded)


def each(some: Iterable[Messages]) -> Messages:
    """Returns all of some messages."""
    return tuple(message for messages in some for message in messages)


HEALTH = http(503, "/healthz")
BOT = http(503, found={"user_agent.synthetic.type": "bot"})
MIRRORED = http(503, found={"qma.traffic": "shadow"})
"""Requests that no user waits for; all of them failed."""

COLLECTOR, PIPELINE, STOREFRONT, DATABASE = map(of, ("otel-collector", "orders-pipeline", "storefront", "orders-db"))
QMA = of("qma")
CANARY = of(version="1.11")
OTLP = {"receiver": "otlp", "transport": "grpc"}
KAFKA = {"exporter": "kafka"}
VERSION = {"service": "production/shop/checkout", "version": "1.11"}
"""Labels of our own metrics, which stay attributes of the points."""

REQUESTS = "http.server.request.duration"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Source: semantic conventions 1.44, `docs/http/http-metrics.md`, `http.server.request.duration`."""

POD, OTHER_POD = "checkout-7d4b9c6f5-x2x9k", "checkout-7d4b9c6f5-q8w4z"

ORDERS = {"http.request.method": "GET", "url.scheme": "https", "http.route": "/orders"}


def not_served(by: Of = CHECKOUT, **found: object) -> Messages:
    """Returns spans of a service that are no requests to it: slow ones, and all of them failed."""
    kinds = ("internal", "client", "producer", "consumer")
    return each(spans(kind, dotted(found), by=by, failed=True, seconds=9.0) for kind in kinds)


def took(fast: int, slow: int) -> tuple[int, ...]:
    """Returns requests by bucket: of up to 10 ms, and of up to 2.5 s."""
    return tuple({1: fast, 10: slow}.get(bucket, 0) for bucket in range(len(BOUNDS) + 1))


def pod(name: str) -> Of:
    """Returns a process as Kubernetes describes it."""
    return of(k8s__namespace__name="shop", k8s__pod__name=name)


def kubernetes_event(reason: str, kind: str = "Pod", severity: int = 13) -> Messages:
    """Returns a record of the k8s_events receiver, of an object that a processor found the service of."""
    about = of(k8s__object__kind=kind, k8s__object__name="checkout-0", k8s__node__name="node-1")
    return log("", {"k8s.event.reason": reason, "k8s.event.name": "checkout-0.17"}, by=about, severity=severity)


def function(cold: bool | None, kind: str = "server", trigger: str = "http") -> Messages:
    """Returns the span of an invocation. Source: semantic conventions, `docs/faas/faas-spans.md`."""
    return spans(kind, {"faas.trigger": trigger, **({} if cold is None else {"faas.coldstart": cold})})


def in_region(region: str, *, times: int, minute: int = 0) -> Messages:
    """Returns requests that a region served."""
    return http(by=of(cloud__provider="aws", cloud__region=region), times=times, minute=minute)


def two_records(name: str, attribute: str, good: object, bad: object, service: str = "checkout") -> Preset:
    """Returns log events of a tool of the user's own, two good and one bad; what does not count is bad."""
    by = of(service)
    sent = log(name, {attribute: good}, by=by, times=2) + log(name, {attribute: bad}, by=by)
    other = log(f"{name}.retried", {attribute: bad}, by=by) + log(name, {attribute: bad}, by=of("other"))
    return Preset(sent + other, {"": {0: seen(2, 3)}})


AVAILABILITY = (
    http() + http(404) + http(503) + HEALTH + BOT + MIRRORED + spans("internal", failed=True) + http(503, by=PIPELINE)
)
"""4xx answers are good, 5xx are bad; three are left out, the last two are none of the service's requests."""

ONE_BAD_OF_THREE = seen(2, 3, excluded=3)

SPAN_PRESETS: dict[str, Preset] = {
    "auth-failures": Preset(
        http(200, "/login", method="POST", times=2)
        + http(500, "/login", method="POST")  # is no failure to authenticate
        + http(401, "/login", method="POST")
        + http(403, "/token", method="POST")
        + http(401, "/orders")
        + not_served(http__route="/login", http__response__status_code=401)
        + http(401, "/login", found={"user_agent.synthetic.type": "test"}),
        {"auth-failures": {0: seen(3, 5, excluded=1)}},
    ),
    "availability": Preset(
        AVAILABILITY + spans("consumer") + event(code=500) + event(code=500, kind="client"),
        {"availability": {0: seen(3, 5, excluded=3)}},
    ),
    "burn-rate-alerts": Preset(
        each(http(503, times=20, minute=minute) for minute in range(6)) + http() + HEALTH,
        {"burn-rate-alerts": {0: seen(1, 21, excluded=1), **{minute: seen(0, 20) for minute in range(1, 6)}}},
    ),
    "busy-and-quiet": Preset(
        http(times=99) + HEALTH + http(minute=9) + http(500, minute=9),
        {"busy-and-quiet": {0: seen(99, 99, excluded=1), 9: seen(1, 2)}},
    ),
    "calendar-month": Preset(AVAILABILITY, {"calendar-month": {0: ONE_BAD_OF_THREE}}),
    "caller-availability": Preset(
        http_call(peer="checkout", by=STOREFRONT)
        + http_call(None, peer="checkout", error="timeout", by=STOREFRONT)
        + spans("client", {"peer.service": "checkout"}, failed=True, by=STOREFRONT)  # as older instrumentation says it
        + http_call(500, peer="search", by=STOREFRONT)
        + http_call(500, by=STOREFRONT)
        + each(spans(kind, {"service.peer.name": "checkout"}, by=STOREFRONT) for kind in ("internal", "producer"))
        + http(500, by=STOREFRONT),
        {"caller-availability": {0: seen(1, 3)}},
    ),
    "canary-delta": Preset(
        http(times=3) + http(by=CANARY) + http(500, by=CANARY) + http(500, "/healthz", by=CANARY) + not_served(),
        {
            "canary-delta": {0: seen(4, 5, excluded=1)},
            "canary-delta@1.11": {0: seen(1, 2, excluded=1)},
            "canary-delta@__other__": {0: seen(3, 3, excluded=3)},
        },
    ),
    "canary-similarity": Preset(
        http(seconds=0.3)
        + http(seconds=0.301)
        + http(500, seconds=0.01, by=CANARY)  # fast, whatever it answers
        + http(seconds=9.0, by=CANARY)
        + http(200, "/healthz", seconds=9.0)
        + not_served(),
        {
            "canary-similarity": {0: seen(2, 4, excluded=1)},
            "canary-similarity@1.11": {0: seen(1, 2)},
            "canary-similarity@__other__": {0: seen(1, 2, excluded=3)},
        },
    ),
    "cohorts": Preset(
        http(found={"customer.tier": "gold"})
        + http(500, found={"customer.tier": "gold"})
        + http(found={"customer.tier": "silver"})
        + http(500, found={"customer.tier": "bronze"})
        + http()
        + http(500, "/healthz", found={"customer.tier": "silver"}),
        {
            "cohorts": {0: seen(3, 5, excluded=1)},
            "cohorts@gold": {0: seen(1, 2)},
            "cohorts@silver": {0: seen(1, 1, excluded=1)},
            "cohorts@__other__": {0: seen(1, 2, excluded=4)},
        },
    ),
    "cold-starts": Preset(
        function(True)
        + function(False)
        + function(False, "consumer", "pubsub")
        + function(None)
        + function(True, "internal")
        + spans("server", {"faas.trigger": "http", "faas.coldstart": True, "http.route": "/healthz"}),
        {"cold-starts": {0: seen(3, 4, excluded=1)}},
    ),
    "error-rate": Preset(
        each(http(code) for code in (200, 404, 500, 501, 502, 503, 504))
        + spans("server", {"error.type": "timeout"})  # no HTTP request
        + not_served(http__response__status_code=500)
        + HEALTH,
        {"error-rate": {0: seen(3, 8, excluded=1)}},
    ),
    "instance-divergence": Preset(
        # Pods are found in the first minute; the next one is the first that all of them were there for.
        http(by=pod(POD))
        + http(by=pod(OTHER_POD))
        + not_served(pod("checkout-no-request"))
        + http(by=pod(POD), minute=1)
        + http(500, by=pod(OTHER_POD), minute=1)
        + http(500, "/healthz", by=pod(OTHER_POD), minute=1)
        + http(minute=1),
        {
            "instance-divergence": {0: seen(2, 2), 1: seen(2, 3, excluded=1)},
            f"instance-divergence@{POD}": {1: seen(1, 1)},
            f"instance-divergence@{OTHER_POD}": {1: seen(0, 1, excluded=1)},
            "instance-divergence@__other__": {1: seen(1, 1)},
        },
    ),
    "latency-p95": Preset(
        http(seconds=0.2)
        + http(500, seconds=0.1)
        + http(seconds=0.201)
        + http(200, "/healthz", seconds=9.0)
        + not_served(),
        {"latency-p95": {0: seen(2, 3, excluded=1)}},
    ),
    "latency-p99": Preset(
        http(seconds=0.5, times=19)
        + http(seconds=0.501)
        + http(200, "/healthz", seconds=9.0)
        + http(seconds=9.0, times=19, minute=1)
        + http(times=20, minute=2)
        + not_served(),
        {"latency-p99": {0: seen(19, 20, excluded=1), 1: seen(0, 19), 2: seen(20, 20)}},
    ),
    "planned-exclusion": Preset(
        http(times=3, minute=4) + http(500, minute=4) + HEALTH + http(500, times=4, minute=5),
        {"planned-exclusion": {0: seen(0, 0, excluded=1), 4: seen(3, 4), 5: seen(0, 4)}},
    ),
    "rare-failures": Preset(AVAILABILITY, {"rare-failures": {0: ONE_BAD_OF_THREE}}),
    "retries": Preset(
        http_call(503)
        + each(http_call(200, found={"http.request.resend_count": attempt}) for attempt in range(1, 11))
        + http(found={"http.request.resend_count": 1})
        + spans("internal", {"http.request.resend_count": 1})
        + http_call(200, found={"http.request.resend_count": 1, "qma.traffic": "synthetic"}),
        {"retries": {0: seen(1, 11, excluded=1)}},
    ),
    "routes-and-versions": Preset(
        http(201, "/orders", method="POST", seconds=0.3)
        + http(200, "/orders/{id}", seconds=0.31, by=CANARY)
        + http(200, "/orders", method="OPTIONS", seconds=9.0)
        + http(200, "/orders", method="HEAD", seconds=9.0)
        + not_served(http__route="/orders")
        + http(200, "/cart", seconds=9.0)
        + http(200, "/orders", seconds=9.0, by=of(version="1.1")),
        {"routes-and-versions": {0: seen(1, 2, excluded=2)}},
    ),
    "throttling": Preset(
        http(200) + http(503) + http(429) + http(429, "/healthz") + not_served(http__response__status_code=429),
        {"throttling": {0: seen(2, 3, excluded=1)}},
    ),
    "traffic-floor": Preset(
        each(http(times=7, minute=minute) + http(500, minute=minute) for minute in range(6)) + HEALTH + not_served(),
        {"traffic-floor": {minute: seen(7, 8, excluded=minute == 0) for minute in range(6)}},
    ),
    "traffic-shift": Preset(
        in_region("eu-central-1", times=50)
        + in_region("us-east-1", times=50)
        + http(200, "/healthz")
        + in_region("eu-central-1", times=70, minute=5)
        + in_region("us-east-1", times=30, minute=5)
        + in_region("us-east-1", times=99, minute=14)  # one too few to be judged
        + not_served(cloud__region="eu-central-1"),
        {
            "traffic-shift": {0: seen(50, 100, excluded=1), 5: seen(70, 100), 14: seen(0, 99)},
            "traffic-shift-most": {0: seen(50, 100, excluded=1), 5: seen(30, 100), 14: seen(99, 99)},
        },
    ),
}

LOG_PRESETS: dict[str, Preset] = {
    "cost-per-request": two_records("billing.request", "billing.cost_usd", 0.002, 0.0021),
    "divergence": two_records("checksum.compared", "checksum.equal", True, False),
    "failover-time": two_records("failover.completed", "failover.duration_s", 60, 60.5),
    "false-alarms": two_records("alert.acknowledged", "alert.verdict", "helpful", "false_positive"),
    "freshness": two_records("pipeline.loaded", "pipeline.freshness_s", 300, 301, "orders-pipeline"),
    "ml-accuracy": two_records("ml.labelled", "ml.prediction.correct", True, False, "recommender"),
    "pod-restarts": Preset(
        kubernetes_event("Pulled", severity=9)
        + kubernetes_event("Started", severity=9)
        + kubernetes_event("BackOff")
        + kubernetes_event("Evicted")
        + kubernetes_event("Unhealthy")
        + kubernetes_event("OOMKilling", "Node")
        + log("", {"code.function.name": "main"}, times=5),  # what the service itself logs
        {"pod-restarts": {0: seen(2, 5)}},
    ),
    "policy-violations": two_records("policy.decision", "policy.decision", "allow", "deny"),
    "schema-validity": two_records("record.validated", "record.valid", True, False, "orders-pipeline"),
    "time-to-detect": two_records("incident.detected", "incident.time_to_detect_s", 300, 301),
    "time-to-recover": two_records("incident.resolved", "incident.time_to_recover_s", 1800, 1801.5),
}

METRIC_PRESETS: dict[str, Preset] = {
    "certification-latency": Preset(
        gauge("qma_certification_seconds", 240, 21_600, 21_660, None, found=VERSION, by=QMA)
        + gauge("qma_frontier_lag_seconds", 90_000, by=QMA),
        {"certification-latency": {0: seen(1, 1), 1: seen(1, 1), 2: seen(0, 1)}},
    ),
    "collector-delivery": Preset(
        counter("otelcol_receiver_accepted_spans", 100, 200, found=OTLP, by=COLLECTOR)
        + counter("otelcol_exporter_sent_spans", 98, 200, found=KAFKA, by=COLLECTOR)  # the two came from a queue
        + counter("otelcol_receiver_refused_spans", 5, 5, found=OTLP, by=COLLECTOR)
        + counter("otelcol_receiver_accepted_log_records", 700, 700, found=OTLP, by=COLLECTOR),
        {
            "collector-delivery": {0: seen(98, 100), 1: seen(100, 100)},
            "collector-refusals": {0: seen(95, 100), 1: seen(100, 100)},
        },
    ),
    "error-rate-by-counters": Preset(
        counter("shop.orders", 100, 150)
        + counter("shop.orders.failed", 3, 3)
        + counter("shop.orders.returned", 40, 40)
        + counter("shop.orders.failed", 40, 40, by=STOREFRONT),
        {"error-rate-by-counters": {0: seen(97, 100), 1: seen(50, 50)}},
    ),
    "evidence-completeness": Preset(
        scraped("qma_items_received_total", 1_000, 1_100, 1_200, found={"topic": "otlp_spans"}, by=QMA)
        + scraped("qma_items_rejected_total", 7, 9, 9, found={"topic": "otlp_spans", "reason": "malformed"}, by=QMA)
        + scraped("qma_items_late_total", 0, 0, 1, found={"topic": "otlp_spans"}, by=QMA)
        + scraped("qma_items_duplicate_total", 0, 50, 60, found={"topic": "otlp_spans"}, by=QMA),
        {
            "evidence-completeness": {0: seen(98, 100), 1: seen(100, 100)},
            "evidence-timeliness": {0: seen(100, 100), 1: seen(99, 100)},
        },
    ),
    "packet-loss": Preset(
        counter("system.network.packets", 1_000, found={"device": "eth0", "direction": "receive"})
        + counter("system.network.packets", 500, found={"device": "eth0", "direction": "transmit"})
        + counter("system.network.dropped", 3, found={"device": "eth0", "direction": "receive"})
        + counter("system.network.errors", 9, found={"device": "eth0", "direction": "receive"})
        + counter("system.network.packets", 800, found={"device": "lo", "direction": "receive"}),
        {"packet-loss": {0: seen(1_497, 1_500, excluded=800)}},
    ),
    "readiness": Preset(
        gauge("k8s.container.ready", 1, 1, by=pod("checkout-0"), unit="")
        + gauge("k8s.container.ready", 1, 0, None, by=pod("checkout-1"), unit="")
        + gauge("k8s.container.restarts", 0, 7, by=pod("checkout-1")),
        {"readiness": {0: seen(2, 2), 1: seen(1, 2)}},
    ),
    "replica-lag": Preset(
        gauge("postgresql.wal.delay", 5.0, 5.1, found={"operation": "replay"}, by=DATABASE, unit="s")
        + gauge("postgresql.wal.delay", 9.0, 9.0, found={"operation": "write"}, by=DATABASE, unit="s")
        + gauge("postgresql.wal.age", 60, 60, by=DATABASE, unit="s"),
        {"replica-lag": {0: seen(1, 1), 1: seen(0, 1)}},
    ),
    "round-trip-time": Preset(
        gauge("probe_duration_seconds", 0.05, 0.051, 5.0, None)
        + gauge("probe_icmp_duration_seconds", 0.04, 0.04, 0.0, found={"phase": "rtt"}),
        {"round-trip-time": {0: seen(1, 1), 1: seen(0, 1), 2: seen(0, 1)}},
    ),
    "saturation": Preset(
        gauge("k8s.container.cpu_limit_utilization", 0.69, 0.7, by=pod("checkout-0"))
        + gauge("k8s.container.memory_limit_utilization", 0.95, 0.95, by=pod("checkout-0")),
        {"saturation": {0: seen(1, 1), 1: seen(0, 1)}},
    ),
    "telemetry-completeness": Preset(
        counter("otelcol_receiver_accepted_spans", 100, found=OTLP, by=COLLECTOR)
        + counter("otelcol_exporter_send_failed_spans", 4, found=KAFKA, by=COLLECTOR)
        + counter("otelcol_exporter_send_failed_metric_points", 50, found=KAFKA, by=COLLECTOR),
        {"telemetry-completeness": {0: seen(96, 100)}},
    ),
}

SEARCH, SHIPPING = of("search"), of("shipping")

MINUTES = range(8)


def half_sampled(threshold: str) -> Messages:
    """Returns 50 spans a minute that say of themselves how they were sampled, and a metric of the 100 requests."""
    sampled = each(http(times=50, minute=minute, threshold=threshold) for minute in MINUTES)
    metric = histogram(REQUESTS, BOUNDS, *(took(90, 10) for _ in MINUTES), found=ORDERS)
    checks = histogram(REQUESTS, BOUNDS, took(0, 7), found={**ORDERS, "http.route": "/healthz"})
    return sampled + HEALTH + not_served() + metric + checks


COMPOSITE_PRESETS: dict[str, Preset] = {
    "composite": Preset(
        http()
        + http(500)
        + HEALTH
        + http(by=SEARCH)  # nothing of shipping: the others share its weight
        + http_call(500, peer="search")
        + http_call(peer="shipping")
        + http_call(500, peer="payments"),
        {
            "composite": {0: seen((3 * 1 / 2 + 1) / 4, 1)},
            "composite-checkout": {0: seen(1, 2, excluded=1)},
            "composite-search": {0: seen(1, 1)},
            "composite-shipping": {},
            "composite/calls-of-checkout": {0: seen(1, 3)},
            "composite/calls-of-checkout@search": {0: seen(0, 1)},
            "composite/calls-of-checkout@shipping": {0: seen(1, 1)},
            "composite/calls-of-checkout@__other__": {0: seen(0, 1, excluded=2)},
            **{f"composite/calls-of-search{callee}": {} for callee in ("", "@checkout", "@shipping", "@__other__")},
            **{f"composite/calls-of-shipping{callee}": {} for callee in ("", "@checkout", "@search", "@__other__")},
        },
    ),
    "coverage": Preset(
        http(500, "/cart", found={"user_agent.synthetic.type": "bot"})  # is there, whatever comes of it
        + spans("internal", {"http.route": "/cart"})
        + http_call(peer="payments")
        + spans("internal", {"service.peer.name": "payments"})
        + spans("internal", by=SEARCH)
        + spans("consumer", by=of("orders-pipeline", namespace="data"))
        + http(200, "/checkout")
        + http_call(peer="search")
        + spans(by=PIPELINE, times=2),  # of the shop's namespace, which is not the one that is declared
        {
            "coverage": {0: seen(1, 1)},  # what was not seen yet may still come
            "coverage/checkout-cart": {0: seen(0, 1)},
            "coverage/checkout-orders": {},
            "coverage/checkout-payments": {0: seen(1, 1)},
            "coverage/orders-pipeline": {0: seen(1, 1)},
            "coverage/search": {0: seen(1, 1)},
            "coverage/shipping": {},
        },
    ),
}

MIXED_PRESETS: dict[str, Preset] = {
    "lost-spans": Preset(
        each(http(times=99, minute=minute) + http(500, minute=minute) for minute in MINUTES)
        + not_served()
        + counter(
            "otelcol_receiver_accepted_spans", *(100 * (minute + 1) for minute in MINUTES), found=OTLP, by=COLLECTOR
        )
        + counter("otelcol_exporter_send_failed_spans", 0, 3, *[153] * (len(MINUTES) - 2), found=KAFKA, by=COLLECTOR)
        + counter(
            "otelcol_exporter_enqueue_failed_spans", 0, 0, 0, *[7] * (len(MINUTES) - 3), found=KAFKA, by=COLLECTOR
        )
        + counter("otelcol_exporter_send_failed_log_records", *[40] * len(MINUTES), found=KAFKA, by=COLLECTOR),
        {
            "lost-spans": {minute: seen(99, 100) for minute in MINUTES},
            # what is given up in the third minute was accepted before
            "collector-send-failures": {minute: seen({1: 97, 2: 0}.get(minute, 100), 100) for minute in MINUTES},
            "collector-queue-full": {minute: seen({3: 93}.get(minute, 100), 100) for minute in MINUTES},
        },
    ),
    "missing-requests": Preset(
        each(http(times=95, minute=minute) + http(500, times=5, minute=minute) for minute in MINUTES)
        + not_served()
        + histogram(REQUESTS, BOUNDS, *(took(100, 10) for _ in MINUTES), found=ORDERS)
        + histogram(REQUESTS, BOUNDS, *(took(0, 7) for _ in MINUTES), found={**ORDERS, "http.route": "/healthz"}),
        {
            "missing-requests": {minute: seen(95, 100) for minute in MINUTES},
            "missing-requests-metric": {minute: seen(100, 110, excluded=7) for minute in MINUTES},
        },
    ),
    "sampling-consistency": Preset(
        half_sampled("8"),
        {
            "sampling-consistency": {minute: seen(100, 100, n=50, excluded=minute == 0) for minute in MINUTES},
            "sampling-consistency-metric": {minute: seen(90, 100, excluded=7 * (minute == 0)) for minute in MINUTES},
            "sampling-consistency-excess": {minute: seen(90, 100, excluded=7 * (minute == 0)) for minute in MINUTES},
        },
    ),
}

PRESETS = {**SPAN_PRESETS, **LOG_PRESETS, **METRIC_PRESETS, **COMPOSITE_PRESETS, **MIXED_PRESETS}
