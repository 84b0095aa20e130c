"""The source partitions that this process owns: where sessions begin, and what to do about lost offsets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from stream.core.errors import UnavailableError
from stream.core.log import LostRange
from stream.core.units import DAY_NS
from stream.ingest.cycle import Cycle, Session
from stream.kafka.clients import (
    LOST_MEMBERSHIP,
    Consumer,
    IllegalStateError,
    OffsetOutOfRangeError,
    RebalanceListener,
    TopicPartition,
)
from stream.kafka.topic_ids import TopicInfo, describe

LOG = logging.getLogger(__name__)

Start = Literal["earliest", "latest"]

_ASKED_AGAIN_NS = DAY_NS
"""Indicators that nobody has asked for meanwhile are read from so long ago. Those of the last seven hours can count, by
a frontier that may itself lie behind."""

_MILLISECOND_NS = 1_000_000
_RETRY_S = 0.2
_MISSING_ATTEMPTS = 3
_PATIENCE_S = 40.0


class Assignment(RebalanceListener):
    """What the group assigned to this process, and how often that changed."""

    def __init__(self) -> None:
        self.changes = 0
        self.partitions: tuple[TopicPartition, ...] | None = None
        """None during a rebalance: then nothing that is read may be used."""

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self.renounce()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self.changes += 1
        self.partitions = tuple(sorted(assigned))

    def renounce(self) -> None:
        """Invalidates everything read so far."""
        self.changes += 1
        self.partitions = None


class Sources:
    """Begins sessions, watches topic ids and finds out what retention took.

    Args:
        consumer: The group's member; it commits nothing by itself and has no reset policy.
        observer: A client that fetches nothing. A broker answers a connection's requests in order, so the member's
            would wait behind a fetch that waits for messages.
        assignment: Its listener.
        incarnation: Unique per process start; session ids begin with it.
        start: Where to begin in a partition that the group has never committed.
        indicators: Topic of our own indicators. It has no time and is begun at its end: what a composite is made of
            counts from when somebody asks for it.
        topics: Ids and partition counts as they are at the start of the process.
    """

    def __init__(
        self,
        consumer: Consumer,
        observer: Consumer,
        assignment: Assignment,
        *,
        incarnation: str,
        start: Start,
        indicators: str,
        topics: Mapping[str, TopicInfo],
    ) -> None:
        self._consumer = consumer
        self._observer = observer
        self._assignment = assignment
        self._incarnation = incarnation
        self._start = start
        self.indicators = indicators
        self._existed = {topic: info.partitions for topic, info in topics.items()}
        self._sessions_begun = 0
        self.asked_again = False
        """Our own indicators are sources again: nobody asked for them since the group left off, so what is too old to
        count is passed over when they are begun. A process that takes up what another one left behind passes over
        nothing: some of that may be in the log already."""
        self.topics = dict(topics)

    @property
    def topic_partitions(self) -> dict[str, int]:
        """The number of partitions of each source topic, as known now."""
        return {topic: info.partitions for topic, info in self.topics.items()}

    async def check(self, topics: Collection[str]) -> None:
        """Updates `topics`, and with it the partition counts.

        Called between reading and sending, it proves that what was read came from the topic ids that are
        known: an id never returns.

        Raises:
            UnavailableError: A topic was deleted or created again. The process must end.
        """
        found = await self._described(topics)
        for topic in sorted({*self.topics} & {*topics}):
            now = found.get(topic)
            if now is None or now.topic_id != self.topics[topic].topic_id:
                state = "no longer exists" if now is None else "was deleted and created again"
                raise UnavailableError(
                    f"topic {topic} {state} while it was read: nothing more is sent from the old one; "
                    "this process ends, and the next one reads the new topic from its beginning"
                )
        for topic in topics:
            self._existed.setdefault(topic, found[topic].partitions if topic in found else 0)
        self.topics = dict(sorted(found.items()))

    async def _described(self, topics: Collection[str]) -> dict[str, TopicInfo]:
        """Returns what a broker says of the topics.

        Waits while no broker answers: nothing is sent meanwhile, and a restart could not do more. A broker that misses
        a known topic may only lag behind the others, so they are asked again.
        """
        deadline_s = asyncio.get_running_loop().time() + _PATIENCE_S
        missing = 0
        while True:
            try:
                found = await describe(self._observer, topics)
            except UnavailableError as error:
                if asyncio.get_running_loop().time() > deadline_s:
                    raise
                LOG.warning("%s; asked again", error)
                continue
            missing += 1
            if found.keys() >= self.topics.keys() & set(topics) or missing == _MISSING_ATTEMPTS:
                return found
            await asyncio.sleep(_RETRY_S)

    async def begin(self) -> tuple[Session, ...] | None:
        """Returns a new session for each assigned partition, the consumer positioned at its first offset.

        Each begins at a committed offset: where there was none, one is committed first.

        Returns:
            None when the assignment is not known or changed meanwhile.
        """
        partitions, changes = self._assignment.partitions, self._assignment.changes
        if partitions is None:
            return None
        await self.check({*self.topics, *(partition.topic for partition in partitions)})
        committed = await _committed(self._consumer, partitions)
        at = {p: offset for p, (offset, topic_id) in committed.items() if topic_id in ("", self._topic_id(p))}
        without = [p for p in partitions if p not in at]
        starts = await self._starts(without, stale=committed.keys() - at.keys())
        starts |= await self._passed_over(at) if self.asked_again else {}
        if changes != self._assignment.changes:
            return None
        try:
            for partition, offset in (at | starts).items():
                self._consumer.seek(partition, offset)
            if starts:
                await commit(self._consumer, {p: (o, self._topic_id(p)) for p, o in starts.items()})
        except LOST_MEMBERSHIP:
            return None
        self.asked_again &= self.indicators not in {partition.topic for partition in partitions}
        return tuple(self._session(partition, (at | starts)[partition]) for partition in partitions)

    def _topic_id(self, partition: TopicPartition) -> str:
        return str(self.topics[partition.topic].topic_id)

    def _session(self, partition: TopicPartition, offset: int) -> Session:
        self._sessions_begun += 1
        return Session(
            topic=partition.topic,
            topic_id=self._topic_id(partition),
            partition=partition.partition,
            id=f"{self._incarnation}-{self._sessions_begun}",
            first_offset=offset,
            next_offset=offset,
            is_telemetry=partition.topic != self.indicators,
        )

    async def _starts(
        self, partitions: Sequence[TopicPartition], *, stale: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        """Returns the first offsets of partitions that have no committed one.

        `latest` is for what existed when this process first looked: a topic that was created again, and a topic
        or partition that was added since, is read from its beginning.
        """
        late = [
            p
            for p in partitions
            if (self._start == "latest" or p.topic == self.indicators)
            and p not in stale
            and p.partition < self._existed[p.topic]
        ]
        early = [p for p in partitions if p not in late]
        starts = await self.ends(late)
        starts |= await self._observer.beginning_offsets(early) if early else {}
        for partition, offset in sorted(starts.items()):
            LOG.info("%s/%d: no committed offset, begins at %d", *partition, offset)
        return starts

    async def _passed_over(self, committed: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Returns the first offsets of the partitions of our own indicators behind those that are too old to count."""
        own = [p for p in committed if p.topic == self.indicators]
        if not own:
            return {}
        ends = await self.ends(own)  # asked for first: nothing that comes now is passed over
        since_ms = (time.time_ns() - _ASKED_AGAIN_NS) // _MILLISECOND_NS
        found = await self._observer.offsets_for_times(dict.fromkeys(own, since_ms))
        recent = {p: at.offset if (at := found.get(p)) is not None else ends[p] for p in own}
        starts = {p: offset for p, offset in recent.items() if offset > committed[p]}
        for partition, offset in sorted(starts.items()):
            LOG.info("%s/%d: asked for again, begins at %d", *partition, offset)
        return starts

    async def ends(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Returns the end offsets as they are now, messages of open transactions included."""
        return await self._observer.end_offsets(partitions) if partitions else {}

    async def recover(self, error: OffsetOutOfRangeError, cycle: Cycle) -> tuple[Cycle, tuple[LostRange, ...]]:
        """Returns the cycle with the unreadable offsets skipped, and which they are.

        A broker that was frozen as leader and woke answers for its old log: a position above that is out of
        range for it, and nothing is lost. So the beginning is asked for anew.
        """
        lost: list[LostRange] = []
        sources = {(session.topic, session.partition): at for at, session in enumerate(cycle.sessions)}
        for partition in error.args[0]:
            source = sources.get((partition.topic, partition.partition))
            if source is None:
                continue
            position = cycle.sessions[source].next_offset
            beginning = (await self._observer.beginning_offsets([partition]))[partition]
            if beginning > position:
                LOG.error("%s/%d: offsets [%d, %d) are lost to retention", *partition, position, beginning)
                lost.append(LostRange(source=source, first_offset=position, next_offset=beginning))
                cycle = cycle.skipped(source, beginning)
            else:
                LOG.warning("%s/%d: a broker calls offset %d out of range; asked again", *partition, position)
                await asyncio.sleep(_RETRY_S)
            self.seek_to([cycle.sessions[source]])
        return cycle, tuple(lost)

    def seek_to(self, sessions: Sequence[Session]) -> None:
        """Positions the consumer where the sessions go on, unless a rebalance took them."""
        with contextlib.suppress(IllegalStateError):
            for session in sessions:
                self._consumer.seek(TopicPartition(session.topic, session.partition), session.next_offset)


async def _committed(consumer: Any, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
    """Returns offset and metadata that the group committed; a partition without is missing.

    The metadata is the topic id: a commit that arrives just after its topic was created again must not be
    taken for a position in the new one. aiokafka's `committed` returns the offset alone.
    """
    found = await consumer._coordinator.fetch_committed_offsets(list(partitions))
    return {partition: (at.offset, at.metadata or "") for partition, at in found.items() if at.offset >= 0}


async def commit(consumer: Any, positions: Mapping[TopicPartition, tuple[int, str]]) -> None:
    """Commits offsets, each with its topic id.

    Raises:
        KafkaError: One of `LOST_MEMBERSHIP` when a rebalance took a partition: its next owner replays.
    """
    await consumer.commit(dict(positions))
