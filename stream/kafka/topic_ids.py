"""Topic ids (KIP-516) and partition counts, through a running client's own connections.

A topic that was deleted and created again has a new id, so a source position is (topic id, partition,
offset). aiokafka stops at version 5 of the Metadata request; the id is in it from version 10 on.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from stream.core.errors import ConfigError, IncompatibleError, UnavailableError

_NO_ID = uuid.UUID(int=0)
_UNKNOWN_TOPIC = 3
_INVALID_TOPIC = 17
_LEADER_NOT_AVAILABLE = 5
_TOPIC_AUTHORIZATION_FAILED = 29
_ATTEMPTS = 20
_ATTEMPT_S = 3.0
_BACKOFF_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicInfo:
    """What a broker says of one topic: its id, which never returns after a deletion, and its number of partitions."""

    topic_id: uuid.UUID
    partitions: int


async def describe(client_owner: Any, topics: Collection[str]) -> dict[str, TopicInfo]:
    """Returns id and partition count of those topics that exist.

    A broker that is dead, frozen or not ready yet is no reason to fail: another one is asked, up to 20 times.

    Args:
        client_owner: A started consumer, producer or admin client of `stream.kafka.clients`; its connections
        are used. topics: Names of topics.

    Raises:
        UnavailableError: No broker answered.
        IncompatibleError: The broker is too old to have topic ids.
        ConfigError: This client may not describe one of the topics.
    """
    names = sorted(set(topics))
    client = getattr(client_owner, "_client", None) or client_owner.client
    failure: BaseException | None = None
    for attempt in range(_ATTEMPTS):
        if attempt:
            await asyncio.sleep(_BACKOFF_S)
        try:
            response = await asyncio.wait_for(
                client.send(client.get_random_node(), _MetadataRequest(names)),
                _ATTEMPT_S,
            )
        except (KafkaError, TimeoutError) as error:
            failure = error
            continue
        except NotImplementedError as error:
            raise IncompatibleError(
                "the broker has no topic ids (KIP-516): Apache Kafka 3.0 or newer is needed"
            ) from error
        if all(topic[0] != _LEADER_NOT_AVAILABLE for topic in response.topics):
            return _infos(response)
        failure = None
    raise UnavailableError(
        f"no broker describes the topics {', '.join(names)}: {failure or 'still being created'} "
        f"({_ATTEMPTS} attempts). "
        "Look at the brokers' logs and `qma topics show`"
    )


def _infos(response: Any) -> dict[str, TopicInfo]:
    infos = {}
    for error_code, name, topic_id, _, partitions, *_ in response.topics:
        if error_code == _UNKNOWN_TOPIC:
            continue
        if error_code == _TOPIC_AUTHORIZATION_FAILED:
            raise ConfigError(f"topic {name}: not allowed to describe it; grant DESCRIBE with kafka-acls")
        if error_code == _INVALID_TOPIC:
            raise ConfigError(
                f"{name!r} is not the name of a topic: write at most 249 letters, digits, dots, underscores and hyphens"
            )
        if error_code:
            raise UnavailableError(f"topic {name}: the broker answers Metadata with error code {error_code}")
        assert topic_id != _NO_ID, f"{name} without a topic id: a broker older than 2.8?"
        infos[name] = TopicInfo(topic_id=topic_id, partitions=len(partitions))
    return infos


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: Any) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


_STRING = CompactString("utf-8")
_PARTITION = (
    ("error_code", Int16),
    ("partition_index", Int32),
    ("leader_id", Int32),
    ("leader_epoch", Int32),
    ("replica_nodes", CompactArray(Int32)),
    ("isr_nodes", CompactArray(Int32)),
    ("offline_replicas", CompactArray(Int32)),
    ("tags", TaggedFields),
)


class _MetadataResponse_v12(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", _STRING),
                ("port", Int32),
                ("rack", _STRING),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", _STRING),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _STRING),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                ("partitions", CompactArray(*_PARTITION)),
                ("topic_authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataRequest_v12(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _MetadataResponse_v12
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", _STRING), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequest_v12]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequest_v12]) -> _MetadataRequest_v12:
        return request_struct_class([(_NO_ID, topic, {}) for topic in self._topics], False, False, {})
