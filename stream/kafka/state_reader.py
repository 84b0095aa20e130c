"""Reads checkpoints from outside, as a reader of committed records: nothing is fenced, nothing is claimed."""

from __future__ import annotations

from collections.abc import Collection

from stream.core.engine.chunks import MANIFEST, ledger_of
from stream.core.engine.ledger import Ledger
from stream.core.errors import ConfigError
from stream.kafka.clients import TopicPartition, assigned_reader, stop
from stream.kafka.read_to_end import read_to_end
from stream.kafka.topic_ids import describe


async def read_ledgers(bootstrap: str, topic: str, partitions: int) -> list[Ledger]:
    """Returns the accounts of every partition at its last checkpoint; empty ones where there is none yet.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        topic: The state topic.
        partitions: Its number of partitions.

    Raises:
        ConfigError: When the topic does not exist, or not with so many partitions.
        UnavailableError: When no broker answers.
    """
    latest = await read_latest(bootstrap, topic, range(partitions), {MANIFEST})
    return [ledger_of(latest[p][MANIFEST]) if MANIFEST in latest[p] else Ledger() for p in range(partitions)]


async def read_latest(
    bootstrap: str, topic: str, partitions: Collection[int], keys: Collection[bytes] | None = None
) -> dict[int, dict[bytes, bytes]]:
    """Returns the latest committed value of each key, by partition; deleted keys are left out.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        topic: The state topic.
        partitions: Partitions to read.
        keys: Keys to keep; None: all.

    Raises:
        ConfigError: When the topic or one of the partitions does not exist.
        UnavailableError: When no broker answers.
    """
    latest: dict[int, dict[bytes, bytes]] = {number: {} for number in partitions}
    reader = await assigned_reader(bootstrap)
    try:
        found = await describe(reader, [topic])
        if topic not in found or any(number >= found[topic].partitions for number in partitions):
            raise ConfigError(
                f"no topic {topic} with partitions {min(latest)} to {max(latest)} at {bootstrap}; "
                "`qma topics show` names what differs"
            )
        async for record in read_to_end(reader, [TopicPartition(topic, number) for number in partitions]):
            if record.key is not None and (keys is None or record.key in keys):
                _keep(latest[record.partition], record.key, record.value)
    finally:
        await stop(reader)
    return latest


def _keep(values: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value
