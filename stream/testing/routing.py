"""What an ingest process makes of what it reads: log records. The simulator runs any implementation of `Routing`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import orjson

from stream.core.columns import Array, Receipts
from stream.core.indicators import Indicators
from stream.core.log import LogRecord, LostRange, Progress, SourceProgress, SourceRange, encode_record
from stream.core.otlp import Messages
from stream.core.otlp.reference import flat
from stream.core.service_key import murmur2, partition_of
from stream.core.slo.spec import Bundle
from stream.core.units import WEIGHT_ONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSession:
    """One assignment of one source partition to one process, and how far it has been read.

    Args:
        id: Unique per assignment.
        first_offset: The committed offset that the session began at.
        next_offset: Everything in [first_offset, next_offset) was read.
        began_ns: Timestamp of the first message read; None while there is none.
        until_ns: Largest timestamp of a message read; None while there is none.
    """

    topic: str
    topic_id: str
    partition: int
    id: str
    first_offset: int
    next_offset: int
    began_ns: int | None = None
    until_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive messages of one source; `source` is its index among the sessions of the process."""

    source: int
    offsets: Sequence[int]
    times_ns: Sequence[int]
    values: Sequence[bytes | None]
    next_offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that one cycle is made of.

    Args:
        sessions: As they were before the cycle.
        batches: What was read since.
        config_version: Of the bundle in force.
        progress: The reading positions are due.
        at_end: Sources whose end is not beyond what was read.
        topic_partitions: The number of partitions of each source topic.
        lost: Offsets that expired unread.
    """

    sessions: tuple[ReadSession, ...]
    batches: tuple[Batch, ...]
    config_version: int
    bundle: Bundle
    progress: bool
    at_end: frozenset[int]
    topic_partitions: dict[str, int]
    lost: tuple[LostRange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The records of a cycle by destination, and the sessions after it."""

    records: dict[int, bytes]
    sessions: tuple[ReadSession, ...]


class Routing(Protocol):
    """The routing of one incarnation; it counts its records from 0 at each destination."""

    def route(self, reading: Reading) -> Routed:
        """Returns the records of a cycle; each will be sent, and none twice."""


RoutingOf = Callable[[str], Routing]
"""Makes the routing of an incarnation."""


def advanced(session: ReadSession, batch: Batch) -> ReadSession:
    """Returns the session after a batch."""
    times = batch.times_ns
    began_ns, until_ns = session.began_ns, session.until_ns
    if times:
        began_ns = times[0] if began_ns is None else began_ns
        until_ns = max(times) if until_ns is None else max(until_ns, *times)
    return replace(session, next_offset=batch.next_offset, began_ns=began_ns, until_ns=until_ns)


class FlatRouting:
    """The shortest routing that keeps the rules, for flat events and, read back, for indicators.

    Args:
        incarnation: Unique per process start.
    """

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._sent: dict[int, int] = {}
        self._config_sent: dict[int, int] = {}

    def route(self, reading: Reading) -> Routed:
        """Returns the records of a cycle and the sessions after it."""
        sessions = list(reading.sessions)
        for batch in reading.batches:
            sessions[batch.source] = advanced(sessions[batch.source], batch)
        own = {source.topic for source in reading.bundle.sources if not source.is_telemetry}
        events = [batch for batch in reading.batches if sessions[batch.source].topic not in own]
        decoded = flat.decode(
            Messages(
                source=np.array([batch.source for batch in events for _ in batch.offsets], "int16"),
                offset=np.array([offset for batch in events for offset in batch.offsets], "int64"),
                values=[value for batch in events for value in batch.values],
            )
        )
        count = reading.bundle.partitions
        ranges = tuple(_covered(session) for session in sessions)
        service = np.array([partition_of(name, count) for name in decoded.rows.services], "int64")
        home = np.array([murmur2(source.id.encode()) % count for source in ranges], "int64")
        said = [row for batch in reading.batches if batch not in events for row in indicator_rows(batch)]
        receipts = _with_receipts(decoded.receipts, said)
        said_to = _copies(said, reading.bundle, home)
        rows_to, receipts_to = service[decoded.rows.service], home[receipts.source]
        destinations = sorted({*rows_to.tolist(), *receipts_to.tolist(), *said_to})
        destinations = list(range(count)) if reading.progress else destinations
        records = {
            at: LogRecord(
                generation=reading.bundle.generation,
                partitions=count,
                incarnation=self._incarnation,
                sequence=self._sequence(at),
                config_version=reading.config_version,
                sources=ranges,
                config=self._config(at, reading),
                rows=decoded.rows.take(rows_to == at),
                indicators=Indicators.of(said_to[at]) if at in said_to else None,
                receipts=_take(receipts, np.flatnonzero(receipts_to == at)),
                progress=_progress(sessions, reading) if reading.progress else None,
            )
            for at in destinations
        }
        encoded = {at: encode_record(record) for at, record in records.items()}
        return Routed(records=encoded, sessions=tuple(sessions))

    def _sequence(self, destination: int) -> int:
        self._sent[destination] = self._sent.get(destination, -1) + 1
        return self._sent[destination]

    def _config(self, destination: int, reading: Reading) -> bytes | None:
        if self._config_sent.get(destination) == reading.config_version:
            return None
        self._config_sent[destination] = reading.config_version
        return reading.bundle.encode()


