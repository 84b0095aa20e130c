"""Reads topics the whole run through, over every death of the broker, and to their end when asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from stream.core.errors import UnavailableError
from stream.kafka.clients import (
    Consumer,
    ConsumerRecord,
    Isolation,
    KafkaError,
    TopicPartition,
    assigned_reader,
    stop,
)

_POLL_MS = 200
_RECONNECT_S = 0.3


class Tail:
    """Reads partitions from their beginning on and keeps its own positions, so each record is handed over once.

    Args:
        bootstrap: `HOST:PORT`.
        partitions: What to read.
        take: Called with each record, in order within a partition.
        isolation: `read_committed`, or everything that was ever written.
    """

    def __init__(
        self,
        bootstrap: str,
        partitions: Sequence[TopicPartition],
        take: Callable[[ConsumerRecord], None],
        *,
        isolation: Isolation = "read_committed",
    ) -> None:
        self._bootstrap = bootstrap
        self._take = take
        self._isolation = isolation
        self._positions = dict.fromkeys(partitions, 0)
        self._reader: Consumer | None = None

    async def follow(self) -> None:
        """Reads for ever."""
        while True:
            await self._step()

    async def catch_up(self) -> None:
        """Reads up to the end as it is now. Waits while the broker is away."""
        ends: dict[TopicPartition, int] | None = None
        while ends is None or any(self._positions[at] < end for at, end in ends.items()):
            try:
                reader = await self._connected()
                ends = ends or await reader.end_offsets(list(self._positions))
            except (KafkaError, UnavailableError, OSError):
                await self._disconnect()
                continue
            if any(self._positions[at] < end for at, end in ends.items()):
                await self._step()

    async def close(self) -> None:
        """Closes the connection."""
        reader, self._reader = self._reader, None
        if reader is not None:
            # In a task of its own: aiokafka cancels its fetches, and a fetch that was about to be tried again hands
            # that cancellation on to whoever stops the consumer.
            await asyncio.wait({asyncio.ensure_future(stop(reader))})

    async def _step(self) -> None:
        try:
            reader = await self._connected()
            for records in (await reader.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    at = TopicPartition(record.topic, record.partition)
                    assert record.offset >= self._positions[at], f"{at}: {record.offset} came again"
                    self._positions[at] = record.offset + 1
                    self._take(record)
            for at in self._positions:  # over the control records of transactions
                self._positions[at] = max(self._positions[at], await reader.position(at))
        except (KafkaError, UnavailableError, OSError):
            await self._disconnect()

    async def _connected(self) -> Consumer:
        if self._reader is None:
            self._reader = reader = await assigned_reader(self._bootstrap, isolation=self._isolation)
            reader.assign(list(self._positions))
            for at, offset in self._positions.items():
                reader.seek(at, offset)
        return self._reader

    async def _disconnect(self) -> None:
        await self.close()
        await asyncio.sleep(_RECONNECT_S)


async def read_all(
    bootstrap: str,
    partitions: Sequence[TopicPartition],
    take: Callable[[ConsumerRecord], None],
    *,
    isolation: Isolation,
) -> None:
    """Hands over every record up to the present end."""
    tail = Tail(bootstrap, partitions, take, isolation=isolation)
    try:
        await tail.catch_up()
    finally:
        await tail.close()
