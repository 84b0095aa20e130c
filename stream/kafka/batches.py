"""Record batches that cannot be read: stepped over and reported, where aiokafka would raise for ever.

A batch that decompresses to more than the limit, does not decompress, or has a wrong checksum comes out of a consumer
made in `stepping_over` as one record in the order of the others; `refused` tells it from a message. Its neighbours and
the other partitions are not disturbed: an exception out of aiokafka's `getmany` would lose what it had taken from
other partitions in the same call. A consumer made elsewhere reads our own topics, of which nothing may be missing:
there such a batch is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from stream.core.columns import RejectReason
from stream.core.errors import IncompatibleError
from stream.kafka.decompression import BATCH_BYTES_MAX, BatchTooLarge, limited_to
from stream.kafka.protocols import ConsumerRecord

__all__ = ["CODECS", "Guard", "RefusedBatch", "apply", "refused", "stepping_over"]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
"""Names of the codecs by their number in a batch's attributes."""

_CODEC_MASK = 0x07
_CURRENT_FORMAT = 2
_NO_PRODUCER = -1

# Base offset, length, leader epoch, magic, checksum, attributes, last offset delta, first and largest timestamp,
# producer id, producer epoch, base sequence, records. Source: org.apache.kafka.common.record.DefaultRecordBatch.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_FRAME = struct.Struct(">qi")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBatch:
    """A batch that was stepped over, as a whole or from some record on.

    Args:
        reason: Why it was refused.
        first_offset: First offset of it that nothing was read of.
        last_offset: Its last offset.
        records: Messages in this range.
        time_ns: Largest timestamp in it; None where the header is not to be trusted.
        codec: Name of its codec.
        digest: SHA-256 of its bytes.
        detail: What is wrong, in a sentence.
    """

    reason: RejectReason
    first_offset: int
    last_offset: int
    records: int
    time_ns: int | None
    codec: str
    digest: bytes
    detail: str

    def __len__(self) -> int:
        """Returns 0: in the place of a record's value it has no bytes."""
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """How a consumer treats batches.

    Args:
        batch_bytes_max: What one may decompress to.
        seen: Called with the codec's name, the compressed size and the number of records of each batch read.
    """

    batch_bytes_max: int = BATCH_BYTES_MAX
    seen: Callable[[str, int, int], None] | None = None
    _looks: Counter[bytes] = field(default_factory=Counter, init=False, repr=False, compare=False)

    def look(self, digest: bytes) -> int:
        """Returns how often this batch, whose end nobody knows, was looked at: each time one offset more is left."""
        self._looks[digest] += 1
        return self._looks[digest]


_GUARD: ContextVar[Guard | None] = ContextVar("guard", default=None)


@contextlib.contextmanager
def stepping_over(guard: Guard) -> Iterator[None]:
    """Consumers that are started in the block step over batches that cannot be read."""
    token = _GUARD.set(guard)  # a consumer's tasks begin in its start, and each keeps the context it began in
    try:
        yield
    finally:
        _GUARD.reset(token)


def refused(record: ConsumerRecord) -> RefusedBatch | None:
    """Returns the batch that this record stands for, or None for a message."""
    value: object = record.value
    return value if isinstance(value, RefusedBatch) else None


