"""The configuration topic: one compacted partition; the version of a bundle is its offset."""

from __future__ import annotations

from stream.core.errors import ConfigError, UnavailableError
from stream.core.slo.spec import Bundle, decode_bundle
from stream.kafka.clients import KafkaError, TopicPartition, assigned_reader, ingest_producer, stop
from stream.kafka.read_to_end import read_to_end
from stream.kafka.topic_ids import describe

BUNDLE_BYTES_MAX = 4 << 20
"""A configuration travels in a record of the log together with what was read: each may take half."""


async def read_bundle(bootstrap: str, prefix: str) -> tuple[int, Bundle] | None:
    """Returns version and content of the newest bundle; None where none was ever applied.

    Raises:
        ConfigError: When the topic does not exist.
        IncompatibleError: When another format wrote the bundle.
        UnavailableError: When no broker answers.
    """
    topic = f"{prefix}config"
    reader = await assigned_reader(bootstrap)
    try:
        if topic not in await describe(reader, [topic]):
            raise _missing(topic, bootstrap)
        newest: tuple[int, bytes] | None = None
        async for record in read_to_end(reader, [TopicPartition(topic, 0)]):
            if record.value is not None:
                newest = record.offset, record.value
    finally:
        await stop(reader)
    return (newest[0], decode_bundle(newest[1])) if newest is not None else None


async def publish_bundle(bootstrap: str, prefix: str, bundle: Bundle) -> int:
    """Writes a bundle and returns its version.

    Raises:
        ConfigError: When the topic does not exist, or the bundle is too large for a record of the log.
        UnavailableError: When no broker answers, or none takes it.
    """
    topic, value = f"{prefix}config", bundle.encode()
    if len(value) > BUNDLE_BYTES_MAX:
        raise ConfigError(
            f"the configuration of {len(bundle.objectives):,} objectives takes {len(value):,} bytes, and a pipeline's "
            f"at most {BUNDLE_BYTES_MAX:,}; nothing changed. Divide the services among pipelines (QMA_PREFIX)"
        )
    producer = await ingest_producer(bootstrap)
    try:
        if topic not in await describe(producer, [topic]):
            raise _missing(topic, bootstrap)
        sent = await producer.send(topic, value, key=bundle.pipeline.encode(), partition=0)
        return (await sent).offset
    except KafkaError as error:
        raise UnavailableError(
            f"{topic} did not take the configuration ({error!r}); nothing changed. Look at the brokers, then try again"
        ) from error
    finally:
        await stop(producer)


def _missing(topic: str, bootstrap: str) -> ConfigError:
    return ConfigError(f"no topic {topic} at {bootstrap}; create the pipeline's topics with `qma topics apply`")
