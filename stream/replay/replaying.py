"""Folds a partition of the log from its first record and holds what it puts out against the live events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from stream.core.engine import Engine, chunks
from stream.core.errors import IncompatibleError, StreamError
from stream.core.rendering import Rendered, render
from stream.kafka.clients import ConsumerRecord
from stream.kafka.state_reader import read_latest
from stream.replay.comparison import Comparison, Live, TopicResult
from stream.replay.reading import OUTPUTS, Stretch, Topics, time_ns_of

MAX_OFFSET = (1 << 63) - 1


class NotFoldable(StreamError):
    """A log record cannot be applied: a worker would stop here, too."""


@dataclass(slots=True, kw_only=True)
class PartitionReplay:
    """What came of one partition of the log.

    Args:
        partition: Its number.
        log: What the log held of it.
        saved_offset: Log offset of its last checkpoint; -1 where there is none.
        topics: What came of each topic.
        why_not: Why it, or the rest of it, was not compared; '' where it was.
    """

    partition: int
    log: Stretch
    saved_offset: int
    topics: dict[str, TopicResult] = field(default_factory=dict)
    why_not: str = ""


def fold_record(engine: Engine, record: ConsumerRecord) -> list[Rendered]:
    """Applies a log record and returns what it puts out, as it is written to the topics.

    Raises:
        IncompatibleError: Another version, generation or partition count wrote it.
        NotFoldable: It cannot be applied.
    """
    where = f"{record.topic}/{record.partition} offset {record.offset}"
    try:
        outputs = engine.apply(record.offset, time_ns_of(record), record.value or b"")
    except IncompatibleError as error:
        raise IncompatibleError(f"log record {where}: {error}") from error
    except Exception as error:
        raise NotFoldable(f"log record {where} cannot be applied: {error!r}; a worker would stop here, too") from error
    return [render(output) for output in outputs]


async def saved_offsets(topics: Topics, partitions: int) -> dict[int, int]:
    """Returns the log offset of each partition's last checkpoint; -1 where there is none.

    Raises:
        ConfigError: The state topic does not exist.
        UnavailableError: No broker answered.
    """
    latest = await read_latest(topics.bootstrap, f"{topics.prefix}state", range(partitions), {chunks.MANIFEST})
    return {p: chunks.log_offset_of(latest[p][chunks.MANIFEST]) if latest[p] else -1 for p in range(partitions)}


async def replay(topics: Topics, partition: int, *, saved_offset: int) -> PartitionReplay:
    """Returns how the events of one partition compare with a fold of its log.

    Args:
        topics: The pipeline's, connected.
        partition: Of the log.
        saved_offset: Log offset of its last checkpoint, read before this call; -1 where there is none.

    Raises:
        UnavailableError: The brokers stopped answering.
    """
    places = {name: topics.at(name, partition) for name in OUTPUTS}
    # What is published was in the log before: asked in this order, no event lies beyond the end of the log.
    live = await topics.settled_stretches(list(places.values()))
    log_at = topics.at("shuffle", partition)
    held = await topics.stretches([log_at])
    done = PartitionReplay(partition=partition, log=held[log_at], saved_offset=saved_offset)
    if done.log.first > 0:
        done.why_not = not_from_the_beginning(topics, partition, done.log)
        return done
    await topics.seek({**live, **held})
    streams = {name: _Ahead(topics.records({at: live[at]})) for name, at in places.items()}
    for stream in streams.values():
        await stream.begin()
    trimmed = [name for name in OUTPUTS if live[places[name]].first > 0]
    oldest = {name: _or_all(streams[name].next_offset) for name in trimmed}
    comparison = Comparison(partition, saved_offset=saved_offset, oldest=oldest)
    engine = Engine(partition)
    try:
        async for record in topics.records(held):
            folded = fold_record(engine, record)
            comparison.record(record.offset, folded, await _up_to(streams, record.offset))
    except NotFoldable as error:
        done.why_not = str(error)
    comparison.finish(await _up_to(streams, None))
    for name, stream in streams.items():
        comparison.topics[name].foreign = stream.foreign
    done.topics = {name: comparison.topics[name] for name in OUTPUTS}
    return done


def not_from_the_beginning(topics: Topics, partition: int, log: Stretch) -> str:
    """Returns why a log whose first records have expired cannot be folded, and what to do about it."""
    name = topics.prefix + "shuffle"
    return (
        f"{name}/{partition} begins at offset {log.first:,}: its first {log.first:,} records have expired, and the "
        "state that they led to is kept for the newest offset only, so nothing can be folded from here. To be able to "
        f"next time, keep the log for as long as you may want to replay it, from a pipeline's first day on: "
        f"kafka-configs --alter --entity-type topics --entity-name {name} --add-config retention.ms=-1"
    )


def _or_all(offset: int | None) -> int:
    """A topic that held events and holds none has dropped them all."""
    return MAX_OFFSET if offset is None else offset


class _Ahead:
    """Live events of one topic, of which the next one is known before it is taken."""

    def __init__(self, records: AsyncIterator[ConsumerRecord]) -> None:
        self.foreign = 0
        self._records = records
        self._next: Live | None = None

    @property
    def next_offset(self) -> int | None:
        """The log offset of the next event; None behind the last."""
        return None if self._next is None else self._next.offset

    async def begin(self) -> None:
        """Reads the first event."""
        self._next = await self._read()

    async def take(self, offset: int | None) -> list[Live]:
        """Returns the events up to a log offset; None: all that are left."""
        taken: list[Live] = []
        while self._next is not None and (offset is None or self._next.offset <= offset):
            taken.append(self._next)
            self._next = await self._read()
        return taken

    async def _read(self) -> Live | None:
        async for record in self._records:
            event = Live.of(record.value) if record.value is not None else None
            if event is not None:
                return event
            if record.value is not None:
                self.foreign += 1
        return None


async def _up_to(streams: dict[str, _Ahead], offset: int | None) -> dict[str, list[Live]]:
    taken = {name: await stream.take(offset) for name, stream in streams.items()}
    return {name: events for name, events in taken.items() if events}