def indicator_rows(batch: Batch) -> list[dict[str, Any]]:
    """Returns a row for each indicator among the messages of a batch; whoever sends it says where it counts."""
    rows: list[dict[str, Any]] = []
    for offset, value in zip(batch.offsets, batch.values, strict=True):
        event = orjson.loads(value or b"{}")
        if event.get("type") != "qma.sli.v1":
            continue
        data = event["data"]
        minute, flags = data["minute"], data["flags"]
        began = datetime.fromisoformat(minute["start"])
        rows.append(
            {
                "source": batch.source,
                "offset": offset,
                "service": data["service"],
                "objective": data["objective"],
                "minute": int(began.timestamp()) // 60,
                "revision": data["revision"],
                "events": minute["n"],
                "weight": round(minute["total"] * WEIGHT_ONE),
                "weight_bad": round((minute["total"] - minute["good"]) * WEIGHT_ONE),
                "gap": flags["gap"],
            }
        )
    return rows


def _copies(said: Sequence[dict[str, Any]], bundle: Bundle, home: Array) -> dict[int, list[dict[str, Any]]]:
    """Returns the indicators of each destination: home, where they count, and of everything that asks for them."""
    wanted = {
        name: {partition_of(objective.service, bundle.partitions) for objective in asking}
        for name, asking in bundle.asked.items()
    }
    copies: dict[int, list[dict[str, Any]]] = {}
    for row in said:
        counts_at = int(home[row["source"]])
        for at in {counts_at, *wanted.get((row["service"], row["objective"]), ())}:
            copies.setdefault(at, []).append({**row, "counts": at == counts_at})
    return copies


def _with_receipts(receipts: Receipts, said: Sequence[dict[str, Any]]) -> Receipts:
    """Returns receipts, and one for each indicator."""
    if not said:
        return receipts
    source = np.array([row["source"] for row in said], "int16")
    offset = np.array([row["offset"] for row in said], "int64")
    one, none = np.ones(len(said), np.int64), np.zeros(len(said), np.int64)
    added = {"source": source, "first_offset": offset, "last_offset": offset, "items": one, "rejected": none}
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(receipts, name), added.get(name, none)]).astype(dtype)
        for name, dtype in Receipts.DTYPES.items()
    }
    return Receipts(
        **arrays,
        reasons=receipts.reasons or ("",),
        digests=(*receipts.digests, *[None] * len(said)),
        details=(*receipts.details, *[None] * len(said)),
    )


def _covered(session: ReadSession) -> SourceRange:
    return SourceRange(
        topic=session.topic,
        topic_id=session.topic_id,
        partition=session.partition,
        session=session.id,
        first_offset=session.first_offset,
        next_offset=session.next_offset,
    )


def _progress(sessions: Sequence[ReadSession], reading: Reading) -> Progress:
    return Progress(
        sources=tuple(
            SourceProgress(source=at, began_ns=s.began_ns, until_ns=s.until_ns, at_end=at in reading.at_end)
            for at, s in enumerate(sessions)
        ),
        topic_partitions=reading.topic_partitions,
        lost=reading.lost,
    )


def _take(receipts: Receipts, index: Array) -> Receipts:
    arrays: dict[str, Any] = {name: getattr(receipts, name)[index] for name in Receipts.DTYPES}
    return Receipts(
        **arrays,
        reasons=receipts.reasons,
        digests=tuple(receipts.digests[at] for at in index.tolist()),
        details=tuple(receipts.details[at] for at in index.tolist()),
    )
