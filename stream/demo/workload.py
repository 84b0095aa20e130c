"""The seeded workload: what each service does in each tick, as messages for Kafka and in the tally.

The seed fixes every byte but the time base: two runs differ only in when minute 0 was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream.demo import story
from stream.demo.messages import Resource, Span, flat_event, spans_request
from stream.demo.story import SERVICES, TICK_NS, TICKS_PER_MINUTE, Service
from stream.demo.tally import Tally

Array = np.ndarray[Any, Any]

SPANS_PER_RESOURCE_MAX = 48
RESOURCES_PER_REQUEST_MAX = 3
DAY_NS = 86_400_000_000_000
LATE_NS = 30 * DAY_NS
FUTURE_NS = 2 * DAY_NS
"""Far enough that no delay or restart of a worker can change what becomes of them."""

BROKEN_SPANS = b"\x0a\xff\x01cut off"
"""A request whose first field claims 255 bytes and has 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Where the workload goes: OTLP spans and flat events, each with so many partitions."""

    spans: str = "otlp_spans"
    events: str = "telemetry.events"
    partitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message for Kafka; `time_ms` is its timestamp, at or after the end of what it holds."""

    topic: str
    partition: int
    time_ms: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What one service does in one tick.

    Shapes: all arrays have one element per span or event: `v2` bool, `request` bool (else a call to another service),
    `failed` bool, `end_ns` int64, `duration_ns` int64.
    """

    service: Service
    v2: Array
    request: Array
    failed: Array
    end_ns: Array
    duration_ns: Array

    def versions(self) -> Iterator[tuple[str, Array]]:
        """Yields (version, index of its items) for the versions that served something."""
        for version, chosen in (("v1", ~self.v2), ("v2", self.v2)):
            index = np.flatnonzero(chosen)
            if len(index):
                yield version, index


class Workload:
    """The workload of one run. Ticks are asked for in order, each once; the tally grows with them.

    Args:
        seed: Fixes everything but the time base.
        base_ns: Event time of the first tick; a whole minute.
        duration_s: Wall-clock length of the run.
        rate: Factor on the traffic.
        topics: Where messages go.
    """

    def __init__(self, *, seed: int, base_ns: int, duration_s: float, rate: float, topics: Topics) -> None:
        assert base_ns % 60_000_000_000 == 0, base_ns
        self.tally = Tally()
        self._random = np.random.default_rng(seed)
        self._base_ns = base_ns
        self._means = [story.items_per_tick(service, duration_s, rate) for service in SERVICES]
        self._topics = topics

    def tick_end_ns(self, tick: int) -> int:
        """Returns the event time at the end of a tick."""
        return self._base_ns + (tick + 1) * TICK_NS

    def draws(self, tick: int) -> list[Draw]:
        """Returns what every service does in a tick."""
        return [self._draw(service, mean, tick) for service, mean in zip(SERVICES, self._means, strict=True)]

    def tick(self, tick: int) -> list[Message]:
        """Returns the messages of a tick and enters them in the tally; with the first, one in every partition."""
        messages: list[Message] = []
        resources: list[Resource] = []
        for draw in self.draws(tick):
            if draw.service.flat:
                messages += self._events(draw, tick)
            else:
                resources += self._resources(draw)
            self._enter(draw)
        messages += self._requests(resources, tick)
        if tick == 0:
            messages += self._greetings()
        return messages + self._oddities(tick)

    def _draw(self, service: Service, mean: float, tick: int) -> Draw:
        random, n = self._random, int(self._random.poisson(mean))
        minute = tick / TICKS_PER_MINUTE
        v2 = random.random(n) < story.v2_ratio(service, minute)
        request = random.random(n) < service.request_ratio
        bad_ratio = np.where(v2, story.bad_ratio(service, "v2", minute), story.bad_ratio(service, "v1", minute))
        bad_ratio = np.where(request, bad_ratio, story.CLIENT_BAD_RATIO)
        return Draw(
            service=service,
            v2=v2,
            request=request,
            failed=random.random(n) < bad_ratio,
            end_ns=self._base_ns + tick * TICK_NS + random.integers(0, TICK_NS, n),
            duration_ns=(random.lognormal(np.log(service.median_ms), service.spread, n) * 1e6).astype(np.int64),
        )

    def _enter(self, draw: Draw) -> None:
        self.tally.services[draw.service.key] += len(draw.request)
        end_ns = draw.end_ns[draw.request].tolist()
        for indicator in draw.service.indicators:
            bad = draw.failed
            if indicator.duration_lte_ns is not None:
                bad = draw.duration_ns > indicator.duration_lte_ns
            self.tally.requests(indicator.objective, end_ns, bad[draw.request].tolist())

    def _resources(self, draw: Draw) -> list[Resource]:
        """Returns the spans of a draw under their resources, a few dozen to each."""
        resources = []
        for version, index in draw.versions():
            spans = [
                Span(
                    request=bool(draw.request[i]),
                    failed=bool(draw.failed[i]),
                    end_ns=int(draw.end_ns[i]),
                    duration_ns=int(draw.duration_ns[i]),
                )
                for i in index
            ]
            resources += [
                Resource(draw.service, version, spans[start : start + SPANS_PER_RESOURCE_MAX])
                for start in range(0, len(spans), SPANS_PER_RESOURCE_MAX)
            ]
        return resources

    def _requests(self, resources: list[Resource], tick: int) -> list[Message]:
        """Returns the resources in requests of several, as a Collector batches what it receives."""
        order = [resources[i] for i in self._random.permutation(len(resources))]
        messages = []
        while order:
            together = int(self._random.integers(1, RESOURCES_PER_REQUEST_MAX + 1))
            batch, order = order[:together], order[together:]
            self.tally.message(self._topics.spans, counted=sum(len(resource.spans) for resource in batch))
            messages.append(self._message(self._topics.spans, tick, spans_request(batch, self._random)))
        return messages

    def _events(self, draw: Draw, tick: int) -> list[Message]:
        messages = []
        for version, index in draw.versions():
            for i in index:
                value = flat_event(
                    draw.service, version, int(draw.end_ns[i]), int(draw.duration_ns[i]), bool(draw.failed[i])
                )
                messages.append(self._message(self._topics.events, tick, value))
                self.tally.message(self._topics.events, counted=1)
        return messages

    def _message(self, topic: str, tick: int, value: bytes, partition: int | None = None) -> Message:
        if partition is None:
            partition = int(self._random.integers(self._topics.partitions))
        return Message(topic=topic, partition=partition, time_ms=self.tick_end_ns(tick) // 1_000_000, value=value)

    def _greetings(self) -> list[Message]:
        """Returns an empty request and an event for each partition, so that every source has a beginning.

        An empty OTLP request has no items; the event is one of the orders service.
        """
        messages = []
        duration_ns = 100_000_000
        for partition in range(self._topics.partitions):
            messages.append(self._message(self._topics.spans, 0, b"", partition))
            self.tally.message(self._topics.spans)
            event = flat_event(story.ORDERS, "v1", self._base_ns, duration_ns, False)
            messages.append(self._message(self._topics.events, 0, event, partition))
            self.tally.message(self._topics.events, counted=1)
            self.tally.services[story.ORDERS.key] += 1
            self.tally.requests(story.ORDERS.indicators[0].objective, [self._base_ns], [False])
        return messages

    def _oddities(self, tick: int) -> list[Message]:
        """Returns what no producer should send, in four of the ticks, and enters what must become of it."""
        spans, events, now_ns = self._topics.spans, self._topics.events, self._base_ns + tick * TICK_NS
        match tick * 8 // story.TICKS if tick % (story.TICKS // 8) == 0 else 0:
            case 1 | 2:
                return [
                    self._refused(spans, tick, BROKEN_SPANS, "malformed"),
                    self._refused(events, tick, b"service=orders", "malformed"),
                ]
            case 3:
                return [
                    self._refused(spans, tick, b'{"resourceSpans": []}', "wrong_type"),
                    self._refused(events, tick, b'{"service": "orders"}', "missing_field"),
                ]
            case 4:
                return self._at_another_time(tick, now_ns - LATE_NS, late=True)
            case 6:
                return self._at_another_time(tick, now_ns + FUTURE_NS, late=False)
            case _:
                return []

    def _refused(self, topic: str, tick: int, value: bytes, reason: str) -> Message:
        self.tally.message(topic, rejected={reason: 1})
        return self._message(topic, tick, value)

    def _at_another_time(self, tick: int, end_ns: int, *, late: bool) -> list[Message]:
        """Returns two spans of one request and one event that ended at `end_ns`."""
        span = Span(request=True, failed=False, end_ns=end_ns, duration_ns=10_000_000)
        request = spans_request([Resource(story.STOREFRONT, "v1", [span, span])], self._random)
        event = flat_event(story.ORDERS, "v1", end_ns, span.duration_ns, False)
        for topic, items in ((self._topics.spans, 2), (self._topics.events, 1)):
            if late:
                self.tally.message(topic, late=items)
            else:
                self.tally.message(topic, rejected={"future": items})
        return [
            self._message(self._topics.spans, tick, request),
            self._message(self._topics.events, tick, event),
        ]
