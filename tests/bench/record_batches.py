"""Kafka record batches in memory, as a broker returns them: format 2, zstd, a checksum each."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from stream.ingest.cycle import Fetched
from stream.kafka import decompression

MESSAGES_PER_BATCH = 4
"""About a megabyte of spans: what a producer sends at most by default."""

FETCH_BYTES = 4 << 20
"""What the ingest asks of a source partition at once, as it lies in the log."""

_ZSTD = 4
_BATCH_BYTES_MAX = 1 << 30

decompression.apply()  # batches are bounded, for the peers as well


def record_batches(values: Sequence[bytes], *, time_ns: int, first_offset: int = 0) -> list[bytes]:
    """Returns the messages in batches at consecutive offsets."""
    return [
        _batch(values[at : at + MESSAGES_PER_BATCH], first_offset + at, time_ns // 1_000_000)
        for at in range(0, len(values), MESSAGES_PER_BATCH)
    ]


def _batch(values: Sequence[bytes], first_offset: int, time_ms: int) -> bytes:
    builder = DefaultRecordBatchBuilder(
        2,
        _ZSTD,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=_BATCH_BYTES_MAX,
    )
    for at, value in enumerate(values):
        assert builder.append(at, timestamp=time_ms, key=None, value=value, headers=[]) is not None
    data = bytes(builder.build())
    return struct.pack(">q", first_offset) + data[8:]  # the broker sets the offset; the checksum does not cover it


def fetched(batch: bytes) -> Fetched:
    """Returns the messages of a batch, its checksum verified, as the ingest gets them."""
    offsets, times_ns, values = [], [], []
    records = MemoryRecords(batch)
    while records.has_next():
        whole = records.next_batch()
        assert whole.validate_crc()
        for record in whole:
            offsets.append(record.offset)
            times_ns.append(record.timestamp * 1_000_000)
            values.append(record.value)
    return Fetched(source=0, offsets=offsets, times_ns=times_ns, values=values, next_offset=offsets[-1] + 1)


def fetches(batches: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yields the batches as a broker that has all of them returns them: as many as `FETCH_BYTES` hold at a time."""
    fetch: list[bytes] = []
    for batch in batches:
        if fetch and sum(map(len, fetch)) + len(batch) > FETCH_BYTES:
            yield fetch
            fetch = []
        fetch.append(batch)
    if fetch:
        yield fetch


def as_one(parts: Sequence[Fetched]) -> Fetched:
    """Returns the messages of the batches of one fetch, as the ingest gets them."""
    return Fetched(
        source=0,
        offsets=[offset for part in parts for offset in part.offsets],
        times_ns=[time_ns for part in parts for time_ns in part.times_ns],
        values=[value for part in parts for value in part.values],
        next_offset=parts[-1].next_offset,
    )
