"""Writes log records as an ingest would, for tests of the fold.

`LogWriter` is the short way: one process, one source, one message per event. `SourceTopic` and `Reader` are the long
one: messages of any number of events in several sources, read by several processes in any split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stream.core.columns import Kind, Receipts, RowFlag, Rows
from stream.core.engine import Engine
from stream.core.events import Output
from stream.core.log import LogRecord, LostRange, Progress, SourceProgress, SourceRange, encode_record
from stream.core.otlp.attributes import Value, canonical
from stream.core.points import Points
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.core.units import MINUTE_NS, WEIGHT_ONE

SERVICE = "prod/shop/checkout"
T0_NS = 29_400_000 * MINUTE_NS  # a full minute, and a full hour


def bundle(*objectives: Objective, topics: Sequence[str] = ("events",), **settings: Any) -> Bundle:
    """Returns a configuration with one partition."""
    return Bundle(
        pipeline="test",
        generation="1",
        partitions=1,
        sources=tuple(Source(topic=topic, encoding="flat") for topic in topics),
        objectives=objectives,
        settings=Settings(**settings),
    )


def objective(name: str = "availability", target: str = "0.99", **rest: Any) -> Objective:
    """Returns an objective on SERVICE with a window of 30 days."""
    return Objective(**{"service": SERVICE, "name": name, "target": target, "window_minutes": 43_200, **rest})


@dataclass(frozen=True)
class Event:
    """One event of a service, as a test writes it down."""

    end_ns: int
    bad: bool = False
    service: str = SERVICE
    version: str = "v1"
    duration_ns: int = 1_000_000
    kind: int = Kind.SERVER
    weight: int = WEIGHT_ONE
    flags: int = 0
    count: int = 1
    trace_id: int = 0
    attributes: tuple[tuple[str, Value], ...] = ()


def rows(events: Sequence[Event], first_offset: int) -> Rows:
    """Returns the rows of events at consecutive offsets."""
    return rows_at([(0, first_offset + i, event) for i, event in enumerate(events)])


def rows_at(placed: Sequence[tuple[int, int, Event]]) -> Rows:
    """Returns the rows of (source, offset, event)."""
    events = [event for _, _, event in placed]
    services = {name: i for i, name in enumerate(dict.fromkeys(e.service for e in events))}
    versions = {name: i for i, name in enumerate(dict.fromkeys(e.version for e in events))}
    sets = {text: i for i, text in enumerate(dict.fromkeys(["", *(canonical(dict(e.attributes)) for e in events)]))}
    n = len(events)
    return Rows.of(
        n,
        source=np.array([source for source, _, _ in placed], "int16"),
        offset=np.array([offset for _, offset, _ in placed], "int64"),
        service=np.array([services[e.service] for e in events], "int32"),
        version=np.array([versions[e.version] for e in events], "int32"),
        kind=np.array([e.kind for e in events], "int8"),
        status=np.array([2 if e.bad else 0 for e in events], "int8"),
        end_ns=np.array([e.end_ns for e in events], "int64"),
        duration_ns=np.array([e.duration_ns for e in events], "int64"),
        count=np.array([e.count for e in events], "int64"),
        weight=np.array([e.weight for e in events], "int64"),
        flags=np.array([e.flags | (RowFlag.FAILED if e.bad else 0) for e in events], "uint8"),
        trace_hi=np.array([e.trace_id >> 64 for e in events], "uint64").view("int64"),
        trace_lo=np.array([e.trace_id & ((1 << 64) - 1) for e in events], "uint64").view("int64"),
        attributes=np.array([sets[canonical(dict(e.attributes))] for e in events], "int32"),
        services=tuple(services),
        versions=tuple(versions),
        attribute_sets=tuple(sets),
    )


def receipts(first_offset: int, count: int) -> Receipts:
    """Returns the receipt of a run of clean one-item messages."""
    return receipts_of([(0, first_offset, first_offset + count - 1, count, 0)])


def receipts_of(entries: Sequence[tuple[int, int, int, int, int]]) -> Receipts:
    """Returns receipts of (source, first offset, last offset, items, of these malformed)."""
    columns = np.array(entries, "int64").reshape(-1, 5).T
    return Receipts(
        source=columns[0].astype("int16"),
        first_offset=columns[1],
        last_offset=columns[2],
        items=columns[3],
        rejected=columns[4],
        reason=(columns[4] > 0).astype("int16"),
        reasons=("", "malformed"),
        digests=tuple(bytes(32) if rejected else None for *_, rejected in entries),
        details=tuple("not JSON" if rejected else None for *_, rejected in entries),
    )


@dataclass
class LogWriter:
    """An ingest process with one session on one source partition."""

    bundle: Bundle
    incarnation: str = "ingest-1"
    config_version: int = 0
    next_offset: int = 0
    first_offset: int = 0
    sequence: int = 0
    log: list[tuple[int, bytes]] = field(default_factory=list)
    topic_id: str = "topic-id"

    def record(
        self,
        events: Iterable[Event] = (),
        *,
        until_ns: int | None = None,
        at_end: bool = False,
        now_ns: int | None = None,
        configure: bool | None = None,
        lost: int = 0,
        points: Points | None = None,
    ) -> bytes:
        """Returns the next record: events and metric points, their receipt, and progress up to `until_ns`.

        `configure` says whether the configuration travels with it; by default with the first record. `lost` offsets
        before the events expired unread.
        """
        listed = list(events)
        lost_first, first = self.next_offset, self.next_offset + lost
        self.next_offset = first + len(listed) + (0 if points is None else len(points))
        count = self.next_offset - first
        if points is not None:
            points = replace(points, offset=np.arange(first + len(listed), self.next_offset))
        source = SourceRange(
            topic="events",
            topic_id=self.topic_id,
            partition=0,
            session=self.incarnation,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
        )
        progress = SourceProgress(source=0, began_ns=T0_NS, until_ns=until_ns, at_end=at_end)
        losses = (LostRange(source=0, first_offset=lost_first, next_offset=first),) if lost else ()
        configure = self.sequence == 0 if configure is None else configure
        value = encode_record(
            LogRecord(
                generation=self.bundle.generation,
                partitions=self.bundle.partitions,
                incarnation=self.incarnation,
                sequence=self.sequence,
                config_version=self.config_version,
                sources=(source,),
                config=self.bundle.encode() if configure else None,
                rows=rows(listed, first) if listed else None,
                points=points,
                receipts=receipts(first, count) if count else None,
                progress=None if until_ns is None and not at_end and not lost else _progress(progress, losses),
            )
        )
        self.sequence += 1
        self.log.append((now_ns if now_ns is not None else (until_ns or T0_NS), value))
        return value


def _progress(entry: SourceProgress, lost: tuple[LostRange, ...] = ()) -> Progress:
    return Progress(sources=(entry,), topic_partitions={"events": 1}, lost=lost)


@dataclass(frozen=True)
class Message:
    """One message of a source: its events, and how many of its items were malformed."""

    time_ns: int
    events: tuple[Event, ...] = ()
    malformed: int = 0

    @property
    def items(self) -> int:
        """Items received."""
        return sum(event.count for event in self.events) + self.malformed


@dataclass
class Reader:
    """An ingest process with a session on one source, begun at a committed offset."""

    bundle: Bundle
    messages: Sequence[Message]
    incarnation: str
    first_offset: int = 0
    config_version: int = 0
    topic: str = "events"
    partition: int = 0
    topic_id: str = "topic-id"
    position: int = -1
    sequence: int = 0

    def __post_init__(self) -> None:
        self.position = self.first_offset

    def read(self, count: int, *, progress: bool = True) -> bytes:
        """Returns the record of the next `count` messages."""
        first, self.position = self.position, min(self.position + count, len(self.messages))
        offsets = range(first, self.position)
        placed = [(0, offset, event) for offset in offsets for event in self.messages[offset].events]
        source = SourceRange(
            topic=self.topic,
            topic_id=self.topic_id,
            partition=self.partition,
            session=self.incarnation,
            first_offset=self.first_offset,
            next_offset=self.position,
        )
        entries = _runs([(offset, self.messages[offset]) for offset in offsets])
        value = encode_record(
            LogRecord(
                generation=self.bundle.generation,
                partitions=self.bundle.partitions,
                incarnation=self.incarnation,
                sequence=self.sequence,
                config_version=self.config_version,
                sources=(source,),
                config=self.bundle.encode() if self.sequence == 0 else None,
                rows=rows_at(placed) if placed else None,
                receipts=receipts_of(entries) if entries else None,
                progress=self._progress() if progress else None,
            )
        )
        self.sequence += 1
        return value

    def _progress(self) -> Progress:
        times = [message.time_ns for message in self.messages[self.first_offset : self.position]]
        entry = SourceProgress(
            source=0, began_ns=times[0] if times else None, until_ns=max(times, default=None), at_end=False
        )
        return Progress(sources=(entry,), topic_partitions={self.topic: 1})


def _runs(messages: Sequence[tuple[int, Message]]) -> list[tuple[int, int, int, int, int]]:
    """Returns receipts; consecutive clean one-item messages share one."""
    entries: list[tuple[int, int, int, int, int]] = []
    in_run = False
    for offset, message in messages:
        clean = message.items == 1 and not message.malformed
        if clean and in_run:
            source, first, _, items, rejected = entries[-1]
            entries[-1] = (source, first, offset, items + 1, rejected)
        else:
            entries.append((0, offset, offset, message.items, message.malformed))
        in_run = clean
    return entries


def run(log: Iterable[tuple[int, bytes]], engine: Engine | None = None) -> tuple[Engine, list[Output]]:
    """Folds a log from its beginning, or from where `engine` is. Returns the engine and all outputs."""
    engine = engine or Engine(0)
    outputs: list[Output] = []
    for offset, (time_ns, value) in enumerate(log):
        if offset > engine.log_offset:
            outputs += engine.apply(offset, time_ns, value)
    return engine, outputs


def steady(
    minutes: int, per_minute: int, *, start: int = 0, bad_every: int = 0, version: str = "v1"
) -> list[list[Event]]:
    """Returns `per_minute` events in each of `minutes` minutes from minute `start`; every `bad_every`-th is bad."""
    batches = []
    for minute in range(start, start + minutes):
        base = T0_NS + minute * MINUTE_NS
        step = MINUTE_NS // per_minute
        batches.append(
            [
                Event(base + i * step, bad=bool(bad_every) and i % bad_every == 0, version=version)
                for i in range(per_minute)
            ]
        )
    return batches


def minute_by_minute(writer: LogWriter, batches: Iterable[Sequence[Event]], *, start: int = 0, lag_s: int = 0) -> None:
    """Writes a record per minute: the events of minute `start`, `start` + 1, …, read up to the end of that minute.

    `lag_s` is how far `now` is ahead of that end.
    """
    for i, events in enumerate(batches, start):
        until_ns = T0_NS + (i + 1) * MINUTE_NS
        writer.record(events, until_ns=until_ns, now_ns=until_ns + lag_s * 1_000_000_000)
