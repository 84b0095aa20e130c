"""The ingest on a real broker: what was produced is in the log once, whatever happens to processes and topics."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka.admin import RecordsToDelete

from stream.core.errors import UnavailableError
from stream.core.log import LogRecord, decode_record
from stream.core.service_key import partition_of
from stream.core.slo.spec import Bundle, Source, decode_bundle
from stream.ingest.process import IngestOptions, IngestStats, run_ingest
from stream.kafka import clients, topics
from stream.kafka.clients import TopicPartition

PARTITIONS = 4
CHILD = Path(__file__).with_name("ingest_child.py")
REPOSITORY = Path(__file__).parents[2]

Row = tuple[str, int, int]
"""Topic id, source partition, offset: each flat event makes one row."""


class Pipeline:
    """Topics, a configuration and two source partitions of flat events."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.source = f"{prefix}events"
        self.shuffle = f"{prefix}shuffle"

    async def create(self) -> None:
        specs = topics.pipeline_topics(self.prefix, PARTITIONS, 1, "LogAppendTime")
        wanted = [spec for spec in specs if spec.name in (f"{self.prefix}config", self.shuffle)]
        await topics.apply(self.bootstrap, wanted)
        await self.create_source()
        await self.configure(self.source)

    async def configure(self, *sources: str) -> None:
        """Applies the next version of the configuration, with these sources of flat events."""
        bundle = Bundle(
            pipeline="test",
            generation="g1",
            partitions=PARTITIONS,
            sources=tuple(Source(topic=topic, encoding="flat") for topic in sources),
            objectives=(),
        )
        await self._send(f"{self.prefix}config", [(0, bundle.encode())])

    async def create_source(self) -> None:
        spec = topics.TopicSpec(name=self.source, partitions=2, replication=1, ours=False)
        await topics.apply(self.bootstrap, [spec])

    async def produce(self, events: int) -> None:
        """Appends that many events in turn to the two partitions, of 20 services."""
        time_ns = 1_790_000_000_000_000_000
        bodies = [(at % 2, orjson.dumps({"service": f"s{at % 20}", "time": time_ns + at})) for at in range(events)]
        await self._send(self.source, bodies)

    async def _send(self, topic: str, bodies: Sequence[tuple[int, bytes]]) -> None:
        producer = await clients.ingest_producer(self.bootstrap)
        try:
            sent = [await producer.send(topic, body, partition=at, key=b"test") for at, body in bodies]
            await asyncio.gather(*sent)
        finally:
            await clients.stop(producer)

    async def administer(self, work: Callable[[Any], Awaitable[object]]) -> None:
        client = await clients.admin(self.bootstrap)
        try:
            await work(client)
        finally:
            await clients.stop(client)

    async def log(self) -> dict[int, list[LogRecord]]:
        """Returns all records of the shuffle log."""
        reader = await clients.assigned_reader(self.bootstrap)
        try:
            partitions = [TopicPartition(self.shuffle, at) for at in range(PARTITIONS)]
            reader.assign(partitions)
            await reader.seek_to_beginning(*partitions)
            ends = await reader.end_offsets(partitions)
            found: dict[int, list[LogRecord]] = {at: [] for at in range(PARTITIONS)}
            while any([await reader.position(at) < ends[at] for at in partitions]):
                for at, records in (await reader.getmany(timeout_ms=200)).items():
                    found[at.partition] += [decode_record(record.value or b"") for record in records]
            return found
        finally:
            await clients.stop(reader)

    @asynccontextmanager
    async def running(self, progress_s: float = 0.2) -> AsyncIterator[asyncio.Future[None]]:
        """An ingest that has read everything; stopped in good order at the end."""
        options = IngestOptions(bootstrap=self.bootstrap, prefix=self.prefix, cycle_s=0.05, progress_s=progress_s)
        stopping, stats = asyncio.Event(), IngestStats()
        task = asyncio.ensure_future(run_ingest(options, stopping=stopping, stats=stats))
        async with asyncio.timeout(20):
            while not stats.caught_up and not task.done():  # noqa: ASYNC110 - plain counters tell no one
                await asyncio.sleep(0.02)
        try:
            yield task
        finally:
            stopping.set()
            await asyncio.wait({task})
        task.result()


