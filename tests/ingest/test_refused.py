"""Batches that cannot be read: their receipts, their account in the fold, and a real broker that serves them."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from stream.core.columns import RejectReason
from stream.core.engine import Engine
from stream.core.engine.ledger import balance
from stream.core.events import DeadLetter
from stream.core.otlp.reference import flat as plain
from stream.core.slo.spec import Bundle, Source
from stream.ingest.cycle import Cycle, Fetched, Session, decode_piece, pieces
from stream.ingest.fetching import parts_of
from stream.ingest.process import IngestOptions, IngestStats, run_ingest
from stream.kafka import clients, topics
from stream.kafka.batches import RefusedBatch
from stream.kafka.clients import TopicPartition
from stream.kafka.local import LocalKafka

PARTITIONS = 2
NOW_NS = time.time_ns() // 1_000_000 * 1_000_000  # the broker's clock says what is late
SEGMENT = "00000000000000000000.log"


@dataclass(frozen=True)
class Record:
    """What the ingest reads of a consumer's record."""

    offset: int
    value: bytes | RefusedBatch
    timestamp: int = NOW_NS // 1_000_000
    topic: str = "events"
    partition: int = 0


def refusal(first_offset: int, last_offset: int, records: int | None = None) -> RefusedBatch:
    return RefusedBatch(
        reason=RejectReason.TOO_LARGE,
        first_offset=first_offset,
        last_offset=last_offset,
        records=last_offset - first_offset + 1 if records is None else records,
        time_ns=NOW_NS + 7_000_000,
        codec="zstd",
        digest=bytes(32),
        detail="a bomb",
    )


def parts(records: Sequence[Record], *, next_offset: int, position: int) -> list[Fetched]:
    listed: Any = records
    return parts_of(0, listed, next_offset=next_offset, position=position)


def spans(fetched: Sequence[Fetched]) -> list[tuple[list[int], RefusedBatch | None, int]]:
    return [(list(part.offsets), part.refused, part.next_offset) for part in fetched]


def test_messages_alone_are_one_part() -> None:
    records = [Record(5, b"a"), Record(8, b"b")]
    assert spans(parts(records, next_offset=5, position=11)) == [([5, 8], None, 11)]


def test_a_refused_batch_is_a_part_between_those_of_its_neighbours() -> None:
    records = [Record(5, b"a"), Record(9, refusal(6, 9)), Record(10, b"b"), Record(12, refusal(11, 12))]
    assert spans(parts(records, next_offset=5, position=15)) == [
        ([5], None, 6),
        ([], refusal(6, 9), 10),
        ([10], None, 11),
        ([], refusal(11, 12), 15),
    ]


def test_of_a_batch_that_was_read_in_part_only_the_rest_is_refused() -> None:
    assert spans(parts([Record(9, refusal(4, 9))], next_offset=7, position=10)) == [([], refusal(7, 9), 10)]
    compacted = parts([Record(9, refusal(4, 9, records=2))], next_offset=6, position=10)
    assert spans(compacted) == [([], refusal(6, 9, records=2), 10)]


def test_every_message_of_a_refused_batch_is_an_item_and_the_cycle_covers_it() -> None:
    records = [Record(5, flat(1)), Record(9, refusal(6, 9)), Record(10, flat(2))]
    session = Session(topic="events", topic_id="id", partition=0, id="s", first_offset=5, next_offset=5)
    cycle = Cycle(sessions=(session,))
    for piece in pieces(parts(records, next_offset=5, position=11)):
        for part, decoded in decode_piece(piece, [plain.decode]):
            cycle = cycle.added(part, decoded)
    receipts = [
        (first, last, items, rejected, decoded.receipts.reasons[reason], decoded.receipts.details[at])
        for decoded in cycle.parts
        for at, (first, last, items, rejected, reason) in enumerate(
            zip(
                *(
                    getattr(decoded.receipts, name).tolist()
                    for name in ("first_offset", "last_offset", "items", "rejected", "reason")
                ),
                strict=True,
            )
        )
    ]
    assert sorted(receipts) == [(5, 5, 1, 0, "", None), (6, 9, 4, 4, "too_large", "a bomb"), (10, 10, 1, 0, "", None)]
    assert cycle.sessions[0].next_offset == 11
    assert cycle.sessions[0].until_ns == NOW_NS + 7_000_000
    assert cycle.messages == 2


def flat(number: int) -> bytes:
    return orjson.dumps({"service": f"s{number % 5}", "time": NOW_NS + number})


