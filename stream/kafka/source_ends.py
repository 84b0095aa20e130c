"""How much the source topics hold now, to be compared with how much has been read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from stream.core.errors import UnavailableError
from stream.kafka.clients import KafkaError, TopicPartition, assigned_reader, stop
from stream.kafka.topic_ids import describe


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEnd:
    """The offsets that one partition of a source topic holds now: from `first_offset` to before `next_offset`."""

    topic: str
    topic_id: str
    partition: int
    first_offset: int
    next_offset: int


async def source_ends(bootstrap: str, topics: Collection[str]) -> list[SourceEnd]:
    """Returns the ends of every partition of those topics that exist, ordered by topic and partition.

    Raises:
        UnavailableError: When no broker answers.
    """
    reader = await assigned_reader(bootstrap, isolation="read_uncommitted")
    try:
        found = await describe(reader, topics)
        partitions = [TopicPartition(topic, n) for topic in sorted(found) for n in range(found[topic].partitions)]
        firsts = await reader.beginning_offsets(partitions) if partitions else {}
        nexts = await reader.end_offsets(partitions) if partitions else {}
    except KafkaError as error:
        raise UnavailableError(
            f"the ends of {', '.join(sorted(topics))} are unknown ({error!r}); look at the brokers, then try again"
        ) from error
    finally:
        await stop(reader)
    return [
        SourceEnd(
            topic=at.topic,
            topic_id=str(found[at.topic].topic_id),
            partition=at.partition,
            first_offset=firsts[at],
            next_offset=nexts[at],
        )
        for at in partitions
    ]
