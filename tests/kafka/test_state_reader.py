"""Checkpoints as an outsider reads them: what is committed counts, nothing else, and nobody is disturbed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from stream.core.engine.chunks import MANIFEST
from stream.core.errors import ConfigError, UnavailableError
from stream.kafka.clients import Producer, checkpoint_producer, stop
from stream.kafka.local import LocalKafka
from stream.kafka.source_ends import source_ends
from stream.kafka.state_reader import read_latest, read_ledgers
from stream.kafka.topics import apply, pipeline_topics

pytestmark = pytest.mark.kafka

PARTITIONS = 3


@pytest.fixture
def state(kafka: LocalKafka, topic_prefix: str) -> str:
    """A state topic of three partitions."""
    asyncio.run(apply(kafka.bootstrap, pipeline_topics(topic_prefix, PARTITIONS, 1, "LogAppendTime")))
    return f"{topic_prefix}state"


async def write(producer: Producer, topic: str, partition: int, values: Mapping[bytes, bytes | None]) -> None:
    for key, value in values.items():
        await (await producer.send(topic, value, key=key, partition=partition))


async def commit(kafka: LocalKafka, topic: str, partition: int, *transactions: Mapping[bytes, bytes | None]) -> None:
    """Commits each mapping in a transaction of its own."""
    producer = await checkpoint_producer(kafka.bootstrap, f"{topic}-{partition}")
    try:
        for values in transactions:
            await producer.begin_transaction()
            await write(producer, topic, partition, values)
            await producer.commit_transaction()
    finally:
        await stop(producer)


def test_the_last_committed_value_of_each_key_is_read(kafka: LocalKafka, state: str):
    asyncio.run(commit(kafka, state, 1, {b"a": b"1", b"b": b"1", b"c": b"1"}, {b"a": b"2", b"b": None}))
    asyncio.run(commit(kafka, state, 2, {b"a": b"9"}))

    found = asyncio.run(read_latest(kafka.bootstrap, state, range(PARTITIONS)))

    assert found == {0: {}, 1: {b"a": b"2", b"c": b"1"}, 2: {b"a": b"9"}}


def test_only_the_asked_for_partitions_and_keys_are_kept(kafka: LocalKafka, state: str):
    asyncio.run(commit(kafka, state, 1, {b"a": b"1", b"b": b"1"}))
    asyncio.run(commit(kafka, state, 2, {b"a": b"9"}))

    assert asyncio.run(read_latest(kafka.bootstrap, state, [1], {b"a"})) == {1: {b"a": b"1"}}
    assert asyncio.run(read_latest(kafka.bootstrap, state, [])) == {}


def test_what_was_aborted_or_is_still_open_does_not_count(kafka: LocalKafka, state: str):
    async def read() -> list[dict[int, dict[bytes, bytes]]]:
        producer = await checkpoint_producer(kafka.bootstrap, f"{state}-0")
        try:
            await producer.begin_transaction()
            await write(producer, state, 0, {b"a": b"1"})
            await producer.commit_transaction()
            await producer.begin_transaction()
            await write(producer, state, 0, {b"a": b"2"})
            while_open = await asyncio.wait_for(read_latest(kafka.bootstrap, state, [0]), 15)
            await producer.abort_transaction()
            return [while_open, await read_latest(kafka.bootstrap, state, [0])]
        finally:
            await stop(producer)

    assert asyncio.run(read()) == [{0: {b"a": b"1"}}] * 2


def test_a_partition_without_a_checkpoint_has_an_empty_ledger(kafka: LocalKafka, state: str):
    asyncio.run(commit(kafka, state, 1, {b"claim": b"1"}))

    ledgers = asyncio.run(read_ledgers(kafka.bootstrap, state, PARTITIONS))

    assert [ledger.sources for ledger in ledgers] == [{}] * PARTITIONS
    assert asyncio.run(read_latest(kafka.bootstrap, state, [1], {MANIFEST})) == {1: {}}


def test_a_topic_or_partition_that_does_not_exist_is_named(kafka: LocalKafka, state: str):
    with pytest.raises(ConfigError, match=rf"no topic {state} with partitions 0 to 3"):
        asyncio.run(read_ledgers(kafka.bootstrap, state, PARTITIONS + 1))
    with pytest.raises(ConfigError, match=rf"no topic {state}-not with partitions 0 to 0"):
        asyncio.run(read_ledgers(kafka.bootstrap, f"{state}-not", 1))


def test_without_a_broker_it_is_unavailable():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 "):
        asyncio.run(read_ledgers("127.0.0.1:1", "state", 1))


def test_the_ends_of_a_source_are_by_topic_id_and_partition(kafka: LocalKafka, topic_prefix: str):
    source = f"{topic_prefix}events"
    specs = pipeline_topics(topic_prefix, PARTITIONS, 1, "LogAppendTime", sources=[source])
    asyncio.run(apply(kafka.bootstrap, specs))
    asyncio.run(commit(kafka, source, 1, {b"a": b"1", b"b": b"2"}))

    ends = asyncio.run(source_ends(kafka.bootstrap, [source, f"{source}-not"]))

    assert [(end.topic, end.partition, end.first_offset) for end in ends] == [(source, n, 0) for n in range(PARTITIONS)]
    assert [end.next_offset for end in ends] == [0, 3, 0]  # the mark of the commit takes an offset too
    assert len({end.topic_id for end in ends}) == 1
    assert asyncio.run(source_ends(kafka.bootstrap, [])) == []
