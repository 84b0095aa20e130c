"""Finding brokers, and the errors of those that cannot be found."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stream.core.errors import ConfigError, UnavailableError
from stream.kafka import clients
from stream.kafka.clients import TopicPartition
from stream.kafka.topics import TopicSpec, apply

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(14)
    writer.write(bytes(8))
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def freeze(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # to its end: the client gives up
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def listening(behaviour: Answer) -> AsyncIterator[str]:
    served = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        await behaviour(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await asyncio.gather(*filter(None, served))


def closed_port() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{unused.getsockname()[1]}"


def test_servers_reads_hosts_and_ports() -> None:
    assert clients.servers("a:1, b.example:9092,[::1]:9093") == (("a", 1), ("b.example", 9092), ("::1", 9093))


@pytest.mark.parametrize("bootstrap", ["", "localhost", "localhost:", ":9092", "a:1,", "a:0", "a:70000", "a:x"])
def test_an_address_without_host_or_port_is_refused(bootstrap: str) -> None:
    with pytest.raises(ConfigError, match="not HOST:PORT"):
        clients.servers(bootstrap)


def test_reachable_keeps_the_servers_that_answer() -> None:
    async def scenario() -> None:
        async with listening(answer) as good, listening(hang_up) as rude, listening(freeze) as frozen:
            assert await clients.reachable(f"{frozen},{closed_port()},{good},{rude}") == good

    asyncio.run(scenario())


def test_when_none_answers_each_is_named_with_its_reason() -> None:
    async def scenario() -> None:
        async with listening(hang_up) as rude, listening(freeze) as frozen:
            dead = closed_port()
            with pytest.raises(UnavailableError) as refused:
                await clients.reachable(f"{frozen},{dead},{rude}", wait_s=0.2)
        message = str(refused.value)
        assert f"{frozen} (no answer within 0.2 s)" in message
        assert f"{dead} (Connection refused)" in message
        assert f"{rude} (closed the connection: not a plaintext Kafka listener?)" in message
        assert "--broker HOST:PORT" in message

    asyncio.run(scenario())


@pytest.mark.kafka
def test_ingest_joins_its_group_and_leaves_the_start_to_the_caller(kafka: Any, topic_prefix: str) -> None:
    async def scenario() -> None:
        at = TopicPartition(topic_prefix + "source", 0)
        with pytest.raises(ConfigError, match=rf"no topic {topic_prefix}source at .*qma topics apply"):
            await clients.ingest_consumer(kafka.bootstrap, topic_prefix, [at.topic])
        await apply(kafka.bootstrap, [TopicSpec(name=at.topic, partitions=1, replication=1)])
        producer = await clients.ingest_producer(kafka.bootstrap)
        await (await producer.send(at.topic, b"x", partition=0))
        consumer = await clients.ingest_consumer(kafka.bootstrap, topic_prefix, [at.topic])
        while not consumer.assignment():  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.05)
        with pytest.raises(clients.NoOffsetForPartitionError):
            await consumer.getmany(timeout_ms=10_000)
        consumer.seek(at, 0)
        (record,) = (await consumer.getmany(timeout_ms=10_000))[at]
        assert (record.offset, record.value) == (0, b"x")
        await consumer.commit({at: 1})
        assert await consumer.committed(at) == 1
        await asyncio.gather(clients.stop(consumer), clients.stop(producer))

    asyncio.run(scenario())
