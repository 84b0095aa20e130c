"""The load: seeded events to two source topics, and a ledger of its own of what the broker acknowledged.

Nothing here uses the pipeline's decoders or counters: an event is made, and judged, by its author.
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from stream.kafka.clients import KafkaTimeoutError, Producer, RecordMetadata, ingest_producer, stop

SLOW_NS = 200_000_000
"""An event that takes longer is bad for the latency objective."""

AVAILABILITY, LATENCY = "availability", "latency"
FLAT_PARTITIONS, OTLP_PARTITIONS = 6, 3

_SECOND_NS = 1_000_000_000
_MINUTE_NS = 60 * _SECOND_NS
_DAY_NS = 86_400 * _SECOND_NS
_HISTORY_NS = 10 * _MINUTE_NS
_TICK_S = 0.05
_ACKNOWLEDGED_S = 60.0
_SERVICES = 24
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_FLAT_FAILURES: dict[str, object] = {"status": "error", "code": 503, "error_type": "timeout"}
_GARBAGE_FLAT = (b"not json", b'{"service": "cut', b"[1, 2]", b'{"service": "timeless"}', b"\xff\xfe\x00")
_GARBAGE_OTLP = (b"\xff" * 12, b"\x0a\x7fcut", b"not protobuf at all")

COUNTED, LATE, FUTURE, UNDECODABLE = "counted", "late", "future", "undecodable"

Cell = tuple[str, str, str, int, bool]
"""Objective, service key, version, minute, bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, or `count` equal ones, as its author means it."""

    namespace: str
    name: str
    version: str
    kind: str
    end_ns: int
    duration_ns: int
    failure: str
    count: int = 1
    fate: str = COUNTED

    @property
    def service(self) -> str:
        """The service key."""
        return f"prod/{self.namespace or '-'}/{self.name}"


@dataclass(slots=True)
class FeedLedger:
    """What was acknowledged.

    Args:
        cells: Events by objective, service, version, minute and whether they were bad.
        items: Items by topic and fate.
        unclear: Sends whose outcome nobody knows: then nothing can be compared.
        next_offsets: The offset after the last acknowledged message, by topic and partition.
    """

    cells: Counter[Cell] = field(default_factory=Counter)
    items: Counter[tuple[str, str]] = field(default_factory=Counter)
    unclear: list[str] = field(default_factory=list)
    next_offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def produced(self) -> int:
        """Items of all fates."""
        return sum(self.items.values())

    def enter(self, message: Message, at: RecordMetadata) -> None:
        """Takes in an acknowledged message."""
        source = (message.topic, message.partition)
        assert at.partition == message.partition
        self.next_offsets[source] = max(self.next_offsets.get(source, 0), at.offset + 1)
        if not message.events:
            self.items[message.topic, UNDECODABLE] += 1
        for event in message.events:
            self.items[message.topic, event.fate] += event.count
            if event.fate == COUNTED:
                minute = event.end_ns // _MINUTE_NS
                key = (event.service, event.version, minute)
                self.cells[AVAILABILITY, *key, bool(event.failure)] += event.count
                self.cells[LATENCY, *key, event.duration_ns > SLOW_NS] += event.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message to a source topic; one that cannot be decoded has no events. Without a timestamp it is sent now."""

    topic: str
    partition: int
    value: bytes
    events: Sequence[Event]
    timestamp_ms: int | None = None