class Fold:
    """What the state does with the log, reduced to the deduplication by applied offset."""

    def __init__(self, log: dict[int, list[LogRecord]]) -> None:
        self.rows: Counter[Row] = Counter()
        self.items: Counter[str] = Counter()
        self.replayed = 0
        self.lost: dict[int, set[tuple[str, int, int]]] = defaultdict(set)
        for destination, records in log.items():
            self._apply(destination, records)

    def _apply(self, destination: int, records: Sequence[LogRecord]) -> None:
        applied: dict[str, int] = defaultdict(lambda: -1)
        sequences: Counter[str] = Counter()
        for record in records:
            assert record.sequence == sequences[record.incarnation], "a record is missing or repeated"
            sequences[record.incarnation] += 1
            if record.sequence == 0:
                assert decode_bundle(record.config or b"").generation == "g1"
            for index, entry in enumerate(record.sources):
                self._rows(record, index, applied[entry.id], destination)
                self._items(record, index, applied[entry.id])
                applied[entry.id] = max(applied[entry.id], entry.next_offset - 1)
            for gap in record.progress.lost if record.progress is not None else ():
                entry = record.sources[gap.source]
                self.lost[destination].add((entry.id, gap.first_offset, gap.next_offset))

    def _rows(self, record: LogRecord, index: int, applied: int, destination: int) -> None:
        rows, entry = record.rows, record.sources[index]
        if rows is None:
            return
        assert all(partition_of(service, PARTITIONS) == destination for service in rows.services)
        for offset in rows.offset[rows.source == index].tolist():
            if offset > applied:
                self.rows[entry.topic_id, entry.partition, offset] += 1
            else:
                self.replayed += 1

    def _items(self, record: LogRecord, index: int, applied: int) -> None:
        receipts = record.receipts
        if receipts is None:
            return
        mine = receipts.source == index
        for first, last in zip(receipts.first_offset[mine], receipts.last_offset[mine], strict=True):
            self.items[record.sources[index].id] += max(0, int(last) - max(int(first), applied + 1) + 1)


def expected(topic_id: str, first_offset: int, next_offset: int) -> Counter[Row]:
    return Counter(
        (topic_id, partition, offset) for partition in range(2) for offset in range(first_offset, next_offset)
    )


def child(pipeline: Pipeline, point: str, cycle: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), pipeline.bootstrap, pipeline.prefix, point, str(cycle)],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )


def died(process: subprocess.Popen[str]) -> int:
    """Returns how the process ended, once it has."""
    with process:
        return process.wait(30)


@pytest.mark.kafka
def test_kill_9_in_the_middle_of_a_cycle_neither_loses_nor_repeats_a_row(kafka: Any, topic_prefix: str) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix)

    async def prepare() -> None:
        await pipeline.create()
        await pipeline.produce(2000)

    asyncio.run(prepare())
    # Acknowledged, but not committed: the next one must send these rows again.
    assert died(child(pipeline, "acked", 3)) == -signal.SIGKILL
    with child(pipeline, "never", 0) as survivor:
        try:
            assert survivor.stdout is not None
            assert survivor.stdout.readline() == "caught up\n"
            survivor.terminate()
            assert survivor.wait(10) == 0
        finally:
            survivor.kill()
    fold = Fold(asyncio.run(pipeline.log()))
    (topic_id,) = {row[0] for row in fold.rows}
    assert fold.rows == expected(topic_id, 0, 1000)
    assert fold.items == {f"{topic_id}/0": 1000, f"{topic_id}/1": 1000}
    assert fold.replayed > 0, "nothing was sent twice: the test did not kill in the middle"


