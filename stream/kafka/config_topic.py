"""The configuration topic: one compacted partition; the version of a bundle is its offset."""

from __future__ import annotations

from stream.core.errors import ConfigError
from stream.core.slo.spec import Bundle, decode_bundle
from stream.kafka.clients import TopicPartition, assigned_reader, ingest_producer, stop
from stream.kafka.topic_ids import describe


async def read_bundle(bootstrap: str, prefix: str) -> tuple[int, Bundle] | None:
    """Returns version and content of the newest bundle; None where none was ever applied.

    Raises:
        ConfigError: When the topic does not exist.
        UnavailableError: When no broker answers.
    """
    topic = f"{prefix}config"
    reader = await assigned_reader(bootstrap)
    try:
        if topic not in await describe(reader, [topic]):
            raise ConfigError(f"no topic {topic} at {bootstrap}; create the pipeline's topics with `qma topics apply`")
        partition = TopicPartition(topic, 0)
        reader.assign([partition])
        await reader.seek_to_beginning(partition)
        end = (await reader.end_offsets([partition]))[partition]
        newest: tuple[int, Bundle] | None = None
        while await reader.position(partition) < end:
            for records in (await reader.getmany(partition, timeout_ms=200)).values():
                for record in records:
                    if record.value is not None:
                        newest = record.offset, decode_bundle(record.value)
        return newest
    finally:
        await stop(reader)


async def publish_bundle(bootstrap: str, prefix: str, bundle: Bundle) -> int:
    """Writes a bundle and returns its version.

    Raises:
        UnavailableError: When no broker answers.
    """
    producer = await ingest_producer(bootstrap)
    try:
        sent = await producer.send(f"{prefix}config", bundle.encode(), key=bundle.pipeline.encode(), partition=0)
        return (await sent).offset
    finally:
        await stop(producer)