class Workload:
    """Makes messages from a seed.

    Args:
        seed: Fixes everything but the time base.
        flat_topic: Of flat JSON events.
        otlp_topic: Of OTLP protobuf traces.
    """

    def __init__(self, seed: int, *, flat_topic: str, otlp_topic: str) -> None:
        self._random = random.Random(f"workload {seed}")
        self._flat_topic = flat_topic
        self._otlp_topic = otlp_topic

    @staticmethod
    def services() -> list[str]:
        """Returns the key of every service that ever sends."""
        return [f"prod/{_namespace(number) or '-'}/{_name(number)}" for number in range(_SERVICES)]

    def opening(self, now_ns: int) -> Iterator[Message]:
        """Returns one message per source partition from some minutes ago.

        So the history begins before the run, and minutes close, are published and corrected from its start on.
        """
        began_ns = now_ns - _HISTORY_NS
        for topic, partitions in ((self._flat_topic, FLAT_PARTITIONS), (self._otlp_topic, OTLP_PARTITIONS)):
            for partition in range(partitions):
                event = replace(self._event(began_ns, count=1), end_ns=began_ns, fate=COUNTED)
                value = _flat(event) if topic == self._flat_topic else _spans([event])
                at_ms = began_ns // 1_000_000
                yield Message(topic=topic, partition=partition, value=value, events=(event,), timestamp_ms=at_ms)

    def message(self, now_ns: int) -> Message:
        """Returns the next message: mostly one flat event, at times a batch of spans or garbage."""
        chosen = self._random
        if chosen.random() < 0.06:
            return self._otlp(now_ns)
        partition = chosen.randrange(FLAT_PARTITIONS)
        if chosen.random() < 0.004:
            garbage = chosen.choice(_GARBAGE_FLAT)
            return Message(topic=self._flat_topic, partition=partition, value=garbage, events=())
        event = self._event(now_ns, count=3 if chosen.random() < 0.02 else 1)
        return Message(topic=self._flat_topic, partition=partition, value=_flat(event), events=(event,))

    def _otlp(self, now_ns: int) -> Message:
        partition = self._random.randrange(OTLP_PARTITIONS)
        if self._random.random() < 0.01:
            garbage = self._random.choice(_GARBAGE_OTLP)
            return Message(topic=self._otlp_topic, partition=partition, value=garbage, events=())
        events = [self._event(now_ns, count=1) for _ in range(self._random.randint(4, 28))]
        return Message(topic=self._otlp_topic, partition=partition, value=_spans(events), events=events)

    def _event(self, now_ns: int, *, count: int) -> Event:
        chosen = self._random
        number = int(chosen.paretovariate(0.6)) % _SERVICES
        version = chosen.choice(("1.0", "1.1", "")) if number % 3 else "2.0"
        bad = chosen.random() < (0.001, 0.02, 0.2)[number % 3] * (3 if version == "1.1" else 1)
        age_ns, fate = self._age()
        return Event(
            namespace=_namespace(number),
            name=_name(number),
            version=version,
            kind=chosen.choice(tuple(_KINDS)),
            end_ns=now_ns - age_ns,
            duration_ns=chosen.randrange(1, 500 if chosen.random() < 0.1 else 200) * 1_000_000,
            failure=chosen.choice(("status", "code", "error_type")) if bad else "",
            count=count,
            fate=fate,
        )

    def _age(self) -> tuple[int, str]:
        """Returns how long ago an event ended, and what becomes of one that old."""
        lot = self._random.random()
        if lot < 0.001:
            return 30 * _DAY_NS, LATE
        if lot < 0.002:
            return -7200 * _SECOND_NS, FUTURE
        if lot < 0.004:
            return self._random.randrange(7200 * _SECOND_NS), COUNTED
        if lot < 0.05:
            return self._random.randrange(180 * _SECOND_NS), COUNTED
        return self._random.randrange(2 * _SECOND_NS), COUNTED