async def delete_source_under_running_ingest(pipeline: Pipeline) -> None:
    async with pipeline.running() as ingest, asyncio.timeout(20):
        await pipeline.administer(lambda client: client.delete_topics([pipeline.source]))
        await asyncio.wait({ingest})


@pytest.mark.kafka
def test_lost_offsets_are_named_and_a_recreated_topic_is_another_source(kafka: Any, topic_prefix: str) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix)

    async def scenario() -> None:
        await pipeline.create()
        await pipeline.produce(100)
        async with pipeline.running():
            pass
        await pipeline.produce(200)
        gone = {TopicPartition(pipeline.source, 0): RecordsToDelete(before_offset=90)}
        await pipeline.administer(lambda client: client.delete_records(gone))
        async with pipeline.running():
            pass
        fold = Fold(await pipeline.log())
        (old_id,) = {row[0] for row in fold.rows}
        assert fold.lost == {at: {(f"{old_id}/0", 50, 90)} for at in range(PARTITIONS)}
        kept = expected(old_id, 0, 150) - Counter((old_id, 0, offset) for offset in range(50, 90))
        assert fold.rows == kept

        with pytest.raises(UnavailableError, match=r"created again|no longer exists"):
            await delete_source_under_running_ingest(pipeline)
        await pipeline.create_source()
        await pipeline.produce(60)
        async with pipeline.running():
            pass
        again = Fold(await pipeline.log())
        (new_id,) = {row[0] for row in again.rows} - {old_id}
        assert again.rows == kept + expected(new_id, 0, 30)

    asyncio.run(scenario())


async def has_read(pipeline: Pipeline, topic: str, messages: int) -> bool:
    """Returns whether progress says that so many messages of a topic were read, and that they were all."""
    told = [
        (r, entry) for rs in (await pipeline.log()).values() for r in rs if r.progress for entry in r.progress.sources
    ]
    return any(
        (r.sources[e.source].topic, r.sources[e.source].next_offset, e.at_end) == (topic, messages, True)
        for r, e in told
    )


async def has_left(pipeline: Pipeline, topic: str) -> bool:
    """Returns whether a configuration that does not name the topic is in every partition of the log."""
    newest = [[record.config for record in records if record.config] for records in (await pipeline.log()).values()]
    return all(sent and topic not in {s.topic for s in decode_bundle(sent[-1]).sources} for sent in newest)


@pytest.mark.kafka
def test_a_source_that_is_no_longer_configured_is_left_and_the_others_are_read_on(
    kafka: Any, topic_prefix: str
) -> None:
    pipeline = Pipeline(kafka.bootstrap, topic_prefix)
    other = f"{topic_prefix}other"

    async def scenario() -> None:
        await pipeline.create()
        await topics.apply(pipeline.bootstrap, [topics.TopicSpec(name=other, partitions=1, replication=1, ours=False)])
        await pipeline.configure(pipeline.source, other)
        await pipeline.produce(20)
        async with pipeline.running(progress_s=60) as ingest, asyncio.timeout(40):
            event = orjson.dumps({"service": "s1", "time": 1_790_000_000_000_000_000})
            await pipeline._send(other, [(0, event)])
            while not ingest.done() and not await has_read(pipeline, other, 1):  # noqa: ASYNC110 - a topic is looked at
                await asyncio.sleep(0.1)
            await pipeline._send(other, [(0, event)] * 2)  # nothing that must be told before it is due
            while not ingest.done() and len(Fold(await pipeline.log()).rows) < 23:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.1)
            await pipeline.configure(pipeline.source)
            while not ingest.done() and not await has_left(pipeline, other):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.1)
            await pipeline.produce(20)
            while not ingest.done() and len(Fold(await pipeline.log()).rows) < 43:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.1)
        log = await pipeline.log()
        assert len(Fold(log).rows) == 43
        covered = [[s.next_offset for r in records for s in r.sources if s.topic == other] for records in log.values()]
        assert [max(offsets) for offsets in covered] == [3] * PARTITIONS, "partitions do not know where it ended"

    asyncio.run(scenario())
