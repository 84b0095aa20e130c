"""Reads stretches of the log and of the output topics, as a reader of committed records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from stream.core.errors import ConfigError, UnavailableError
from stream.kafka.clients import Consumer, ConsumerRecord, Guard, KafkaError, TopicPartition, assigned_reader, stop
from stream.kafka.read_to_end import STALLED_S
from stream.kafka.topic_ids import TopicInfo, describe

OUTPUTS = ("sli", "burn-rate", "budget", "certificate", "deadletter", "status")
"""Names of the output topics without the prefix; each has as many partitions as the log."""

_POLL_MS = 200
_MILLISECOND_NS = 1_000_000


def time_ns_of(record: ConsumerRecord) -> int:
    """Returns the time of a record as the fold takes it."""
    return record.timestamp * _MILLISECOND_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Offsets [first, end) that a partition held when it was asked."""

    first: int
    end: int


class Topics:
    """The topics of one pipeline, read with one consumer. Use it as an asynchronous context manager.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        prefix: What the names of the pipeline's topics begin with.
        foreign: The topics are not ours, but sources: they are read as the ingest reads them.
    """

    def __init__(self, bootstrap: str, prefix: str, *, foreign: bool = False) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self._foreign = foreign
        self._reader: Consumer | None = None
        self._has_read = False

    async def __aenter__(self) -> Topics:
        """Connects.

        Raises:
            UnavailableError: No broker answered.
        """
        self._reader = await self._connect()
        return self

    async def _connect(self) -> Consumer:
        if self._foreign:
            return await assigned_reader(self.bootstrap, guard=Guard())
        return await assigned_reader(self.bootstrap)

    async def __aexit__(self, *_: object) -> None:
        """Disconnects."""
        if self._reader is not None:
            await stop(self._reader)

    @property
    def reader(self) -> Consumer:
        """The consumer."""
        assert self._reader is not None, "`async with` comes first"
        return self._reader

    def at(self, name: str, partition: int) -> TopicPartition:
        """Returns a partition of one of the pipeline's topics, named without the prefix."""
        return TopicPartition(self.prefix + name, partition)

    async def describe(self, names: Collection[str]) -> dict[str, TopicInfo]:
        """Returns id and number of partitions of those topics that exist, by their whole names.

        Raises:
            UnavailableError: No broker answered.
        """
        return await describe(self.reader, names)

    async def partitions(self, *names: str) -> int:
        """Returns the number of partitions of the log.

        Raises:
            ConfigError: One of the named topics, or the log, does not exist.
            UnavailableError: No broker answered.
        """
        wanted = [self.prefix + name for name in ("shuffle", *names)]
        found = await self.describe(wanted)
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise ConfigError(
                f"no topic {', '.join(missing)} at {self.bootstrap}; create the pipeline's topics with "
                "`qma topics apply`"
            )
        return found[wanted[0]].partitions

    async def stretches(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Stretch]:
        """Returns what each partition holds now.

        Raises:
            UnavailableError: No broker says.
        """
        await self._assign(partitions)
        try:
            async with asyncio.timeout(STALLED_S):
                firsts = await self.reader.beginning_offsets(partitions)
                ends = await self.reader.end_offsets(partitions)
        except (KafkaError, TimeoutError) as error:
            raise _unreadable(partitions, error) from error
        return {at: Stretch(first=firsts[at], end=ends[at]) for at in partitions}

    async def stretches_since(
        self, partitions: Sequence[TopicPartition], time_ns: int | None
    ) -> dict[TopicPartition, Stretch]:
        """Returns what each partition holds now, from the first record of a time on; None: from its first record.

        Raises:
            UnavailableError: No broker says.
        """
        held = await self.stretches(partitions)
        if time_ns is None or not partitions:
            return held
        since_ms = max(0, time_ns) // _MILLISECOND_NS
        try:
            async with asyncio.timeout(STALLED_S):
                found = await self.reader.offsets_for_times(dict.fromkeys(partitions, since_ms))
        except (KafkaError, TimeoutError) as error:
            raise _unreadable(partitions, error) from error
        return {
            at: Stretch(first=found[at].offset if found.get(at) is not None else stretch.end, end=stretch.end)
            for at, stretch in held.items()
        }

    async def settled_stretches(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Stretch]:
        """Returns what each partition holds once every transaction that is open now has ended.

        A commit reaches the partitions of a transaction one after the other: without the wait a checkpoint could be
        seen in one topic and not yet in another.

        Raises:
            UnavailableError: No broker says, or a transaction stays open for longer than any may.
        """
        other = await assigned_reader(self.bootstrap, isolation="read_uncommitted")
        other.assign(partitions)
        try:
            async with asyncio.timeout(STALLED_S):
                wanted = await other.end_offsets(partitions)
                while True:
                    held = await self.stretches(partitions)
                    if all(held[at].end >= wanted[at] for at in partitions):
                        return held
                    await asyncio.sleep(_POLL_MS / 1000)
        except (KafkaError, TimeoutError) as error:
            raise _unreadable(partitions, error) from error
        finally:
            await stop(other)

    async def seek(self, stretches: Mapping[TopicPartition, Stretch]) -> None:
        """Makes ready to read these stretches, and nothing else, with `records`.

        Raises:
            UnavailableError: No broker answered.
        """
        await self._assign(list(stretches))
        for at, stretch in stretches.items():
            self.reader.seek(at, stretch.first)

    async def records(self, stretches: Mapping[TopicPartition, Stretch]) -> AsyncIterator[ConsumerRecord]:
        """Yields the records of some of the partitions that `seek` was given, each partition in its order.

        Raises:
            UnavailableError: The brokers stopped answering.
        """
        self._has_read = True
        behind = {at for at, stretch in stretches.items() if stretch.first < stretch.end}
        while behind:
            try:
                async with asyncio.timeout(STALLED_S):
                    read = await self._some(behind, stretches)
            except (KafkaError, TimeoutError) as error:
                raise _unreadable(list(behind), error) from error
            for record in read:
                yield record

    async def _assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Assigns partitions, to a new consumer where this one was reading.

        A consumer that has read on waits at the broker for half a second, on partitions that nobody wants any more. One
        that knows its topics is told their offsets at once, otherwise a tenth of a second is lost for each topic.
        """
        if self._has_read:
            await stop(self.reader)
            self._reader, self._has_read = await self._connect(), False
        if self.reader.assignment() != set(partitions):
            self.reader.assign(partitions)

    async def _some(
        self, behind: set[TopicPartition], stretches: Mapping[TopicPartition, Stretch]
    ) -> list[ConsumerRecord]:
        """Returns further records, and takes out of `behind` what has been read to its end."""
        while behind:
            read = await self.reader.getmany(*behind, timeout_ms=_POLL_MS)
            for at in list(behind):
                if await self.reader.position(at) >= stretches[at].end:
                    behind.discard(at)
            found = [record for at, some in read.items() for record in some if record.offset < stretches[at].end]
            if found:
                return found
        return []


def _unreadable(partitions: Sequence[TopicPartition], error: BaseException) -> UnavailableError:
    topics = ", ".join(sorted({at.topic for at in partitions}))
    return UnavailableError(f"{topics} cannot be read ({error!r}); look at the brokers, then try again")