class Feeder:
    """Sends the workload and keeps the ledger.

    Args:
        bootstrap: `HOST:PORT`.
        workload: What to send.
        rate: Items per second.
    """

    def __init__(self, bootstrap: str, workload: Workload, *, rate: float) -> None:
        self.ledger = FeedLedger()
        self._bootstrap = bootstrap
        self._workload = workload
        self._rate = rate
        self._pending: set[asyncio.Future[RecordMetadata]] = set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Sends until `stopping` is set and everything sent is acknowledged."""
        producer = await ingest_producer(self._bootstrap)
        try:
            due = 0.0
            last_s = time.monotonic()
            while not stopping.is_set():
                now_s = time.monotonic()
                # What a stalled broker held up is not made up for: that would be a flood, not a load.
                due = min(due + (now_s - last_s) * self._rate, self._rate / 2)
                last_s = now_s
                for message in self._messages(due):
                    due -= _items(message)
                    await self._send(producer, message)
                await asyncio.sleep(_TICK_S)
            await self._answers()
        finally:
            await stop(producer)

    async def open(self) -> None:
        """Sends what the sources held before anybody read them."""
        producer = await ingest_producer(self._bootstrap)
        try:
            for message in self._workload.opening(time.time_ns()):
                await self._send(producer, message)
            await self._answers()
        finally:
            await stop(producer)

    async def _answers(self) -> None:
        if self._pending:
            await asyncio.wait(self._pending, timeout=_ACKNOWLEDGED_S)
        self.ledger.unclear += [f"no answer within {_ACKNOWLEDGED_S:g} s"] * len(self._pending)

    def _messages(self, due: float) -> Iterator[Message]:
        while due >= 1:
            message = self._workload.message(time.time_ns())
            due -= _items(message)
            yield message

    async def _send(self, producer: Producer, message: Message) -> None:
        while True:
            try:
                sent = await producer.send(
                    message.topic, message.value, partition=message.partition, timestamp_ms=message.timestamp_ms
                )
                break
            except KafkaTimeoutError:  # the broker is gone and the buffer full; nothing was queued
                continue
        self._pending.add(sent)
        sent.add_done_callback(functools.partial(self._answered, message))

    def _answered(self, message: Message, sent: asyncio.Future[RecordMetadata]) -> None:
        self._pending.discard(sent)
        if sent.cancelled() or sent.exception() is not None:
            self.ledger.unclear.append("cancelled" if sent.cancelled() else repr(sent.exception()))
        else:
            self.ledger.enter(message, sent.result())


def _items(message: Message) -> int:
    return sum(event.count for event in message.events) or 1


def _name(number: int) -> str:
    return f"svc-{number:02d}"


def _namespace(number: int) -> str:
    return "shop" if number % 2 else ""


def _flat(event: Event) -> bytes:
    body: dict[str, object] = {
        "environment": "prod",
        "service": event.name,
        "time": event.end_ns,
        "duration_ms": event.duration_ns // 1_000_000,
        "kind": event.kind,
    }
    if event.namespace:
        body["namespace"] = event.namespace
    if event.version:
        body["version"] = event.version
    if event.count > 1:
        body["count"] = event.count
    if event.failure:
        body[event.failure] = _FLAT_FAILURES[event.failure]
    return orjson.dumps(body)


def _spans(events: Sequence[Event]) -> bytes:
    request = ExportTraceServiceRequest()
    resources: dict[tuple[str, str], ResourceSpans] = {}
    for event in events:
        if (event.name, event.version) not in resources:
            resource = resources[event.name, event.version] = request.resource_spans.add()
            _attribute(resource.resource, "service.name", event.name)
            _attribute(resource.resource, "deployment.environment.name", "prod")
            if event.namespace:
                _attribute(resource.resource, "service.namespace", event.namespace)
            if event.version:
                _attribute(resource.resource, "service.version", event.version)
            resource.scope_spans.add()
        _span(resources[event.name, event.version].scope_spans[0].spans.add(), event)
    value: bytes = request.SerializeToString()
    return value


def _span(span: Span, event: Event) -> None:
    span.kind = _KINDS[event.kind]  # type: ignore[assignment]
    span.start_time_unix_nano = event.end_ns - event.duration_ns
    span.end_time_unix_nano = event.end_ns
    if event.failure == "status":
        span.status.code = 2  # type: ignore[assignment]
    elif event.failure == "code":
        span.attributes.add(key="http.response.status_code").value.int_value = 503
    elif event.failure == "error_type":
        _attribute(span, "error.type", "timeout")


def _attribute(holder: object, key: str, value: str) -> None:
    holder.attributes.add(key=key).value.string_value = value  # type: ignore[attr-defined]
