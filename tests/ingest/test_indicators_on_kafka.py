"""What transactions write, as the ingest reads it on a real broker: events of producers, and our own indicators."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from stream.config.sources import own_indicators
from stream.core.log import LogRecord
from stream.core.slo.spec import Bundle, Source
from stream.core.units import DAY_NS
from stream.kafka import clients, topics
from tests.ingest.test_indicators import some_events
from tests.ingest.test_process import PARTITIONS, Fold, Pipeline, has_left

pytestmark = pytest.mark.kafka


def event(number: int) -> bytes:
    return orjson.dumps({"service": f"s{number}", "time": 1_790_000_000_000_000_000 + number})


async def write(pipeline: Pipeline, topic: str, transactions: Sequence[tuple[bool, Sequence[bytes]]]) -> None:
    """Writes messages to partition 0, those of each transaction committed or aborted."""
    producer: Any = await clients.checkpoint_producer(pipeline.bootstrap, f"{pipeline.prefix}test")
    try:
        for is_committed, values in transactions:
            await producer.begin_transaction()
            for value in values:
                await (await producer.send(topic, value, partition=0))
            await (producer.commit_transaction() if is_committed else producer.abort_transaction())
    finally:
        await clients.stop(producer)


def indicators(log: dict[int, list[LogRecord]]) -> list[tuple[int, str, bool]]:
    """Returns offset, objective and whether it counts of every copy in the log."""
    return sorted(
        (int(offset), name, bool(counts))
        for records in log.values()
        for record in records
        if (found := record.indicators) is not None
        for offset, name, counts in zip(found.offset, found.objective, found.counts, strict=True)
    )


async def create_own(pipeline: Pipeline) -> None:
    """Creates the topics of a pipeline, with that of its own indicators."""
    await pipeline.create()
    own = topics.TopicSpec(name=own_indicators(pipeline.prefix).topic, partitions=1, replication=1)
    await topics.apply(pipeline.bootstrap, [own])


async def ask(pipeline: Pipeline) -> None:
    """Applies a configuration that has our own indicators among its sources."""
    bundle = Bundle(
        pipeline="test",
        generation="g1",
        partitions=PARTITIONS,
        sources=(Source(topic=pipeline.source, encoding="flat"), own_indicators(pipeline.prefix)),
        objectives=(),
    )
    await pipeline._send(f"{pipeline.prefix}config", [(0, bundle.encode())])


def test_what_a_transaction_aborted_is_not_read_and_does_not_hold_up_what_follows(
    kafka: Any, topic_prefix: str
) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix)
    events = [event(number) for number in range(30)]

    async def scenario() -> Fold:
        await pipeline.create()
        aborted = ((True, events[:10]), (False, events[10:20]), (True, events[20:25]), (False, events[25:]))
        await write(pipeline, pipeline.source, aborted)
        async with pipeline.running():  # it reads to the end, behind the last abort
            pass
        return Fold(await pipeline.log())

    fold = asyncio.run(scenario())
    # A transaction ends with a marker, which has an offset as well.
    assert {offset for _, _, offset in fold.rows} == {*range(10), *range(22, 27)}
    assert sum(fold.items.values()) == 15


def test_our_own_indicators_are_read_from_where_they_are_asked_for_and_have_no_time(
    kafka: Any, topic_prefix: str
) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix)
    own = own_indicators(pipeline.prefix)
    values = some_events()[1]

    async def scenario() -> dict[int, list[LogRecord]]:
        await create_own(pipeline)
        await write(pipeline, own.topic, [(True, values[:3])])
        await ask(pipeline)
        async with pipeline.running() as ingest, asyncio.timeout(30):
            await write(pipeline, own.topic, [(False, values[3:5]), (True, values[5:7])])
            while not ingest.done() and not indicators(await pipeline.log()):  # noqa: ASYNC110 - a topic is looked at
                await asyncio.sleep(0.1)
        return await pipeline.log()

    log = asyncio.run(scenario())
    # Three messages and their marker were there before, two and their marker were aborted.
    assert [(offset, counts) for offset, _, counts in indicators(log)] == [(7, True), (8, True)]
    timed = {
        record.sources[entry.source].topic
        for records in log.values()
        for record in records
        if record.progress is not None
        for entry in record.progress.sources
    }
    assert timed == {pipeline.source}
    covered = {(source.topic, source.next_offset) for records in log.values() for source in records[-1].sources}
    assert (own.topic, 10) in covered


def test_indicators_of_days_in_which_nobody_asked_for_them_are_passed_over(kafka: Any, topic_prefix: str) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix)
    own = own_indicators(pipeline.prefix).topic
    values = some_events()[1]

    async def publish(values: Sequence[bytes], days_ago: int) -> None:
        # In no transaction: the marker of one would be of today.
        producer = await clients.ingest_producer(pipeline.bootstrap)
        time_ms = (time.time_ns() - days_ago * DAY_NS) // 1_000_000
        try:
            await asyncio.gather(*[await producer.send(own, v, partition=0, timestamp_ms=time_ms) for v in values])
        finally:
            await clients.stop(producer)

    async def offsets() -> list[int]:
        return [offset for offset, _, _ in indicators(await pipeline.log())]

    async def read(ingest: asyncio.Future[None], offset: int) -> None:
        while not ingest.done() and offset not in await offsets():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.1)

    async def scenario() -> dict[int, list[LogRecord]]:
        await create_own(pipeline)
        await ask(pipeline)
        async with pipeline.running() as ingest, asyncio.timeout(60):
            await publish(values[:2], days_ago=3)
            await read(ingest, 1)
            await pipeline.configure(pipeline.source)
            while not ingest.done() and not await has_left(pipeline, own):  # noqa: ASYNC110 - a topic is looked at
                await asyncio.sleep(0.1)
            await publish(values[2:5], days_ago=3)
            await publish(values[5:7], days_ago=0)
            await ask(pipeline)
            await read(ingest, 6)
        return await pipeline.log()

    log = asyncio.run(scenario())
    assert [offset for offset, _, _ in indicators(log)] == [0, 1, 5, 6]
    assert not [lost for records in log.values() for r in records if r.progress for lost in r.progress.lost]
