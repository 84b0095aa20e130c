"""Whether the shuffle log still holds what a restored partition needs next."""

from __future__ import annotations

import asyncio

from stream.core.errors import ConfigError, UnavailableError
from stream.kafka.clients import Consumer, KafkaError, TopicPartition

_ATTEMPTS = 5
_PAUSE_S = 1.0


async def expect_log(reader: Consumer, topic: str, partition: int, *, wanted: int) -> None:
    """Returns when log record `wanted` exists or is the next to be written.

    Args:
        reader: A started consumer; its assignment is not touched.
        topic: The log.
        partition: Its partition.
        wanted: The first offset after the restored checkpoint.

    Raises:
        ConfigError: The log starts after that offset, or ends before it.
        UnavailableError: No broker says.
    """
    at = TopicPartition(topic, partition)
    for attempt in range(_ATTEMPTS):
        # A broker that was frozen as leader and woke gives an old end: ask again before believing that the log
        # was cut.
        await asyncio.sleep(attempt and _PAUSE_S)
        try:
            first = (await reader.beginning_offsets([at]))[at]
            end = (await reader.end_offsets([at]))[at]
        except KafkaError as error:
            raise UnavailableError(f"no broker says where {topic}-{partition} starts and ends: {error!r}") from error
        if first > wanted:
            raise log_gap(topic, partition, wanted=wanted, first=first)
        if end >= wanted:
            return
    raise ConfigError(
        f"{topic}-{partition} ends at offset {end}, but the restored checkpoint already contains everything before "
        f"{wanted}: the topic was recreated or truncated. Restore its data, or start a new pipeline under another "
        "topic prefix"
    )


def log_gap(topic: str, partition: int, *, wanted: int, first: int) -> ConfigError:
    """Returns the error for log records that were never applied and are gone."""
    return ConfigError(
        f"{topic}-{partition}: wanted offset {wanted}, first available offset {first}: {first - wanted} log records "
        "are gone and were never counted. Restore them (tiered storage, mirror), or start a new pipeline under another "
        f"topic prefix; raise retention.ms of {topic} so that it covers the longest outage of the workers"
    )
