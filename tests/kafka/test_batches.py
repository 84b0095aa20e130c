"""Batches that cannot be read, between good ones: what a consumer's fetcher makes of a response."""

from __future__ import annotations

import asyncio
import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from stream.core.columns import RejectReason
from stream.core.errors import IncompatibleError
from stream.kafka import batches, clients, topics
from stream.kafka.batches import Guard, RefusedBatch, refused, stepping_over
from stream.kafka.clients import ConsumerRecord, TopicPartition
from stream.kafka.local import LocalKafka

AT = TopicPartition("source", 3)
TIME_MS = 1_790_000_000_000
CRC_AT, CRC_FROM, COUNT_AT, DELTA_AT, ATTRIBUTES_AT = 17, 21, 57, 23, 21
READ_UNCOMMITTED = 0
LIMIT = 1 << 16


def batch(
    first_offset: int, values: Sequence[bytes], codec: str = "zstd", header: tuple[str, bytes] | None = None
) -> bytes:
    """Returns a record batch as a producer sends it and a broker numbers it."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=batches.CODECS.index(codec),
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for at, value in enumerate(values):
        builder.append(at, timestamp=TIME_MS + at, key=None, value=value, headers=[header] if header else [])
    return struct.pack(">q", first_offset) + bytes(builder.build())[8:]


def edited(data: bytes, at: int, new: bytes) -> bytes:
    """Returns the batch with other bytes somewhere and the checksum of the result."""
    changed = data[:at] + new + data[at + len(new) :]
    return changed[:CRC_AT] + struct.pack(">I", calc_crc32c(changed[CRC_FROM:])) + changed[CRC_FROM:]


def bomb(first_offset: int, records: int = 3) -> bytes:
    return batch(first_offset, [bytes(LIMIT)] * records)


def read(data: bytes, *, from_offset: int = 0, guard: Guard | None = None) -> list[ConsumerRecord]:
    """Returns what the fetcher of a consumer makes of the bytes of one partition in a response."""
    with stepping_over(guard or Guard(batch_bytes_max=LIMIT)):
        records = fetcher.MemoryRecords(data)
    found = fetcher.PartitionRecords(AT, records, None, from_offset, None, None, True, READ_UNCOMMITTED)
    return list(found)


def only_refusal(data: bytes, **options: Any) -> RefusedBatch:
    found = [batch for record in read(data, **options) if (batch := refused(record)) is not None]
    assert len(found) == 1
    return found[0]


def offsets(records: Sequence[ConsumerRecord]) -> list[tuple[int, bool]]:
    return [(record.offset, refused(record) is not None) for record in records]


@pytest.mark.parametrize("codec", batches.CODECS)
def test_good_batches_are_read_as_ever(codec: str) -> None:
    records = read(batch(10, [b"a", b"b"], codec) + batch(12, [b"c"], codec), from_offset=11)
    assert [(r.offset, r.value, r.timestamp) for r in records] == [(11, b"b", TIME_MS + 1), (12, b"c", TIME_MS)]
    assert [refused(record) for record in records] == [None, None]


@pytest.mark.parametrize("codec", batches.CODECS[1:])
def test_a_bomb_is_one_record_between_its_neighbours(codec: str) -> None:
    data = batch(7, [bytes(LIMIT)] * 3, codec)
    records = read(batch(5, [b"a", b"b"]) + data + batch(10, [b"c"]), from_offset=5)
    assert offsets(records) == [(5, False), (6, False), (9, True), (10, False)]
    found = refused(records[2])
    assert found == RefusedBatch(
        reason=RejectReason.TOO_LARGE,
        first_offset=7,
        last_offset=9,
        records=3,
        time_ns=(TIME_MS + 2) * 1_000_000,
        codec=codec,
        digest=hashlib.sha256(data).digest(),
        detail=f"batch of 3 messages at offsets 7 to 9, {len(data):,} bytes, {codec}: "
        "it decompresses to more than 65,536 bytes; send smaller batches, or allow larger ones",
    )


def test_the_count_of_a_compacted_batch_is_that_of_its_header() -> None:
    data = edited(bomb(100), DELTA_AT, struct.pack(">i", 9))
    found = only_refusal(data, from_offset=100)
    assert (found.first_offset, found.last_offset, found.records) == (100, 109, 3)


@pytest.mark.parametrize("codec", batches.CODECS)
def test_a_wrong_checksum_costs_its_batch_only(codec: str) -> None:
    damaged = bytearray(batch(7, [b"x" * 100, b"y" * 100], codec))
    damaged[-3] ^= 0x10
    records = read(batch(5, [b"a", b"b"]) + bytes(damaged) + batch(9, [b"c"]), from_offset=5)
    assert offsets(records) == [(5, False), (6, False), (8, True), (9, False)]
    found = refused(records[2])
    assert found is not None
    assert (found.reason, found.records, found.time_ns) == (RejectReason.MALFORMED, 2, None)
    assert "its checksum is wrong" in found.detail


@pytest.mark.parametrize("at", [ATTRIBUTES_AT + 1, DELTA_AT, DELTA_AT + 3, COUNT_AT, COUNT_AT + 3])
def test_where_the_checksum_is_wrong_the_next_batch_says_where_it_begins(at: int) -> None:
    damaged = bytearray(batch(7, [b"x", b"y"]))
    damaged[at] ^= 0xFF
    records = read(bytes(damaged) + batch(9, [b"c"])[:20], from_offset=7)
    assert offsets(records) == [(8, True)]


@pytest.mark.parametrize("at", [DELTA_AT, DELTA_AT + 3, COUNT_AT])
def test_a_damaged_last_batch_whose_end_nobody_knows_is_left_offset_by_offset(at: int) -> None:
    damaged = bytearray(batch(7, [b"x", b"y", b"z"]))
    damaged[at] ^= 0x7F
    guard, position = Guard(), 7
    for expected in (7, 8, 9):
        records = read(bytes(damaged), from_offset=position, guard=guard)
        assert offsets(records) == [(expected, True)]
        position = records[-1].offset + 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (edited(batch(0, [b"x" * 999, b"y"]), 70, b"garbage"), "zstd"),
        (edited(batch(0, [b"x" * 999, b"y"], "gzip"), 75, b"garbage"), "gzip"),
        (edited(batch(0, [b"x" * 999, b"y"]), ATTRIBUTES_AT, struct.pack(">h", 6)), "codec 6"),
        (edited(batch(0, [b"x", b"y"]), COUNT_AT, struct.pack(">i", 1)), "unconsumed bytes"),
        (edited(batch(0, [b"x", b"y"], "none"), COUNT_AT, struct.pack(">i", -1)), "unconsumed bytes"),
    ],
    ids=["zstd", "gzip", "unknown codec", "fewer records than bytes", "negative count"],
)
def test_what_does_not_decompress_is_malformed(data: bytes, said: str) -> None:
    records = read(data + batch(2, [b"good"]))
    assert records[-1].value == b"good"
    found = refused(records[-2])
    assert found is not None
    assert found.reason is RejectReason.MALFORMED
    assert said in found.detail
    assert sum(1 for record in records if refused(record) is None) + found.records == 3


def test_records_before_a_broken_one_count_as_read() -> None:
    good = batch(20, [b"a", b"b", b"c"], "none", header=("name", b"v"))
    at = good.rindex(b"name")
    records = read(edited(good, at, b"\xff\xfe\xfd\xfc") + batch(23, [b"d"]), from_offset=20)
    assert offsets(records) == [(20, False), (21, False), (22, True), (23, False)]
    found = refused(records[2])
    assert found is not None
    assert (found.reason, found.first_offset, found.last_offset, found.records) == (RejectReason.MALFORMED, 22, 22, 1)


def test_a_response_may_end_within_a_batch() -> None:
    whole = batch(0, [b"a"])
    assert offsets(read(whole + batch(1, [b"b"])[:-1])) == [(0, False)]


def test_what_is_read_is_reported_with_its_codec() -> None:
    seen: list[tuple[str, int, int]] = []
    guard = Guard(batch_bytes_max=LIMIT, seen=lambda *what: seen.append(what))
    zstd, plain, hostile = batch(0, [b"a"] * 5), batch(5, [b"b"], "none"), bomb(6)
    read(zstd + plain + hostile, guard=guard)
    assert seen == [("zstd", len(zstd), 5), ("none", len(plain), 1), ("zstd", len(hostile), 3)]


def test_a_consumer_of_our_own_topics_raises() -> None:
    hostile = batch(0, [bytes(32 << 20)])
    records = fetcher.MemoryRecords(hostile)
    found = fetcher.PartitionRecords(AT, records, None, 0, None, None, True, READ_UNCOMMITTED)
    with pytest.raises(CorruptRecordException, match="decompresses to more than 16777216 bytes"):
        list(found)


def test_another_aiokafka_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", object)
    with pytest.raises(IncompatibleError, match="its fetcher reads batches otherwise"):
        batches.apply()


@pytest.mark.kafka
@pytest.mark.parametrize("codec", batches.CODECS[1:])
def test_what_a_broker_compresses_is_read_and_a_bomb_among_it_stepped_over(
    kafka: LocalKafka, topic_prefix: str, codec: str
) -> None:
    """The broker writes with Java's libraries, snappy in xerial's framing."""
    topic = topics.TopicSpec(
        name=f"{topic_prefix}{codec}",
        partitions=2,
        replication=1,
        config={"compression.type": codec, "max.message.bytes": str(8 << 20)},
    )
    at, other = (TopicPartition(topic.name, partition) for partition in range(2))
    good = [bytes([65 + i]) * 50_000 for i in range(20)]
    seen: list[tuple[str, int, int]] = []
    guard = Guard(batch_bytes_max=2 << 20, seen=lambda *what: seen.append(what))

    async def scenario() -> list[ConsumerRecord]:
        await topics.apply(kafka.bootstrap, [topic])
        producer = await clients.ingest_producer(kafka.bootstrap)
        reader = await clients.assigned_reader(kafka.bootstrap, guard=guard)
        try:
            for value in (*good, bytes(3 << 20), b"last"):
                await (await producer.send(topic.name, value, partition=0))
            await (await producer.send(topic.name, b"elsewhere", partition=1))
            reader.assign([at, other])
            await reader.seek_to_beginning(at, other)
            found: list[ConsumerRecord] = []
            async with asyncio.timeout(20):
                while len(found) < len(good) + 3:
                    found += [
                        record for records in (await reader.getmany(timeout_ms=200)).values() for record in records
                    ]
            return found
        finally:
            await clients.stop(producer)
            await clients.stop(reader)

    records = asyncio.run(scenario())
    first = sorted((record for record in records if record.partition == 0), key=lambda record: record.offset)
    assert [record.value for record in first if refused(record) is None] == [*good, b"last"]
    stood = refused(first[len(good)])
    assert stood is not None
    assert (stood.reason, stood.first_offset, stood.records, stood.codec) == (RejectReason.TOO_LARGE, 20, 1, codec)
    assert [record.value for record in records if record.partition == 1] == [b"elsewhere"]
    assert {name for name, _, _ in seen} == {codec}
    assert sum(count for _, _, count in seen) == len(good) + 3
