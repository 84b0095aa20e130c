"""Writes log records as an ingest would, for tests of the fold: one source, one destination."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.core.columns import NO_CODE, Kind, Receipts, RowFlag, Rows
from stream.core.engine import Engine
from stream.core.events import Output
from stream.core.log import LogRecord, Progress, SourceProgress, SourceRange, encode_record
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.core.units import MINUTE_NS, WEIGHT_ONE

SERVICE = "prod/shop/checkout"
T0_NS = 29_400_000 * MINUTE_NS  # a full minute, and a full hour


def bundle(*objectives: Objective, **settings: Any) -> Bundle:
    """Returns a configuration with one source topic and one partition."""
    return Bundle(
        pipeline="test",
        generation="1",
        partitions=1,
        sources=(Source(topic="events", encoding="flat"),),
        objectives=objectives,
        settings=Settings(**settings),
    )


def objective(name: str = "availability", target: str = "0.99", **rest: Any) -> Objective:
    """Returns an objective on SERVICE with a window of 30 days."""
    return Objective(service=SERVICE, name=name, target=target, window_minutes=43_200, **rest)


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


def rows(events: Sequence[Event], first_offset: int) -> Rows:
    """Returns the rows of events at consecutive offsets."""
    services = tuple(dict.fromkeys(e.service for e in events))
    versions = tuple(dict.fromkeys(e.version for e in events))
    n = len(events)
    return Rows(
        source=np.zeros(n, "int16"),
        offset=np.arange(first_offset, first_offset + n),
        service=np.array([services.index(e.service) for e in events], "int32"),
        version=np.array([versions.index(e.version) for e in events], "int32"),
        kind=np.array([e.kind for e in events], "int8"),
        status=np.array([2 if e.bad else 0 for e in events], "int8"),
        code=np.full(n, NO_CODE, "int16"),
        error_type=np.zeros(n, "int32"),
        end_ns=np.array([e.end_ns for e in events], "int64"),
        duration_ns=np.array([e.duration_ns for e in events], "int64"),
        count=np.array([e.count for e in events], "int64"),
        weight=np.array([e.weight for e in events], "int64"),
        flags=np.array([e.flags | (RowFlag.FAILED if e.bad else 0) for e in events], "uint8"),
        services=services,
        versions=versions,
        error_types=("",),
    )


def receipts(first_offset: int, count: int) -> Receipts:
    """Returns the receipt of a run of clean one-item messages."""
    return Receipts(
        source=np.zeros(1, "int16"),
        first_offset=np.array([first_offset]),
        last_offset=np.array([first_offset + count - 1]),
        items=np.array([count]),
        rejected=np.zeros(1, "int64"),
        reason=np.zeros(1, "int16"),
        reasons=("",),
        digests=(None,),
        details=(None,),
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
    ) -> bytes:
        """Returns the next record: events, their receipt, and progress up to `until_ns`."""
        listed = list(events)
        first, self.next_offset = self.next_offset, self.next_offset + len(listed)
        source = SourceRange(
            topic="events",
            topic_id=self.topic_id,
            partition=0,
            session=self.incarnation,
            first_offset=self.first_offset,
            next_offset=self.next_offset,
        )
        progress = SourceProgress(source=0, began_ns=T0_NS, until_ns=until_ns, at_end=at_end)
        value = encode_record(
            LogRecord(
                generation=self.bundle.generation,
                partitions=self.bundle.partitions,
                incarnation=self.incarnation,
                sequence=self.sequence,
                config_version=self.config_version,
                sources=(source,),
                config=self.bundle.encode() if self.sequence == 0 else None,
                rows=rows(listed, first) if listed else None,
                receipts=receipts(first, len(listed)) if listed else None,
                progress=None if until_ns is None and not at_end else _progress(progress),
            )
        )
        self.sequence += 1
        self.log.append((now_ns if now_ns is not None else (until_ns or T0_NS), value))
        return value


def _progress(entry: SourceProgress) -> Progress:
    return Progress(sources=(entry,), topic_partitions={"events": 1})


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
