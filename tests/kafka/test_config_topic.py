"""The configuration topic: the newest bundle counts, and its offset is its version."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from stream.core.errors import ConfigError, IncompatibleError, UnavailableError
from stream.core.slo.spec import Bundle, Objective, Settings, Source
from stream.kafka.clients import ingest_producer, stop
from stream.kafka.config_topic import publish_bundle, read_bundle
from stream.kafka.local import LocalKafka
from stream.kafka.topics import apply, pipeline_topics

pytestmark = pytest.mark.kafka

BUNDLE = Bundle(
    pipeline="p",
    generation="1",
    partitions=2,
    sources=(Source(topic="events", encoding="flat"),),
    objectives=(),
    settings=Settings(),
)


@pytest.fixture
def prefix(kafka: LocalKafka, topic_prefix: str) -> str:
    """The prefix of a pipeline whose topics exist."""
    asyncio.run(apply(kafka.bootstrap, pipeline_topics(topic_prefix, 2, 1, "LogAppendTime")))
    return topic_prefix


def test_there_is_none_before_the_first(kafka: LocalKafka, prefix: str):
    assert asyncio.run(read_bundle(kafka.bootstrap, prefix)) is None


def test_what_was_published_last_is_read_with_its_version(kafka: LocalKafka, prefix: str):
    later = replace(BUNDLE, settings=Settings(services_max=7))

    versions = [asyncio.run(publish_bundle(kafka.bootstrap, prefix, bundle)) for bundle in (BUNDLE, later)]

    assert versions == [0, 1]
    assert asyncio.run(read_bundle(kafka.bootstrap, prefix)) == (1, later)


def test_a_deletion_is_no_configuration(kafka: LocalKafka, prefix: str):
    async def delete() -> None:
        producer = await ingest_producer(kafka.bootstrap)
        try:
            await (await producer.send(f"{prefix}config", None, key=b"p", partition=0))
        finally:
            await stop(producer)

    asyncio.run(publish_bundle(kafka.bootstrap, prefix, BUNDLE))
    asyncio.run(delete())

    assert asyncio.run(read_bundle(kafka.bootstrap, prefix)) == (0, BUNDLE)


def test_only_the_newest_bundle_must_be_readable(kafka: LocalKafka, prefix: str):
    async def publish(value: bytes) -> None:
        producer = await ingest_producer(kafka.bootstrap)
        try:
            await (await producer.send(f"{prefix}config", value, key=b"p", partition=0))
        finally:
            await stop(producer)

    asyncio.run(publish(b'{"format": 99}'))
    with pytest.raises(IncompatibleError, match="format 99"):
        asyncio.run(read_bundle(kafka.bootstrap, prefix))

    asyncio.run(publish_bundle(kafka.bootstrap, prefix, BUNDLE))
    assert asyncio.run(read_bundle(kafka.bootstrap, prefix)) == (1, BUNDLE)


def test_without_the_topic_both_say_how_to_create_it(kafka: LocalKafka, topic_prefix: str):
    for work in (
        read_bundle(kafka.bootstrap, topic_prefix),
        publish_bundle(kafka.bootstrap, topic_prefix, BUNDLE),
    ):
        with pytest.raises(ConfigError, match=rf"no topic {topic_prefix}config at .*`qma topics apply`"):
            asyncio.run(work)


def test_what_no_record_of_the_log_could_hold_is_refused_before_it_is_sent():
    one = Objective(service="prod/shop/checkout", name="x" * 250, target="0.99", window_minutes=60)
    with pytest.raises(ConfigError, match=r"of 16,000 objectives takes .*QMA_PREFIX"):
        asyncio.run(publish_bundle("127.0.0.1:1", "p.", replace(BUNDLE, objectives=(one,) * 16_000)))


def test_without_a_broker_it_is_unavailable():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 "):
        asyncio.run(read_bundle("127.0.0.1:1", "p."))
