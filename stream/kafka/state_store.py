"""The checkpoint of one partition: one Kafka transaction to write it, one claim to read it back.

State lives in memory and in a compacted topic. Who opens the store first fences the previous owner
(InitProducerId), then commits a fresh claim record and reads the partition, read_committed, until that very
claim is seen. The end offset is never asked for: a broker that was frozen as leader and wakes cut off from
the others still answers with an older end, and an older checkpoint would be restored without any error.

After a checkpoint that failed or whose outcome is unknown the store refuses every further use: in the same
producer epoch a delayed request of the failed transaction can land in the next one. The caller ends the
process; the next owner starts a new epoch.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from stream.core.errors import StreamError, UnavailableError
from stream.kafka.clients import (
    Consumer,
    ConsumerRecord,
    KafkaTimeoutError,
    OffsetOutOfRangeError,
    Producer,
    RecordMetadata,
    TopicPartition,
    assigned_reader,
    checkpoint_producer,
    stop,
)

CLAIM_KEY = b"\x00claim"
"""Key of the claim record: sorts before, and never equals, the key of a chunk."""

MAX_CHUNK_BYTES = (1 << 20) + (64 << 10)
"""Largest value of a chunk: about 1 MiB, so every batch stays far below the topic's `max.message.bytes`."""

COMMIT_DEADLINE_S = 30.0
RESTORE_DEADLINE_S = 30.0

_POLL_MS = 200
_RECONNECT_S = 0.5

Result = TypeVar("Result")

Hook = Callable[[str], Awaitable[None]]
"""Awaited with the name of the step just reached; tests kill, freeze or look there."""