class Pipeline:
    """One source of flat events with two partitions, and the log that the ingest makes of it."""

    def __init__(self, kafka: LocalKafka, prefix: str) -> None:
        self.bootstrap = kafka.bootstrap
        self.prefix = prefix
        self.source = f"{prefix}events"
        self.shuffle = f"{prefix}shuffle"
        self._data = kafka.data_dir / "data"

    async def create(self) -> None:
        specs = topics.pipeline_topics(self.prefix, PARTITIONS, 1, "LogAppendTime")
        wanted = [spec for spec in specs if spec.name in (f"{self.prefix}config", self.shuffle)]
        source = topics.TopicSpec(name=self.source, partitions=2, replication=1, ours=False)
        await topics.apply(self.bootstrap, [*wanted, source])
        bundle = Bundle(
            pipeline="test",
            generation="g1",
            partitions=PARTITIONS,
            sources=(Source(topic=self.source, encoding="flat"),),
            objectives=(),
        )
        await self.send(f"{self.prefix}config", 0, [bundle.encode()], codec=None, key=b"test")

    async def send(
        self, topic: str, partition: int, values: Sequence[bytes], *, codec: str | None, key: bytes | None = None
    ) -> None:
        """Appends the values as one batch."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=codec,
            max_batch_size=64 << 20,
            max_request_size=64 << 20,
        )
        await producer.start()
        try:
            batch = producer.create_batch()
            for value in values:
                assert batch.append(key=key, value=value, timestamp=NOW_NS // 1_000_000) is not None
            await (await producer.send_batch(batch, topic, partition=partition))
        finally:
            await producer.stop()

    def damage(self, partition: int, text: bytes) -> None:
        """Flips one bit of a text in the partition's log, on the broker's disk."""
        segment = Path(self._data / f"{self.source}-{partition}" / SEGMENT)
        at = segment.read_bytes().index(text)
        with segment.open("r+b") as file:
            file.seek(at)
            file.write(bytes([text[0] ^ 0x20]))

    async def ingest(self, group: str) -> None:
        """Reads everything there is, as a group that never read before."""
        options = IngestOptions(
            bootstrap=self.bootstrap, prefix=self.prefix, group=group, cycle_s=0.05, progress_s=0.2, compiled=False
        )
        stopping, stats = asyncio.Event(), IngestStats()
        task = asyncio.ensure_future(run_ingest(options, stopping=stopping, stats=stats))
        try:
            async with asyncio.timeout(60):
                while not stats.caught_up and not task.done():  # noqa: ASYNC110 - plain counters tell no one
                    await asyncio.sleep(0.02)
        finally:
            stopping.set()
            await asyncio.wait({task})
        task.result()

    async def folded(self) -> tuple[list[Engine], list[DeadLetter]]:
        """Returns the state of each partition of the log, and the dead letters."""
        reader = await clients.assigned_reader(self.bootstrap)
        engines = [Engine(partition) for partition in range(PARTITIONS)]
        letters: list[DeadLetter] = []
        try:
            partitions = [TopicPartition(self.shuffle, at) for at in range(PARTITIONS)]
            reader.assign(partitions)
            await reader.seek_to_beginning(*partitions)
            ends = await reader.end_offsets(partitions)
            while any([await reader.position(at) < ends[at] for at in partitions]):
                for at, records in (await reader.getmany(timeout_ms=200)).items():
                    for record in records:
                        assert record.value is not None
                        outputs = engines[at.partition].apply(record.offset, record.timestamp * 1_000_000, record.value)
                        letters += [output for output in outputs if isinstance(output, DeadLetter)]
        finally:
            await clients.stop(reader)
        return engines, letters


@pytest.mark.kafka
def test_hostile_batches_cost_themselves_and_nothing_else(kafka: LocalKafka, topic_prefix: str) -> None:
    """A bomb and a damaged batch between good ones are rejected once, also when they are read twice."""
    pipeline = Pipeline(kafka, topic_prefix)

    async def scenario() -> tuple[list[Engine], list[DeadLetter], int]:
        await pipeline.create()
        bomb = [bytes(12 << 20)] * 3
        for codec in ("gzip", "lz4", "zstd", "snappy"):
            await pipeline.send(pipeline.source, 0, [flat(i) for i in range(10)], codec=codec)
        await pipeline.send(pipeline.source, 0, bomb, codec="zstd")
        await pipeline.send(pipeline.source, 0, [flat(i) for i in range(7)], codec="zstd")
        await pipeline.send(pipeline.source, 0, [b'{"damaged": 1}', b"{}"], codec=None)
        await pipeline.send(pipeline.source, 0, [flat(1)], codec=None)
        await pipeline.send(pipeline.source, 1, [flat(i) for i in range(20)], codec="gzip")
        await pipeline.send(pipeline.source, 1, bomb, codec="gzip")
        pipeline.damage(0, b'damaged": 1')
        del bomb
        gc.collect()
        tracemalloc.start()
        await pipeline.ingest(f"{topic_prefix}first")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await pipeline.ingest(f"{topic_prefix}second")
        return *await pipeline.folded(), peak

    engines, letters, peak = asyncio.run(scenario())
    balances = {entry.partition: entry for entry in balance([engine.ledger for engine in engines])}
    assert all(entry.is_equal and not entry.in_flight for entry in balances.values())
    first, second = balances[0], balances[1]
    assert (first.received, first.counted) == (40 + 3 + 7 + 2 + 1, 48)
    assert first.rejected == {"too_large": 3, "malformed": 2}
    assert (second.received, second.counted, second.rejected) == (23, 20, {"too_large": 3})
    assert first.replayed == 48, "the second reading repeated every row"
    found = sorted((letter.partition, letter.offset, letter.reason, letter.items) for letter in letters)
    assert found == [(0, 40, "too_large", 3), (0, 50, "malformed", 2), (1, 20, "too_large", 3)]
    details = {(letter.partition, letter.offset): letter.detail or "" for letter in letters}
    assert "offsets 40 to 42" in details[0, 40]
    assert "decompresses to more than 16,777,216 bytes" in details[0, 40]
    assert "its checksum is wrong" in details[0, 50]
    assert peak < 64 << 20, f"{peak >> 20} MiB for batches of 36 MiB"
