"""The ingest's loop: fetch, decode, route, send, wait for every acknowledgement, commit; in order.

A cycle ends when it is full, after half a second, or when progress is due. One record per destination and
cycle, all acknowledged, then the offsets are committed; any failed send ends the process, because the client
would send later records before we heard of the lost one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass

from stream.core.errors import UnavailableError
from stream.core.log import LostRange, Progress
from stream.ingest.configuration import ConfigurationReader
from stream.ingest.cycle import (
    Cycle,
    Decode,
    Fetched,
    Session,
    columns_bytes_max,
    decode_piece,
    invalid_texts,
    is_news,
    pieces,
    progress_of,
    sources_at_end,
)
from stream.ingest.decoding import Decoders, Decoding
from stream.ingest.fetching import parts_of
from stream.ingest.routing import Router
from stream.ingest.shuffle import ACKNOWLEDGED_S, IngestStats, ShuffleLog
from stream.ingest.sources import Assignment, Sources, Start, commit
from stream.kafka.clients import (
    BATCH_BYTES_MAX,
    LOST_MEMBERSHIP,
    Consumer,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicPartition,
)

LOG = logging.getLogger(__name__)


_FETCH_MESSAGES = 16_384
_REBALANCE_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOptions:
    """What an ingest process is told.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        prefix: What our topics' names begin with.
        group: The consumer group; None stands for `<prefix>ingest`.
        start: Where to begin in a source partition that the group has never committed.
        create_time: The shuffle topic has CreateTime: records carry the highest source timestamp read so far.
        cycle_s: A cycle that holds something is sent after this time.
        progress_s: Reading positions go to every partition this often.
        compiled: Go over to compiled decoders as soon as they are made.
        batch_bytes_max: A record batch of a source that decompresses to more is rejected as too large.
    """

    bootstrap: str
    prefix: str = "qma."
    group: str | None = None
    start: Start = "earliest"
    create_time: bool = False
    cycle_s: float = 0.5
    progress_s: float = 1.0
    compiled: bool = True
    batch_bytes_max: int = BATCH_BYTES_MAX


class IngestLoop:
    """The loop. State: the cycle being filled, what was last reported, and the assignment both belong to."""

    def __init__(
        self,
        *,
        options: IngestOptions,
        stats: IngestStats,
        consumer: Consumer,
        assignment: Assignment,
        sources: Sources,
        configurations: ConfigurationReader,
        router: Router,
        log: ShuffleLog,
    ) -> None:
        self._options = options
        self._stats = stats
        self._consumer = consumer
        self._assignment = assignment
        self._sources = sources
        self._configurations = configurations
        self._router = router
        self._log = log
        self._applied = configurations.newest
        self._decoders = Decoders(compile=options.compiled, compiled=stats.compiled)
        self._decoding = Decoding(self._applied.bundle, self._decoders)
        self._subscribed = frozenset(sources.topics)
        self._begun_at = -1
        self._cycle = Cycle(sessions=())
        self._cycle_began_s = 0.0
        self._progress_due_s = 0.0
        self._lost: tuple[LostRange, ...] = ()
        self._reported: Progress | None = None
        self._is_owed_progress = False
        self._ends: asyncio.Future[dict[int, int]] | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Runs cycles until `stopping` is set, and finishes the one begun."""
        try:
            await self._run(stopping)
        finally:
            self._forget_ends()
            await self._decoders.close()

    async def _run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            if not self._owns_what_it_reads():
                await self._begin()
                continue
            if not self._cycle.touched:
                await self._adopt_newest()
            await self._take(await self._fetch(), stopping)
            if self._owns_what_it_reads() and self._is_due():
                await self._finish()
        if self._owns_what_it_reads():
            await self._leave()

    def _owns_what_it_reads(self) -> bool:
        return self._begun_at == self._assignment.changes

    async def _begin(self) -> None:
        """Drops what was read under an earlier assignment and begins new sessions."""
        changes = self._assignment.changes
        sessions = await self._sources.begin()
        if sessions is None:
            # Only who asks for messages takes part in a rebalance. What comes is dropped: sessions seek.
            with contextlib.suppress(NoOffsetForPartitionError, OffsetOutOfRangeError):
                await self._consumer.getmany(timeout_ms=int(_REBALANCE_POLL_S * 1000))
            await asyncio.sleep(0)
            return
        if changes != self._assignment.changes:
            return
        self._begun_at, self._is_owed_progress = changes, False
        self._lost, self._reported, self._progress_due_s = (), None, 0.0
        self._forget_ends()
        self._stats.lag = {}
        LOG.info("reads %d source partitions", len(sessions))
        self._stats.caught_up = not sessions
        self._new_cycle(sessions)

    def _new_cycle(self, sessions: tuple[Session, ...]) -> None:
        self._cycle = Cycle(sessions=sessions)
        self._cycle_began_s = time.monotonic()

    async def _leave(self) -> None:
        """Finishes what is begun, and tells every partition how far it got: perhaps nobody reads these sources on."""
        if self._cycle.touched or self._lost or self._is_owed_progress:
            self._progress_due_s = 0.0
            await self._finish()

    async def _adopt_newest(self) -> None:
        """Goes over to the newest configuration, between cycles: each is decoded under one version.

        Topics that it names but that do not exist are waited for: every cycle looks for them.
        """
        newest = self._configurations.newest
        wanted = {source.topic for source in newest.bundle.sources}
        if not self._subscribed <= wanted:
            await self._leave()
        self._applied = newest
        readable = frozenset(wanted & self._sources.topics.keys())
        if readable == self._subscribed:
            return
        if not readable:
            raise UnavailableError(
                f"none of the sources in configuration {self._applied.configuration.version} exists: "
                f"{', '.join(sorted(wanted)) or 'it names none'}; this process ends, the next waits for one"
            )
        LOG.info("sources are now %s", ", ".join(sorted(readable)))
        self._sources.asked_again |= self._sources.indicators in readable - self._subscribed
        self._subscribed = readable
        self._assignment.renounce()
        self._consumer.subscribe(sorted(readable), listener=self._assignment)

    async def _fetch(self) -> list[Fetched]:
        """Returns the next messages; nothing when the assignment changed meanwhile."""
        try:
            read = await self._consumer.getmany(timeout_ms=self._wait_ms(), max_records=_FETCH_MESSAGES)
        except OffsetOutOfRangeError as error:
            await self._recover(error)
            return []
        except NoOffsetForPartitionError:
            # Raised for a position from before this session's own seek.
            self._sources.seek_to(self._cycle.sessions)
            return []
        fetched: list[Fetched] = []
        for source, session in enumerate(self._cycle.sessions):
            partition = TopicPartition(session.topic, session.partition)
            if not self._owns_what_it_reads():
                return []
            try:
                position = await self._consumer.position(partition)
            except IllegalStateError:
                return []
            # A position without messages: control records of a transaction, or compacted ones.
            if position > session.next_offset:
                records = read.get(partition, [])
                fetched += parts_of(source, records, next_offset=session.next_offset, position=position)
        return fetched if self._owns_what_it_reads() else []

    def _wait_ms(self) -> int:
        """How long to wait for messages: until the cycle or the progress is due."""
        due_s = self._progress_due_s
        if self._cycle.touched:
            due_s = min(due_s, self._cycle_began_s + self._options.cycle_s)
        return int(max(0.0, min(due_s - time.monotonic(), self._options.cycle_s)) * 1000)

    async def _recover(self, error: OffsetOutOfRangeError) -> None:
        cycle, lost = await self._sources.recover(error, self._cycle)
        if self._owns_what_it_reads():
            self._cycle = cycle
            self._lost = (*self._lost, *lost)
            self._stats.lost_offsets += sum(gap.next_offset - gap.first_offset for gap in lost)

    async def _take(self, fetched: list[Fetched], stopping: asyncio.Event) -> None:
        """Decodes what was fetched into the cycle, finishing it as often as it is full.

        The rest is dropped when the assignment changes: its sessions are gone. It is dropped too when the
        process stops: it was not committed.
        """
        if not fetched:
            return  # perhaps the sessions are those of topics that the configuration no longer names
        decoders = self._topic_decoders()
        bytes_max = columns_bytes_max(len(self._applied.configuration.body))
        for piece in pieces(fetched):
            for part, decoded in decode_piece(piece, decoders, bytes_max=bytes_max, message_bytes_max=bytes_max):
                if not self._cycle.has_room_for(decoded, bytes_max):
                    await self._finish()
                if not self._owns_what_it_reads():
                    return
                if not self._cycle.touched:
                    self._cycle_began_s = time.monotonic()
                self._cycle = self._cycle.added(part, decoded)
            await asyncio.sleep(0)  # heartbeats go out between pieces
            if stopping.is_set() or not self._owns_what_it_reads():
                return

    def _topic_decoders(self) -> list[Decode]:
        if self._decoding.bundle is not self._applied.bundle:
            self._decoding = Decoding(self._applied.bundle, self._decoders)
        return [self._decoding.of(session.topic) for session in self._cycle.sessions]

    def _is_due(self) -> bool:
        now_s = time.monotonic()
        if self._cycle.touched and now_s - self._cycle_began_s >= self._options.cycle_s:
            return True
        return self._progress_is_due(now_s)

    def _progress_is_due(self, now_s: float) -> bool:
        if now_s >= self._progress_due_s or self._lost:
            return True
        return bool(self._cycle.sessions) and is_news(self._cycle.sessions, self._at_end(), self._reported)

    def _at_end(self) -> frozenset[int]:
        ends = self._ends
        if ends is None or not ends.done():
            return frozenset()
        return sources_at_end(self._cycle.sessions, ends.result())

    async def _finish(self) -> None:
        """Sends the cycle's records, waits for all acknowledgements, then commits; the next cycle begins."""
        cycle, applied = self._cycle, self._applied
        now_s = time.monotonic()
        await self._log.at("read")
        await self._sources.check({source.topic for source in applied.bundle.sources} | self._subscribed)
        due = self._progress_is_due(now_s)
        progress = self._progress(cycle) if due and cycle.sessions else None
        await self._log.send(cycle, self._router.route(cycle, applied.configuration, progress))
        self._is_owed_progress = progress is None
        if due:
            self._progress_due_s = now_s + self._options.progress_s
        if progress is not None:
            self._reported, self._lost = progress, ()
            self._stats.caught_up = all(source.at_end for source in progress.sources)
            self._forget_ends()
            self._ends = asyncio.ensure_future(self._ask_for_ends(cycle))
        await self._commit(cycle)
        self._count(cycle)
        if self._owns_what_it_reads():
            self._new_cycle(cycle.sessions)

    def _progress(self, cycle: Cycle) -> Progress:
        return progress_of(
            cycle.sessions,
            at_end=self._at_end(),
            topic_partitions=self._sources.topic_partitions,
            lost=self._lost,
        )

    async def _ask_for_ends(self, cycle: Cycle) -> dict[int, int]:
        """Returns the end offsets by source, asked for after the progress record was acknowledged.

        None when no broker answers: then no source counts as read to its end.
        """
        partitions = [TopicPartition(session.topic, session.partition) for session in cycle.sessions]
        try:
            ends = await self._sources.ends(partitions)
        except KafkaError as error:
            LOG.warning("the ends of the sources are unknown: %r", error)
            return {}
        return {source: ends[partition] for source, partition in enumerate(partitions) if partition in ends}

    def _forget_ends(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
        self._ends = None

    async def _commit(self, cycle: Cycle) -> None:
        sessions = [cycle.sessions[source] for source in sorted(cycle.touched)]
        positions = {TopicPartition(s.topic, s.partition): (s.next_offset, s.topic_id) for s in sessions}
        try:
            if positions:
                async with asyncio.timeout(ACKNOWLEDGED_S):
                    await commit(self._consumer, positions)
            self._stats.committed_at_s = time.monotonic()
            self._stats.cycles += 1
        except LOST_MEMBERSHIP as error:
            self._stats.commits_rejected += 1
            LOG.warning("commit rejected, the next owner replays %d messages: %r", cycle.messages, error)
        except TimeoutError as error:
            raise UnavailableError(
                f"a commit was not answered within {ACKNOWLEDGED_S:g} s; this process ends and its successor "
                "replays. Look at the brokers: the group's coordinator does not answer"
            ) from error
        await self._log.at("committed")

    def _count(self, cycle: Cycle) -> None:
        self._stats.messages += cycle.messages
        self._stats.rows += cycle.items
        self._stats.invalid_utf8 += invalid_texts(cycle)
        assigned = self._consumer.assignment()
        for session in cycle.sessions:
            partition = TopicPartition(session.topic, session.partition)
            if partition in assigned:
                end = self._consumer.highwater(partition) or session.next_offset
                self._stats.lag[f"{session.topic}/{session.partition}"] = max(0, end - session.next_offset)