class CheckpointFailed(StreamError):
    """The partition is no longer ours, or nobody knows whether the last write happened: the caller ends the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputRecord:
    """One record for another topic, visible together with the checkpoint.

    `value` None takes back what stands under the key; `partition` None: the key's murmur2.
    """

    topic: str
    key: bytes
    value: bytes | None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class StateStore:
    """The fenced writer of one partition's state.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        transactional_id: Pipeline, generation and partition; whoever opens a store with the same id takes over.
        topic: The compacted state topic.
        partition: Its partition, written by nobody else.
        hook: Awaited at "claimed" and "behind" (a read that did not reach the claim) of `open`, and at "begin",
            "chunks-sent", "sent", "acked" and "committed" of `commit`.
        commit_deadline_s: A checkpoint that takes longer has failed.
        restore_deadline_s: The same for the whole of `open`.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        transactional_id: str,
        topic: str,
        partition: int,
        hook: Hook | None = None,
        commit_deadline_s: float = COMMIT_DEADLINE_S,
        restore_deadline_s: float = RESTORE_DEADLINE_S,
    ) -> None:
        self._bootstrap = bootstrap
        self._transactional_id = transactional_id
        self._at = TopicPartition(topic, partition)
        self._hook = hook
        self._commit_deadline_s = commit_deadline_s
        self._restore_deadline_s = restore_deadline_s
        self._producer: Producer | None = None
        self._failure: str | None = None

    async def open(self) -> dict[bytes, bytes]:
        """Takes the partition over and returns the last committed value of every key.

        Deleted keys and the claim are left out. When this returns, nobody else can commit for this partition
        any more, and nothing committed before is missing from the result.

        Raises:
            UnavailableError: No broker answered for half of the deadline.
            CheckpointFailed: Another worker took the partition over meanwhile, or the deadline passed.
        """
        assert self._producer is None, "a store is opened once"
        return await self._guarded("restore", self._restore(), self._restore_deadline_s)

    async def commit(
        self,
        chunks: Sequence[tuple[bytes, bytes | None]],
        outputs: Sequence[OutputRecord],
        manifest: tuple[bytes, bytes],
    ) -> None:
        """Writes chunks, outputs and, last, the manifest in one transaction: seen together, or never.

        Args:
            chunks: Key and value, `None` deletes the key.
            outputs: Records for other topics, in order.
            manifest: Key and value; it names the log offset that the chunks stand for.

        Raises:
            CheckpointFailed: Fenced, timed out or otherwise not known to be written. The store is of no
            further use.
        """
        for key, value in (*chunks, manifest):
            assert key != CLAIM_KEY, "the claim's key is the store's own"
            assert value is None or len(value) <= MAX_CHUNK_BYTES, (
                f"chunk {key!r} is {len(value)} bytes, above {MAX_CHUNK_BYTES}: split it by service or span of time"
            )
        producer = self._usable_producer()
        await self._guarded(
            "checkpoint",
            self._write(producer, chunks, outputs, manifest),
            self._commit_deadline_s,
        )

    async def close(self) -> None:
        """Closes the connections within seconds; an open transaction stays so until the next owner or its timeout."""
        producer, self._producer = self._producer, None
        self._failure = self._failure or "it was closed"
        if producer is not None:
            await stop(producer)

    def _usable_producer(self) -> Producer:
        if self._failure is not None:
            raise CheckpointFailed(
                f"{self._name()}: refused, {self._failure}. "
                "End this process; its successor restores the last checkpoint and goes on"
            )
        assert self._producer is not None, "open() comes first"
        return self._producer

    async def _guarded(self, what: str, work: Coroutine[Any, Any, Result], deadline_s: float) -> Result:
        """Runs `work` within the deadline; anything that interrupts it, cancellation included, spends the store."""
        try:
            return await _within(work, deadline_s)
        except BaseException as error:
            why = f"not finished within {deadline_s:g} s" if isinstance(error, TimeoutError) else repr(error)
            self._failure = f"its {what} failed ({why})"
            if isinstance(error, StreamError) or not isinstance(error, Exception):
                raise
            raise CheckpointFailed(
                f"{self._name()}: {what} failed: {why}. "
                "End this process; its successor restores the last checkpoint and goes on"
            ) from error

    async def _write(
        self,
        producer: Producer,
        chunks: Sequence[tuple[bytes, bytes | None]],
        outputs: Sequence[OutputRecord],
        manifest: tuple[bytes, bytes],
    ) -> None:
        await producer.begin_transaction()
        await self._reached("begin")
        sends = [await self._send_state(producer, key, value) for key, value in chunks]
        await self._reached("chunks-sent")
        sends += [await _send_output(producer, output) for output in outputs]
        sends.append(await self._send_state(producer, *manifest))
        await self._reached("sent")
        # Every acknowledgement before the commit: aiokafka commits a transaction of which a record was
        # refused for good.
        await asyncio.gather(*sends)
        await self._reached("acked")
        await producer.commit_transaction()
        await self._reached("committed")

    async def _restore(self) -> dict[bytes, bytes]:
        producer = self._producer = await self._patiently(
            lambda: checkpoint_producer(self._bootstrap, self._transactional_id)
        )
        claim = uuid.uuid4().hex.encode()
        await producer.begin_transaction()
        written = await (await self._send_state(producer, CLAIM_KEY, claim))
        await producer.commit_transaction()
        await self._reached("claimed")
        reader = await self._patiently(lambda: assigned_reader(self._bootstrap))
        try:
            return await self._read_to_claim(reader, claim, written.offset)
        finally:
            await stop(reader)

    async def _patiently(self, connect: Callable[[], Awaitable[Result]]) -> Result:
        """Connects, or waits for a broker half of the restore's deadline: one that restarts is no reason to crash."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._restore_deadline_s / 2
        while True:
            try:
                return await connect()
            except UnavailableError:
                if loop.time() > give_up:
                    raise
            await asyncio.sleep(_RECONNECT_S)

    async def _read_to_claim(self, reader: Consumer, claim: bytes, claim_offset: int) -> dict[bytes, bytes]:
        latest: dict[bytes, bytes] = {}
        reader.assign([self._at])
        await reader.seek_to_beginning(self._at)
        while latest.get(CLAIM_KEY) != claim:
            try:
                batches = await reader.getmany(self._at, timeout_ms=_POLL_MS)
            except OffsetOutOfRangeError:
                # A leader that was frozen and woke answers so beyond its old end. Nothing is missing: begin
                # anew.
                latest.clear()
                await asyncio.sleep(_POLL_MS / 1000)
                await reader.seek_to_beginning(self._at)
                continue
            for record in batches.get(self._at, ()):
                self._refuse_later_claim(record, claim, claim_offset)
                _apply(record, latest)
            if latest.get(CLAIM_KEY) != claim:
                await self._reached("behind")
        del latest[CLAIM_KEY]
        return latest

    def _refuse_later_claim(self, record: ConsumerRecord, claim: bytes, claim_offset: int) -> None:
        # Compaction may have removed our own claim in favour of the later one: without this the read would
        # wait for its deadline. The offset is unknown (-1) when the broker took a resent claim for the
        # duplicate it was.
        if record.key == CLAIM_KEY and record.value != claim and 0 <= claim_offset < record.offset:
            raise CheckpointFailed(
                f"{self._name()}: another worker took the partition over during the restore. End this process"
            )

    async def _send_state(self, producer: Producer, key: bytes, value: bytes | None) -> asyncio.Future[RecordMetadata]:
        topic, partition = self._at
        return await _send(producer, topic, key=key, value=value, partition=partition)

    async def _reached(self, step: str) -> None:
        if self._hook is not None:
            await self._hook(step)

    def _name(self) -> str:
        return f"state {self._at.topic}[{self._at.partition}] of {self._transactional_id}"


async def _within(work: Coroutine[Any, Any, Result], deadline_s: float) -> Result:
    """Returns what `work` returns; unlike `asyncio.wait_for` it does not wait for work that ignores its cancellation.

    Raises:
        TimeoutError: The deadline passed.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=deadline_s)
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


async def _send_output(producer: Producer, output: OutputRecord) -> asyncio.Future[RecordMetadata]:
    return await _send(
        producer,
        output.topic,
        key=output.key,
        value=output.value,
        partition=output.partition,
        headers=output.headers,
    )


async def _send(
    producer: Producer,
    topic: str,
    *,
    key: bytes,
    value: bytes | None,
    partition: int | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> asyncio.Future[RecordMetadata]:
    """Queues one record; returns the future of its acknowledgement."""
    while True:
        try:
            sent = await producer.send(topic, value, key=key, partition=partition, headers=list(headers))
        except KafkaTimeoutError:
            # The batch before this record has not left for a request's timeout, e.g. because its leader
            # moves. The record is not queued yet, so trying again cannot repeat it; the deadline of the whole
            # checkpoint ends this.
            continue
        # Should the checkpoint fail before this future is awaited, its error is no news.
        sent.add_done_callback(_observe)
        return sent


def _observe(sent: asyncio.Future[RecordMetadata]) -> None:
    if not sent.cancelled():
        sent.exception()


def _apply(record: ConsumerRecord, latest: dict[bytes, bytes]) -> None:
    assert record.key is not None, f"a record without key at {record.offset} of the compacted {record.topic}"
    if record.value is None:
        latest.pop(record.key, None)
    else:
        latest[record.key] = record.value
