"""What happens in the demo: six services over eighty minutes of event time. Constants and pure functions only.

minute 0        16    22                42                        66          80
checkout v1 ────┴─────┐ rollout
         v2     ┌─────┴─── healthy ─────┼──── six in ten fail ─────┼─ recovered ─┤
search   ──────────────────────────────── one of its processes starts anew, minute 50
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MINUTES = 80
TICKS_PER_MINUTE = 6
TICKS = MINUTES * TICKS_PER_MINUTE
TICK_NS = 60_000_000_000 // TICKS_PER_MINUTE
"""Event time moves in ticks of 10 s. A tick is acknowledged before the next one is sent, so no source partition is ever
more than a tick behind another: a sixth of the time by which rows may be late."""

SPANS_PER_S = 3000.0
"""Spans and flat events per second of wall clock, at a rate of 1. Points and log records come on top: a few thousand,
whatever the rate."""

STORY_SPANS_MIN = 40_000
"""With fewer items in all, certificates may not be earned before the end."""

ROLLOUT = (16.0, 22.0)
DEGRADED = (42.0, 66.0)

INSTANCES = 4
EXPORT_TICKS = 3
"""Each process of a service that measures its requests exports its histograms every 30 s."""

RESTART_TICK = 50 * TICKS_PER_MINUTE
RESTARTED = 2
"""The process that starts anew, with counts from zero, at the first export from this tick on."""

RETRY_EVERY_TICKS = 60
"""How often an OTLP message of the tick before is sent again, of each topic one: as a Collector does that got no
answer."""

DEGRADED_BAD_RATIO = 0.6
CLIENT_BAD_RATIO = 0.02
"""Calls to others fail more often; no objective here counts them."""

ENVIRONMENT = "production"
NAMESPACE = "shop"


class Carrier(StrEnum):
    """What says how a service is doing."""

    SPANS = "spans"
    EVENTS = "flat events"
    METRICS = "metrics"
    LOGS = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """What an objective in `slo/*.yaml` counts as good, told once more for the independent tally.

    `duration_lte_ns`: None where good means that the request did not fail.
    """

    objective: str
    duration_lte_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the demo.

    Args:
        name: `service.name`.
        carrier: What it sends.
        share: Its part of the rate; 0 for one with traffic of its own.
        per_tick: Mean requests a tick where its traffic does not depend on the rate.
        request_ratio: Part of what it does that its objectives select; the others are calls to other services, health
            checks, records of no event.
        bad_ratio: Probability that a request fails while all is well.
        median_ms: Median duration of a request.
        spread: Standard deviation of the logarithm of durations.
        tracestate: What its spans say about sampling.
    """

    name: str
    carrier: Carrier = Carrier.SPANS
    share: float = 0.0
    per_tick: float = 0.0
    request_ratio: float = 1.0
    bad_ratio: float = 0.0
    median_ms: float
    spread: float
    tracestate: str = ""
    indicators: tuple[Indicator, ...]

    @property
    def key(self) -> str:
        """The service key."""
        return f"{ENVIRONMENT}/{NAMESPACE}/{self.name}"


STOREFRONT = Service(
    name="storefront",
    share=0.5,
    request_ratio=0.8,
    bad_ratio=0.00002,
    median_ms=40.0,
    spread=0.6,
    tracestate="ot=th:0",  # every span is kept, and says so
    indicators=(
        Indicator(objective="storefront-availability"),
        Indicator(objective="storefront-latency", duration_lte_ns=500_000_000),
    ),
)
CHECKOUT = Service(
    name="checkout",
    share=0.3,
    request_ratio=0.75,
    bad_ratio=0.0002,
    median_ms=80.0,
    spread=0.4,
    indicators=(Indicator(objective="checkout-availability"),),
)
ORDERS = Service(
    name="orders",
    carrier=Carrier.EVENTS,
    share=0.2,
    bad_ratio=0.0005,
    median_ms=150.0,
    spread=0.5,
    indicators=(Indicator(objective="orders-in-time", duration_lte_ns=1_500_000_000),),
)
GIFTCARDS = Service(
    name="giftcards",
    per_tick=0.4,
    median_ms=60.0,
    spread=0.4,
    tracestate="ot=th:0",
    indicators=(Indicator(objective="giftcards-availability"),),
)
SEARCH = Service(
    name="search",
    carrier=Carrier.METRICS,
    per_tick=100.0,
    request_ratio=0.9,
    median_ms=60.0,
    spread=0.4,
    indicators=(Indicator(objective="search-in-time", duration_lte_ns=250_000_000),),
)
SHIPPING = Service(
    name="shipping",
    carrier=Carrier.LOGS,
    per_tick=6.0,
    request_ratio=0.75,
    bad_ratio=0.0005,
    median_ms=1.0,
    spread=0.1,
    indicators=(Indicator(objective="shipping-dispatched"),),
)

COMPOSITE = "shopping"
"""The objective over those of checkout, search and shipping: its budget is made of minutes."""

SERVICES = (STOREFRONT, CHECKOUT, ORDERS, GIFTCARDS, SEARCH, SHIPPING)


def versions(service: Service) -> tuple[str, ...]:
    """Returns the versions that a service runs in the course of the demo."""
    return ("v1", "v2") if service is CHECKOUT else ("v1",)


def v2_ratio(service: Service, minute: float) -> float:
    """Returns the part of a service's traffic that v2 serves: a rolling deployment shifts it step by step."""
    if service is not CHECKOUT:
        return 0.0
    began, ended = ROLLOUT
    return min(1.0, max(0.0, (minute - began) / (ended - began)))


def bad_ratio(service: Service, version: str, minute: float) -> float:
    """Returns the probability that a request fails."""
    degraded = service is CHECKOUT and version == "v2" and DEGRADED[0] <= minute < DEGRADED[1]
    return DEGRADED_BAD_RATIO if degraded else service.bad_ratio


def items_per_tick(service: Service, duration_s: float, rate: float) -> float:
    """Returns the mean number of spans, events, measured requests or log records of a service in a tick.

    Args:
        duration_s: Wall-clock length of the demo.
        rate: Factor on the traffic.
    """
    return service.per_tick or service.share * SPANS_PER_S * rate * duration_s / TICKS
