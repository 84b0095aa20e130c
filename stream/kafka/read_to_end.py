"""Reads partitions to where they end now: configuration and checkpoints are read like this, from their beginning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from stream.core.errors import UnavailableError
from stream.kafka.clients import Consumer, ConsumerRecord, KafkaError, TopicPartition

STALLED_S = 30.0
"""Nothing read for so long, longer than a dead process can hold a transaction open, means that no broker serves it."""

_POLL_MS = 200


async def read_to_end(
    reader: Consumer, partitions: Sequence[TopicPartition], *, since_ms: int | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Yields every record that the partitions hold at the time of the call, each partition in its order.

    Args:
        reader: A consumer outside any group; the partitions are assigned to it.
        partitions: Partitions of topics that exist.
        since_ms: Only what was published at this time and later; None: everything.

    Raises:
        UnavailableError: When the brokers stop answering.
    """
    reader.assign(partitions)
    try:
        async with asyncio.timeout(STALLED_S):
            ends = await reader.end_offsets(partitions)
            if partitions:
                await reader.seek_to_beginning(*partitions)
            if partitions and since_ms is not None:
                found = await reader.offsets_for_times(dict.fromkeys(partitions, since_ms))
                for partition, end in ends.items():
                    first = found.get(partition)
                    reader.seek(partition, end if first is None else first.offset)
        behind = {partition for partition in partitions if ends[partition]}
        while behind:
            async with asyncio.timeout(STALLED_S):
                records = await _some(reader, behind, ends)
            for record in records:
                yield record
    except (KafkaError, TimeoutError) as error:
        topics = ", ".join(sorted({partition.topic for partition in partitions}))
        raise UnavailableError(
            f"{topics} cannot be read to its end ({error!r}); look at the brokers, then try again"
        ) from error


async def _some(reader: Consumer, behind: set[TopicPartition], ends: dict[TopicPartition, int]) -> list[ConsumerRecord]:
    """Returns further records, and takes out of `behind` what has been read to its end."""
    while behind:
        read = await reader.getmany(*behind, timeout_ms=_POLL_MS)
        for partition in list(behind):
            if await reader.position(partition) >= ends[partition]:
                behind.discard(partition)
        if read:
            return [record for records in read.values() for record in records]
    return []
