"""The shuffle log as one ingest process writes it, and the counters of what it did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from stream.core.errors import UnavailableError
from stream.core.log import LogRecord, encode_record
from stream.ingest.cycle import Cycle
from stream.kafka.clients import KafkaError, Producer

ACKNOWLEDGED_S = 40.0
"""What is not answered after this ends the process: idempotent batches are retried for ever otherwise."""

Hook = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class IngestStats:
    """What the process did so far; it writes, whoever serves metrics reads.

    Args:
        messages: Messages read and acknowledged in the log.
        rows: Rows and points sent.
        records: Log records sent.
        bytes: Bytes of these records.
        cycles: Cycles committed.
        commits_rejected: Commits that a rebalance rejected; the next owner replays.
        lost_offsets: Source offsets that expired before they were read.
        invalid_utf8: Items with a text that is no UTF-8, by topic.
        lag: Messages between position and end, by `topic/partition`.
        committed_at_s: Monotonic time of the last accepted commit; None before the first.
        compiled: Whether the decoder of a format is machine code yet, by `SIGNAL/encoding`.
        caught_up: Every source of this process was read to its end when that was last reported.
    """

    messages: int = 0
    rows: int = 0
    records: int = 0
    bytes: int = 0
    cycles: int = 0
    commits_rejected: int = 0
    lost_offsets: int = 0
    invalid_utf8: Counter[str] = field(default_factory=Counter)
    lag: dict[str, int] = field(default_factory=dict)
    committed_at_s: float | None = None
    compiled: dict[str, bool] = field(default_factory=dict)
    caught_up: bool = False


class ShuffleLog:
    """The shuffle log as this process writes it.

    Args:
        create_time: Records carry the highest source timestamp; otherwise the broker sets the time.
    """

    def __init__(
        self, producer: Producer, topic: str, stats: IngestStats, hook: Hook | None, *, create_time: bool
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._stats = stats
        self._hook = hook
        self._create_time = create_time
        self._newest_ns = 0

    async def at(self, point: str) -> None:
        """Calls the hook."""
        if self._hook is not None:
            await self._hook(point)

    async def send(self, cycle: Cycle, records: Mapping[int, LogRecord]) -> None:
        """Sends one record to each destination and returns when all are acknowledged.

        Raises:
            UnavailableError: One was not.
        """
        read_ns = (session.until_ns for session in cycle.sessions if session.until_ns is not None)
        self._newest_ns = max(self._newest_ns, *read_ns, 0)
        timestamp_ms = self._newest_ns // 1_000_000 if self._create_time else None
        size = 0
        try:
            async with asyncio.timeout(ACKNOWLEDGED_S):
                acknowledged = []
                for destination, record in records.items():
                    value = encode_record(record)
                    size += len(value)
                    acknowledged.append(
                        await self._producer.send(self._topic, value, partition=destination, timestamp_ms=timestamp_ms)
                    )
                await self.at("sent")
                await asyncio.gather(*acknowledged)
        except (KafkaError, TimeoutError) as error:
            raise UnavailableError(
                f"a record for {self._topic} was not acknowledged within {ACKNOWLEDGED_S:g} s or refused "
                f"({error!r}); nothing of its cycle is committed. Look at the brokers and `qma topics show`"
            ) from error
        await self.at("acked")
        self._stats.records += len(records)
        self._stats.bytes += size
