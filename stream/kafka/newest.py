"""Reads the newest messages of a topic, without a group: nothing is committed, nobody notices."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from stream.core.errors import UnavailableError
from stream.kafka.batches import RefusedBatch, refused
from stream.kafka.clients import ConsumerRecord, Guard, KafkaError, TopicPartition, assigned_reader, stop
from stream.kafka.topic_ids import describe

_POLL_MS = 200
_STALLED_S = 15.0


@dataclass(slots=True)
class Newest:
    """What was read of one topic, beside its messages.

    Args:
        partitions: Its number of partitions; None where there is no such topic.
        held: Messages that it holds now, at most.
        batches: Record batches read, by codec.
        refused: Batches that cannot be read.
        is_whole: False where reading ended early because the messages are large.
    """

    partitions: int | None = None
    held: int = 0
    batches: Counter[str] = field(default_factory=Counter)
    refused: list[RefusedBatch] = field(default_factory=list)
    is_whole: bool = True


async def read_newest(
    bootstrap: str,
    topic: str,
    *,
    per_partition: int,
    bytes_max: int,
    take: Callable[[Sequence[ConsumerRecord]], None],
) -> Newest:
    """Gives the newest messages of every partition of a topic to `take`, as the topic is now.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        topic: Its whole name.
        per_partition: So many messages of each partition, fewer where some offsets hold none.
        bytes_max: Reading ends after so many bytes of messages.
        take: Called with messages as they come, per partition in order.

    Raises:
        UnavailableError: When no broker answers.
    """
    newest = Newest()

    def seen(codec: str, _bytes: int, _records: int) -> None:
        newest.batches[codec] += 1

    reader = await assigned_reader(bootstrap, isolation="read_uncommitted", guard=Guard(seen=seen))
    try:
        found = await describe(reader, [topic])
        if topic not in found:
            return newest
        newest.partitions = found[topic].partitions
        partitions = [TopicPartition(topic, number) for number in range(newest.partitions)]
        async with asyncio.timeout(_STALLED_S):
            firsts, ends = await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
        newest.held = sum(ends[at] - firsts[at] for at in partitions)
        reader.assign(partitions)
        for at in partitions:
            reader.seek(at, max(firsts[at], ends[at] - per_partition))
        behind, size = {at for at in partitions if firsts[at] < ends[at]}, 0
        while behind and size < bytes_max:
            async with asyncio.timeout(_STALLED_S):
                read = await reader.getmany(*behind, timeout_ms=_POLL_MS)
                behind = {at for at in behind if await reader.position(at) < ends[at]}
            for at, records in read.items():
                messages = [record for record in records if record.offset < ends[at] and refused(record) is None]
                newest.refused += [batch for record in records if (batch := refused(record)) is not None]
                size += sum(len(record.value or b"") for record in messages)
                take(messages)
        newest.is_whole = not behind
    except (KafkaError, TimeoutError) as error:
        raise UnavailableError(f"{topic} cannot be read ({error!r}); look at the brokers, then try again") from error
    finally:
        await stop(reader)
    return newest