class _Stand(NamedTuple):
    """The one record of a refused batch, with what the fetcher reads of a record."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: RefusedBatch
    key: None = None
    headers: tuple[()] = ()
    checksum: None = None


class _Batch:
    """A batch as the fetcher uses it: its header, then its records; never an exception for what it holds."""

    def __init__(self, data: memoryview, following: int | None, guard: Guard) -> None:
        self._data = data
        self._guard = guard
        self._batch = DefaultRecordBatch(data)
        self._crc_holds = self._batch.validate_crc()
        (*_, self._count) = _HEADER.unpack_from(data)
        self.base_offset: int = self._batch.base_offset
        self.codec = _codec(self._batch.attributes)
        if self._crc_holds:
            self.next_offset: int = self._batch.next_offset
            self.producer_id: int = self._batch.producer_id
            self.is_control_batch: bool = self._batch.is_control_batch
            self.is_transactional: bool = self._batch.is_transactional
        else:
            # Nothing that the checksum covers can be believed. The next batch's offset is not covered by this one's.
            self.next_offset = max(self.base_offset + 1, following or self._likely_next_offset())
            self.producer_id = _NO_PRODUCER
            self.is_control_batch = self.is_transactional = False

    def validate_crc(self) -> bool:
        """Returns True: a wrong checksum shows in the records."""
        return True

    def __iter__(self) -> Iterator[Any]:
        if self._guard.seen is not None:
            self._guard.seen(self.codec, len(self._data), self._records_declared())
        if not self._crc_holds:
            yield self._refusal(RejectReason.MALFORMED, "its checksum is wrong: it was damaged after it was sent")
            return
        try:
            with limited_to(self._guard.batch_bytes_max):
                records = iter(self._batch)  # decompresses
            yield from records
        except BatchTooLarge as error:
            why = f"it decompresses to more than {error.limit:,} bytes; send smaller batches, or allow larger ones"
            yield self._refusal(RejectReason.TOO_LARGE, why)
        except (KafkaError, ValueError, OverflowError) as error:  # ValueError: a header's name that is no UTF-8
            yield self._refusal(RejectReason.MALFORMED, f"it cannot be read: {error}", read=self._count_readable())

    def __next__(self) -> Any:
        """Returns the next record of a control batch; no codec applies to it."""
        return next(self._batch)

    def _likely_next_offset(self) -> int:
        """Returns the header's word where two of its fields agree; else one offset more at each look.

        The broker returns a batch until its own idea of its last offset is passed.
        """
        declared: int = self._batch.last_offset_delta + 1
        if declared == self._count > 0:
            return self.base_offset + declared
        return self.base_offset + self._guard.look(hashlib.sha256(self._data).digest())

    def _records_declared(self) -> int:
        """Returns the header's count, which a compacted batch's offsets exceed, where it can be true."""
        span: int = self.next_offset - self.base_offset
        return self._count if self._crc_holds and 0 < self._count <= span else span

    def _count_readable(self) -> tuple[int, int]:
        """Returns how many records come before the one that cannot be read, and the offset behind them."""
        count, offset = 0, self.base_offset
        with contextlib.suppress(KafkaError, ValueError, OverflowError), limited_to(self._guard.batch_bytes_max):
            for record in DefaultRecordBatch(self._data):
                count, offset = count + 1, record.offset + 1
        return count, offset

    def _refusal(self, reason: RejectReason, why: str, *, read: tuple[int, int] = (0, 0)) -> _Stand:
        last_offset = self.next_offset - 1
        first_offset = min(max(self.base_offset, read[1]), last_offset)
        records = max(1, self._records_declared() - read[0])
        time_ms: int = self._batch.max_timestamp if self._crc_holds else -1
        batch = RefusedBatch(
            reason=reason,
            first_offset=first_offset,
            last_offset=last_offset,
            records=records,
            time_ns=time_ms * 1_000_000 if time_ms >= 0 else None,
            codec=self.codec,
            digest=hashlib.sha256(self._data).digest(),
            detail=f"batch of {records:,} messages at offsets {first_offset} to {last_offset}, "
            f"{len(self._data):,} bytes, {self.codec}: {why}",
        )
        return _Stand(offset=last_offset, timestamp=time_ms, timestamp_type=0, value=batch)


class _GuardedRecords:
    """The batches of one partition in a fetch response, in the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes, guard: Guard) -> None:
        self._data = data
        self._at = 0
        self._guard = guard

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        return self._end() is not None

    def next_batch(self) -> _Batch | None:
        end = self._end()
        if end is None:
            return None
        data = memoryview(self._data)[self._at : end]
        self._at = end
        whole = len(self._data) - end >= _FRAME.size
        following: int | None = _FRAME.unpack_from(self._data, end)[0] if whole else None
        return _Batch(data, following, self._guard)

    def _end(self) -> int | None:
        """Returns where the next batch ends, None where no whole one is left."""
        if len(self._data) - self._at < _FRAME.size:
            return None
        _, size = _FRAME.unpack_from(self._data, self._at)
        end: int = self._at + _FRAME.size + size
        return end if end <= len(self._data) and end - self._at >= _HEADER.size else None


def _records(data: bytes) -> _GuardedRecords | Any:
    """Returns the batches of a fetch response: guarded where the consumer asked for it."""
    guard = _GUARD.get()
    return MemoryRecords(data) if guard is None or _is_old(data) else _GuardedRecords(data, guard)


def _is_old(data: bytes) -> bool:
    """Returns whether a batch has the format from before Kafka 0.11, which current brokers no longer write."""
    return len(data) > _FRAME.size + 4 and data[_FRAME.size + 4] < _CURRENT_FORMAT


def _codec(attributes: int) -> str:
    number = attributes & _CODEC_MASK
    return CODECS[number] if number < len(CODECS) else f"codec {number}"


def apply() -> None:
    """Lets consumers of this process step over batches, where they ask for it; a second call does nothing.

    Raises:
        IncompatibleError: The installed aiokafka does not read fetch responses as expected.
    """
    # aiokafka 0.14. Its fetcher makes a `MemoryRecords` of each partition's part of a response, by the name in its
    # module, and reads the batches of that with the methods and attributes that `_Batch` and `_GuardedRecords` have.
    if fetcher.MemoryRecords is _records:
        return
    used = set(fetcher.PartitionRecords._unpack_records.__code__.co_names)
    known = {"has_next", "next_batch", "validate_crc", "producer_id", "base_offset", "next_offset"}
    made = "MemoryRecords" in fetcher.Fetcher._proc_fetch_request.__code__.co_names
    if fetcher.MemoryRecords is not MemoryRecords or not made or not known <= used:
        raise IncompatibleError(
            f"aiokafka {aiokafka.__version__} differs from 0.14, for which stream.kafka.batches was written: its "
            "fetcher reads batches otherwise. Install the aiokafka of requirements.lock, or review the module"
        )
    fetcher.MemoryRecords = _records
