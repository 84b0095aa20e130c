"""A pipeline without a broker: sources, an ingest made of the product's own pieces, the log, and a fold.

Two of them that read the same messages in the same cycles differ only in when an objective was applied.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from stream.cli.backfill import Since, Standing, prepare
from stream.core.engine import Engine
from stream.core.engine.backfill import Backfill, encode_backfill
from stream.core.events import Output
from stream.core.log import LogRecord, encode_record
from stream.core.otlp import Decoded, Messages
from stream.core.slo.calendar import Calendar
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.core.units import MINUTE_NS, SECOND_NS
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, pieces, progress_of
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.routing import Configuration, Router
from stream.kafka.clients import TopicPartition, ingest_producer, stop
from stream.kafka.local import LocalKafka
from stream.kafka.topic_ids import TopicInfo
from stream.replay.backfill import History, Job, histories
from stream.replay.backfill_count import to_decode_under
from stream.replay.reading import Stretch

T0_NS = 29_400_000 * MINUTE_NS  # a full minute, and a full hour
SERVICE, OTHER = "prod/shop/checkout", "prod/shop/search"
SPANS, EVENTS = "otlp_spans", "telemetry.events"
PLACES = ((EVENTS, 0), (SPANS, 0), (SPANS, 1))
Message = tuple[int, bytes]
"""Timestamp and body."""


SOURCES = Source(topic=EVENTS, encoding="flat"), Source(topic=SPANS, encoding="otlp_proto")


def bundle(
    *objectives: Objective,
    calendars: tuple[Calendar, ...] = (),
    sources: tuple[Source, ...] = SOURCES,
    **settings: Any,
) -> Bundle:
    """Returns a configuration with one partition of the log, and OTLP spans and flat events where nothing is said."""
    return Bundle(
        pipeline="test",
        generation="1",
        partitions=1,
        sources=sources,
        objectives=objectives,
        settings=Settings(**settings),
        calendars=calendars,
    )


def objective(name: str = "availability", **rest: Any) -> Objective:
    """Returns an objective on SERVICE."""
    return Objective(**{"service": SERVICE, "name": name, "target": "0.99", "window_minutes": 43_200, **rest})


def event(end_ns: int, *, bad: bool = False, id: str | None = None, service: str = "checkout", **rest: Any) -> bytes:
    """Returns a flat event."""
    body = {"environment": "prod", "namespace": "shop", "service": service, "time": end_ns, "code": 500 if bad else 200}
    return orjson.dumps({**body, **({"id": id} if id else {}), **rest})


def spans(ends: Sequence[tuple[int, bool, bool]], service: str = "checkout", **attributes: str) -> bytes:
    """Returns a message of server spans, each of (end, bad, one of two is sampled)."""
    names = {"service.name": service, "service.namespace": "shop", "deployment.environment.name": "prod"}
    request = ExportTraceServiceRequest()
    found = request.resource_spans.add()
    found.resource.attributes.extend(_attributes({**names, "service.version": "v1"}))
    scope = found.scope_spans.add()
    for end_ns, bad, sampled in ends:
        span = scope.spans.add(
            trace_id=end_ns.to_bytes(8, "big") + b"\xff" * 8,
            span_id=b"12345678",
            trace_state="ot=th:8" if sampled else "ot=th:0",
            kind=Span.SPAN_KIND_SERVER,
            start_time_unix_nano=end_ns - SECOND_NS,
            end_time_unix_nano=end_ns,
            attributes=_attributes(attributes),
        )
        span.status.code = Status.STATUS_CODE_ERROR if bad else Status.STATUS_CODE_UNSET
    return request.SerializeToString(deterministic=True)


def _attributes(values: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in values.items()]


def traffic(seed: int, minutes: int) -> dict[tuple[str, int], list[Message]]:
    """Returns messages of each source in the order of their timestamps: some late by minutes or by more than counts,
    some of the future, some sent twice, of one partition or two."""
    rng = random.Random(seed)
    found: dict[tuple[str, int], list[Message]] = {place: [] for place in PLACES}
    sent: list[bytes] = []
    for place in PLACES:
        found[place].append((T0_NS, event(T0_NS) if place[0] == EVENTS else spans([(T0_NS, False, False)])))
    for second in range(5, minutes * 60, 14):
        time_ns = T0_NS + second * SECOND_NS
        place = rng.choice(PLACES)
        age_s = rng.choice((1, 1, 1, 1, 20, 90, 400, 3_000, 5 * 3_600, 6 * 3_600 + 90, 7 * 3_600, -360))
        # Nothing ended before the first message: what did would lie before the history, and counts in no backfill.
        end_ns = max(T0_NS + 30 * SECOND_NS, time_ns - age_s * SECOND_NS + rng.randrange(SECOND_NS))
        bad = rng.random() < 0.2
        service = "checkout" if rng.random() < 0.8 else "search"
        if place[0] == EVENTS:
            value = event(end_ns, bad=bad, id=f"event-{rng.randrange(60)}", service=service, count=rng.randrange(1, 4))
        elif sent and rng.random() < 0.2:
            value = rng.choice(sent[-30:])
        else:
            ends = [
                (end_ns - i * 7 * SECOND_NS, bad ^ (i == 2), rng.random() < 0.3) for i in range(rng.randrange(1, 4))
            ]
            value = spans(ends, service, tier=rng.choice("ab"))
            sent.append(value)
        found[place].append((time_ns, value))
    return found


@dataclass
class Pipeline:
    """Sources, the log they were read into, and the fold of it."""

    messages: Mapping[tuple[str, int], Sequence[Message]]
    log: list[tuple[int, bytes]] = field(default_factory=list)
    engine: Engine = field(default_factory=lambda: Engine(0))
    outputs: list[Output] = field(default_factory=list)
    configurations: list[Bundle] = field(default_factory=list)
    ingests: int = 0
    names: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    decoders: Decoders = field(default_factory=lambda: Decoders(compile=False))

    def __post_init__(self) -> None:
        topics = [topic for topic, _ in self.messages]
        self.names = {topic: self.names.get(topic, topic) for topic in topics}
        self.ids = {topic: self.ids.get(topic, f"id-of-{topic}") for topic in topics}

    def append(self, time_ns: int, value: bytes) -> None:
        """Appends a record to the log and folds it."""
        self.log.append((time_ns, value))
        self.outputs += self.engine.apply(len(self.log) - 1, time_ns, value)

    def copy(self) -> Pipeline:
        """Returns the same pipeline again, its fold restored from a checkpoint; nobody reads on in it."""
        self.engine.checkpoint()
        engine = Engine.restore(0, self.engine.snapshot())
        return replace(
            self, log=[*self.log], engine=engine, outputs=[*self.outputs], configurations=[*self.configurations]
        )

    def apply(self, bundle: Bundle) -> None:
        """Applies a configuration; what is read from now on is read under it."""
        sources = tuple(replace(source, topic=self.names[source.topic]) for source in bundle.sources)
        self.configurations.append(replace(bundle, sources=sources))

    def ingest(self, first: Mapping[tuple[str, int], int] | None = None) -> Ingest:
        """Returns a new ingest process that begins at these offsets, or at 0."""
        self.ingests += 1
        return Ingest(self, f"ingest-{self.ingests}", first or {})

    @property
    def partitions(self) -> dict[str, int]:
        """Partitions of each source topic."""
        return dict(Counter(self.names[topic] for topic, _ in self.messages))

    @property
    def standing(self) -> Standing:
        """What a checkpoint taken now would say."""
        state = self.engine.state
        states = {digest: own for service in state.services.values() for digest, own in service.states.items()}
        return Standing(
            log_offset=state.log_offset,
            version=state.config_version,
            closed_until=state.next_minute,
            states=states,
            gaps=tuple(state.clocks.gaps),
        )

    async def histories(
        self, *, since: Since | None = None, objectives: Sequence[Objective] = (), **retained: Any
    ) -> list[History]:
        """Returns what `qma backfill` would count; `retained` is as in `Memory`."""
        memory: Any = Memory(self, **retained)
        return await histories(memory, memory, self.job(objectives, since), self.decode)

    def job(self, objectives: Sequence[Objective] = (), since: Since | None = None) -> Job:
        """Returns what is to be counted of objectives, or of all."""
        version, current = len(self.configurations) - 1, self.configurations[-1]
        job, refused = prepare(current, version, 0, objectives or current.objectives, self.standing, since)
        assert not refused, [outcome.why_not for outcome in refused]
        return job

    def decode(self, topic: str, messages: Messages) -> Decoded:
        """Returns the columns of messages under the configuration in force."""
        return Decoding(to_decode_under(self.configurations[-1]), self.decoders).of(topic)(messages)

    def book(self, *sections: Backfill) -> None:
        """Writes sections to the log, as a process of its own."""
        incarnation = f"backfill-{len(self.log)}"
        for sequence, section in enumerate(sections):
            record = LogRecord(
                generation="1",
                partitions=1,
                incarnation=incarnation,
                sequence=sequence,
                config_version=len(self.configurations) - 1,
                sources=(),
                backfill=encode_backfill(section),
            )
            self.append(self.engine.now_ns, encode_record(record))


class Ingest:
    """An ingest process: its sessions, and its router."""

    def __init__(self, pipeline: Pipeline, incarnation: str, first: Mapping[tuple[str, int], int]) -> None:
        self._pipeline = pipeline
        self._router = Router(generation="1", partitions=1, incarnation=incarnation)
        self._sessions = tuple(
            Session(
                topic=pipeline.names[topic],
                topic_id=pipeline.ids[topic],
                partition=partition,
                id=incarnation,
                first_offset=first.get((topic, partition), 0),
                next_offset=first.get((topic, partition), 0),
            )
            for topic, partition in pipeline.messages
        )

    @property
    def offsets(self) -> dict[tuple[str, int], int]:
        """Where the sessions stand."""
        sessions = zip(self._pipeline.messages, self._sessions, strict=True)
        return {place: session.next_offset for place, session in sessions}

    def read(self, until_ns: int, *, version: int | None = None, now_ns: int | None = None) -> None:
        """Reads all messages before a time in one cycle, under the newest configuration or an older one."""
        pipeline = self._pipeline
        version = len(pipeline.configurations) - 1 if version is None else version
        current = pipeline.configurations[version]
        fetched = [self._fetched(source, until_ns) for source in range(len(self._sessions))]
        cycle = Cycle(sessions=self._sessions)
        decoding = Decoding(current, pipeline.decoders)
        decoders = [decoding.of(session.topic) for session in self._sessions]
        for piece in pieces([part for part in fetched if part.values]):
            for part, decoded in decode_piece(piece, decoders):
                cycle = cycle.added(part, decoded)
        self._sessions = cycle.sessions
        at_end = range(len(self._sessions))
        progress = progress_of(self._sessions, at_end=at_end, topic_partitions=pipeline.partitions)
        configuration = Configuration.of(version, current.encode(), current)
        [record] = self._router.route(cycle, configuration, progress).values()
        pipeline.append(until_ns if now_ns is None else now_ns, encode_record(record))

    def _fetched(self, source: int, until_ns: int) -> Fetched:
        session = self._sessions[source]
        listed = list(self._pipeline.messages.values())[source]
        end = next((i for i, (time_ns, _) in enumerate(listed) if time_ns >= until_ns), len(listed))
        offsets = range(session.next_offset, max(end, session.next_offset))
        return Fetched(
            source=source,
            offsets=list(offsets),
            times_ns=[listed[at][0] for at in offsets],
            values=[listed[at][1] for at in offsets],
            next_offset=offsets.stop,
        )


@dataclass(frozen=True)
class Record:
    """A record as a consumer returns it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes


class Memory:
    """The topics of a pipeline as `Topics` reads them.

    Args:
        pipeline: The pipeline.
        log_begins: First offset of the log that is retained.
        begins: First offset of each source that is retained, where it is not 0.
        ids: The ids of source topics, where they are not those that were read.
    """

    prefix = "qma."

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        log_begins: int = 0,
        begins: Mapping[tuple[str, int], int] | None = None,
        ids: Mapping[str, str] | None = None,
    ) -> None:
        self._records: dict[TopicPartition, list[Record]] = {
            TopicPartition("qma.shuffle", 0): _records("qma.shuffle", 0, pipeline.log, log_begins)
        }
        for (topic, partition), listed in pipeline.messages.items():
            kept = _records(topic, partition, listed, (begins or {}).get((topic, partition), 0))
            self._records[TopicPartition(topic, partition)] = kept
        self._ends = {TopicPartition(*place): len(listed) for place, listed in pipeline.messages.items()}
        self._ends[TopicPartition("qma.shuffle", 0)] = len(pipeline.log)
        self._ids = ids or {}

    def at(self, name: str, partition: int) -> TopicPartition:
        return TopicPartition(self.prefix + name, partition)

    async def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        counts = {name: sum(at.topic == name for at in self._ends) for name in names}
        return {
            name: TopicInfo(topic_id=self._ids.get(name, f"id-of-{name}"), partitions=count)  # type: ignore[arg-type]
            for name, count in counts.items()
        }

    async def stretches(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, Stretch]:
        return await self.stretches_since(places, None)

    async def stretches_since(
        self, places: Sequence[TopicPartition], time_ns: int | None
    ) -> dict[TopicPartition, Stretch]:
        found = {}
        for at in places:
            kept = [r.offset for r in self._records[at] if time_ns is None or r.timestamp >= time_ns // 1_000_000]
            found[at] = Stretch(first=kept[0] if kept else self._ends[at], end=self._ends[at])
        return found

    async def seek(self, stretches: Mapping[TopicPartition, Stretch]) -> None:
        pass

    async def records(self, stretches: Mapping[TopicPartition, Stretch]) -> AsyncIterator[Record]:
        for at, stretch in stretches.items():
            for record in self._records[at]:
                if stretch.first <= record.offset < stretch.end:
                    yield record


def _records(topic: str, partition: int, listed: Sequence[Message], begins: int) -> list[Record]:
    return [
        Record(topic, partition, offset, time_ns // 1_000_000, value)
        for offset, (time_ns, value) in enumerate(listed)
        if offset >= begins
    ]


async def published(kafka: LocalKafka, pipeline: Pipeline, prefix: str) -> None:
    """Writes what the sources and the log hold to the broker, with its own times."""
    records = [
        (pipeline.names[topic], partition, time_ns, value)
        for (topic, partition), listed in pipeline.messages.items()
        for time_ns, value in listed
    ]
    records += [(f"{prefix}shuffle", 0, time_ns, value) for time_ns, value in pipeline.log]
    producer = await ingest_producer(kafka.bootstrap)
    try:
        for topic, partition, time_ns, value in records:
            await producer.send(topic, value, partition=partition, timestamp_ms=time_ns // 1_000_000)
        await producer.flush()
    finally:
        await stop(producer)
