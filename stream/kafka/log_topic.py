"""What the shuffle log is: its number of partitions and its clock."""

from __future__ import annotations

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from stream.core.errors import ConfigError, UnavailableError
from stream.kafka.clients import KafkaError, admin, stop
from stream.kafka.topic_ids import describe


async def log_partitions(bootstrap: str, prefix: str) -> int:
    """Returns the number of partitions of the shuffle log.

    Raises:
        ConfigError: When the topic does not exist.
        UnavailableError: When no broker answers.
    """
    topic = f"{prefix}shuffle"
    client = await admin(bootstrap)
    try:
        found = await describe(client, [topic])
    finally:
        await stop(client)
    if topic not in found:
        raise _missing(topic, bootstrap)
    return found[topic].partitions


async def log_has_create_time(bootstrap: str, prefix: str) -> bool:
    """Returns whether the log's clock is that of its writers (CreateTime) and not the broker's (LogAppendTime).

    Raises:
        ConfigError: When the topic does not exist.
        UnavailableError: When no broker answers.
    """
    topic = f"{prefix}shuffle"
    client = await admin(bootstrap)
    try:
        if topic not in await describe(client, [topic]):
            raise _missing(topic, bootstrap)
        responses = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except KafkaError as error:
        raise UnavailableError(f"the settings of {topic} cannot be read ({error!r}); look at the brokers") from error
    finally:
        await stop(client)
    entries = {entry[0]: entry[1] for response in responses for resource in response.resources for entry in resource[4]}
    return bool(entries["message.timestamp.type"] == "CreateTime")


def _missing(topic: str, bootstrap: str) -> ConfigError:
    return ConfigError(f"no topic {topic} at {bootstrap}; create the pipeline's topics with `qma topics apply`")
