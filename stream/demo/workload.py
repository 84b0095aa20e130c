"""The seeded workload: what each service does in each tick, as messages for Kafka and in the tally.

The seed fixes every byte but the time base: two runs differ only in when minute 0 was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from stream.demo import story
from stream.demo.instances import SEARCHES, Export, Instance
from stream.demo.messages import (
    BOUNDS_S,
    Entry,
    Histogram,
    Resource,
    Span,
    flat_event,
    logs_request,
    metrics_request,
    spans_request,
)
from stream.demo.story import SERVICES, TICK_NS, TICKS_PER_MINUTE, Carrier, Service
from stream.demo.tally import Tally

Array = np.ndarray[Any, Any]

SPANS_PER_RESOURCE_MAX = 48
RESOURCES_PER_REQUEST_MAX = 3
DAY_NS = 86_400_000_000_000
LATE_NS = 30 * DAY_NS
FUTURE_NS = 2 * DAY_NS
"""Far enough that no delay or restart of a worker can change what becomes of them."""

BROKEN = b"\x0a\xff\x01cut off"
"""A request whose first field claims 255 bytes and has 7."""
NO_LOGS = b'{"resourceLogs":[]}'

_MS_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Where the workload goes: OTLP spans, flat events, OTLP metrics and logs, each with so many partitions."""

    spans: str = "otlp_spans"
    events: str = "telemetry.events"
    metrics: str = "otlp_metrics"
    logs: str = "otlp_logs"
    partitions: int

    @classmethod
    def named(cls, prefix: str, partitions: int) -> Topics:
        """Returns the topics with a prefix before their names."""
        named = {f.name: f"{prefix}{f.default}" for f in fields(cls) if f.name != "partitions"}
        return cls(**named, partitions=partitions)

    @property
    def names(self) -> tuple[str, str, str, str]:
        """All of them."""
        return self.spans, self.events, self.metrics, self.logs


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

    Shapes: all arrays have one element per span, event, measured request or log record: `v2` bool, `request` bool (else
    a call to another service, a health check, a record of no event), `failed` bool, `end_ns` and `duration_ns` int64.
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
        self._instances = [Instance(story.SEARCH, number, base_ns) for number in range(story.INSTANCES)]
        self._sent: list[tuple[Message, int]] = []  # OTLP messages of the last tick, and their items
        for topic in topics.names:
            self.tally.topic(topic)

    def tick_end_ns(self, tick: int) -> int:
        """Returns the event time at the end of a tick."""
        return self._base_ns + (tick + 1) * TICK_NS

    def draws(self, tick: int) -> list[Draw]:
        """Returns what every service does in a tick."""
        return [self._draw(service, mean, tick) for service, mean in zip(SERVICES, self._means, strict=True)]

    def tick(self, tick: int) -> list[Message]:
        """Returns the messages of a tick and enters them in the tally; with the first, one in every partition."""
        before, self._sent = self._sent, []
        messages: list[Message] = []
        resources: list[Resource] = []
        for draw in self.draws(tick):
            match draw.service.carrier:
                case Carrier.SPANS:
                    resources += self._resources(draw)
                    self._enter(draw)
                case Carrier.EVENTS:
                    messages += self._events(draw, tick)
                    self._enter(draw)
                case Carrier.METRICS:
                    messages += self.exports(draw, tick)
                case Carrier.LOGS:
                    messages += self._logs(draw, tick)
                    self._enter(draw)
        messages += self._requests(resources, tick)
        if tick == 0:
            messages += self._greetings()
        if tick % story.RETRY_EVERY_TICKS == 1:
            messages += self._retries(before, tick)
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
            items = sum(len(resource.spans) for resource in batch)
            messages.append(self._counted(self._topics.spans, tick, spans_request(batch, self._random), items))
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

    def exports(self, draw: Draw, tick: int) -> list[Message]:
        """Returns the exports that are due after what was measured in a tick, and enters them in the tally.

        Each process has its own partition: the order of its points matters.
        """
        messages = []
        time_ns = self.tick_end_ns(tick) - _MS_NS
        for number, instance in enumerate(self._instances):
            own = np.arange(len(draw.request)) % story.INSTANCES == number
            instance.serve(draw.duration_ns[own & draw.request], draw.duration_ns[own & ~draw.request])
            if tick % story.EXPORT_TICKS != number % story.EXPORT_TICKS:
                continue
            export = instance.export(time_ns)
            self._enter_export(draw.service, export)
            partition = number % self._topics.partitions
            messages.append(self._counted(self._topics.metrics, tick, export.value, export.points, partition))
            if number == story.RESTARTED and 0 <= tick - story.RESTART_TICK < story.EXPORT_TICKS:
                instance.restart(self.tick_end_ns(tick))
        return messages

    def _enter_export(self, service: Service, export: Export) -> None:
        self.tally.services[service.key] += export.points
        times_ns = [export.time_ns] * len(export.added_ns)
        for indicator in service.indicators:
            assert indicator.duration_lte_ns is not None, indicator
            bad = [duration_ns > indicator.duration_lte_ns for duration_ns in export.added_ns]
            self.tally.requests(indicator.objective, times_ns, bad)

    def _logs(self, draw: Draw, tick: int) -> list[Message]:
        entries = [
            Entry(time_ns=int(draw.end_ns[i]), parcel=bool(draw.request[i]), failed=bool(draw.failed[i]))
            for i in range(len(draw.request))
        ]
        if not entries:
            return []
        return [self._counted(self._topics.logs, tick, logs_request(draw.service, entries), len(entries))]

    def _retries(self, before: list[tuple[Message, int]], tick: int) -> list[Message]:
        """Returns one OTLP message of each topic once more, byte for byte, and enters that it must not count again.

        Spans and logs go to any partition, as a Collector without a key sends them; a process's metrics to its own.
        """
        messages = []
        for topic in (self._topics.spans, self._topics.metrics, self._topics.logs):
            sent = [(message, items) for message, items in before if message.topic == topic]
            if sent:
                message, items = sent[int(self._random.integers(len(sent)))]
                again = self._message(topic, tick, message.value)
                if topic == self._topics.metrics:
                    again = replace(again, partition=message.partition)
                messages.append(again)
                self.tally.message(topic, duplicate=items)
        return messages

    def _counted(self, topic: str, tick: int, value: bytes, items: int, partition: int | None = None) -> Message:
        """Returns an OTLP message whose items must count, entered in the tally and remembered for a retry."""
        message = self._message(topic, tick, value, partition)
        self.tally.message(topic, counted=items)
        self._sent.append((message, items))
        return message

    def _message(self, topic: str, tick: int, value: bytes, partition: int | None = None) -> Message:
        if partition is None:
            partition = int(self._random.integers(self._topics.partitions))
        return Message(topic=topic, partition=partition, time_ms=self.tick_end_ns(tick) // 1_000_000, value=value)

    def _greetings(self) -> list[Message]:
        """Returns empty requests and an event for each partition, so that every source has a beginning.

        An empty OTLP request has no items, in protobuf not even bytes; the event is one of the orders service.
        """
        messages = []
        duration_ns = 100_000_000
        for partition in range(self._topics.partitions):
            for topic, nothing in (
                (self._topics.spans, b""),
                (self._topics.metrics, b""),
                (self._topics.logs, NO_LOGS),
            ):
                messages.append(self._message(topic, 0, nothing, partition))
                self.tally.message(topic)
            event = flat_event(story.ORDERS, "v1", self._base_ns, duration_ns, False)
            messages.append(self._message(self._topics.events, 0, event, partition))
            self.tally.message(self._topics.events, counted=1)
            self.tally.services[story.ORDERS.key] += 1
            self.tally.requests(story.ORDERS.indicators[0].objective, [self._base_ns], [False])
        return messages

    def _oddities(self, tick: int) -> list[Message]:
        """Returns what no producer should send, in five of the ticks, and enters what must become of it."""
        spans, events, now_ns = self._topics.spans, self._topics.events, self._base_ns + tick * TICK_NS
        match tick * 8 // story.TICKS if tick % (story.TICKS // 8) == 0 else 0:
            case 1:
                return [
                    self._refused(spans, tick, BROKEN, "malformed"),
                    self._refused(events, tick, b"service=orders", "malformed"),
                ]
            case 2:
                return [
                    self._refused(self._topics.metrics, tick, BROKEN, "malformed"),
                    self._refused(self._topics.logs, tick, NO_LOGS[:-1], "malformed"),
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
        """Returns two spans of one request, an event, a point and a log record, all of `end_ns`."""
        span = Span(request=True, failed=False, end_ns=end_ns, duration_ns=10_000_000)
        nothing = Histogram(route=SEARCHES, counts=(0,) * (len(BOUNDS_S) + 1), sum_ns=0)
        entry = Entry(time_ns=end_ns, parcel=True, failed=False)
        values = (
            (self._topics.spans, 2, spans_request([Resource(story.STOREFRONT, "v1", [span, span])], self._random)),
            (self._topics.events, 1, flat_event(story.ORDERS, "v1", end_ns, span.duration_ns, False)),
            (
                self._topics.metrics,
                1,
                metrics_request(story.SEARCH, "search-0", [nothing], start_ns=end_ns - _MS_NS, time_ns=end_ns),
            ),
            (self._topics.logs, 1, logs_request(story.SHIPPING, [entry])),
        )
        for topic, items, _ in values:
            if late:
                self.tally.message(topic, late=items)
            else:
                self.tally.message(topic, rejected={"future": items})
        return [self._message(topic, tick, value) for topic, _, value in values]
