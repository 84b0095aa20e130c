"""Kafka clients with the settings that held under crashes, freezes and moved leaders.

Every factory returns a started client, or raises `UnavailableError` with the address and what to do. Before a
client is made, `reachable` asks which bootstrap servers answer: aiokafka shuffles the list and stays with a
frozen server for a whole request timeout.

Only `stream.kafka` imports aiokafka. What others need of it is exported here, with types (aiokafka ships
none).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    ProducerFenced,
    RebalanceInProgressError,
    RecordTooLargeError,
    TransactionalIdAuthorizationFailed,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)

from stream.core.errors import ConfigError, UnavailableError
from stream.kafka import batches, decompression, repairs
from stream.kafka.batches import Guard
from stream.kafka.decompression import BATCH_BYTES_MAX
from stream.kafka.protocols import (
    Admin,
    Consumer,
    ConsumerRecord,
    Producer,
    RebalanceListener,
    RecordMetadata,
    TopicPartition,
)
from stream.kafka.topic_ids import describe

__all__ = [
    "BATCH_BYTES_MAX",
    "LOST_MEMBERSHIP",
    "Admin",
    "CommitFailedError",
    "Consumer",
    "ConsumerRecord",
    "Guard",
    "IllegalGenerationError",
    "IllegalStateError",
    "Isolation",
    "KafkaConnectionError",
    "KafkaError",
    "KafkaTimeoutError",
    "NoOffsetForPartitionError",
    "OffsetOutOfRangeError",
    "Producer",
    "ProducerFenced",
    "RebalanceInProgressError",
    "RebalanceListener",
    "RecordMetadata",
    "RecordTooLargeError",
    "TopicPartition",
    "UnknownMemberIdError",
    "UnknownTopicOrPartitionError",
    "admin",
    "assigned_reader",
    "checkpoint_producer",
    "ingest_consumer",
    "ingest_producer",
    "reachable",
    "servers",
    "stop",
]

repairs.apply()
decompression.apply()
batches.apply()

Isolation = Literal["read_committed", "read_uncommitted"]

LOST_MEMBERSHIP: tuple[type[Exception], ...] = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
"""What `commit` and `seek` raise when a rebalance took the partition meanwhile: nothing is lost, its next
owner replays."""

MAX_REQUEST_BYTES = 8 << 20
"""Largest request, and so largest record, of our producers. The topics' `max.message.bytes` is the same."""

MAX_BATCH_BYTES = 1 << 20
"""Size at which a producer closes a batch; a larger record travels in a batch of its own."""

TRANSACTION_TIMEOUT_MS = 20_000
"""After this the broker aborts what a dead process left open; until then it holds read_committed readers
up."""

_FETCH_MIN_BYTES = 1 << 20
_FETCH_WAIT_MS = 200
"""A broker holds a fetch of the ingest back until it has so many bytes, or for so long: a cycle collects for half a
second anyhow, and messages that are fetched and decoded one by one cost up to twice the processor time."""

_PROBE_S = 1.5
_GRACE_S = 0.1
_START_S = 30.0
_TOPICS_S = 2.0
_STOP_S = 5.0

Client = TypeVar("Client", Consumer, Producer, Admin)


def servers(bootstrap: str) -> tuple[tuple[str, int], ...]:
    """Returns the (host, port) pairs of `HOST:PORT[,HOST:PORT…]`; an IPv6 host stands in brackets.

    Raises:
        ConfigError: An entry is empty or has no port.
    """
    found = []
    for entry in bootstrap.split(","):
        host, colon, port = entry.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigError(
                f"broker address {entry.strip()!r} in {bootstrap!r} is not HOST:PORT: write e.g. localhost:9092"
            )
        found.append((host, int(port)))
    return tuple(found)


async def reachable(bootstrap: str, *, wait_s: float = _PROBE_S) -> str:
    """Returns those of the bootstrap servers that answer an ApiVersions request, in the same notation.

    Once one has answered the others get a tenth of a second more: a client needs one good server, not all.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        wait_s: How long to wait for the first answer.

    Raises:
        ConfigError: `bootstrap` is malformed.
        UnavailableError: No server answered; names each and why.
    """
    probes = {asyncio.ensure_future(_probe(host, port)): (host, port) for host, port in servers(bootstrap)}
    pending = set(probes)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    while pending and (left := deadline - loop.time()) > 0:
        done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if any(probe.exception() is None for probe in done):
            _, pending = await asyncio.wait(pending, timeout=_GRACE_S) if pending else (done, pending)
            break
    for probe in pending:
        probe.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    answered = [at for probe, at in probes.items() if not probe.cancelled() and probe.exception() is None]
    if not answered:
        reasons = ", ".join(f"{host}:{port} ({_why_silent(probe, wait_s)})" for probe, (host, port) in probes.items())
        raise _unavailable(reasons)
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in answered)


async def _probe(host: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        # ApiVersions v0 (key 18), correlation id 1, null client id: answered before any authentication.
        writer.write(struct.pack(">ihhih", 10, 18, 0, 1, -1))
        await reader.readexactly(4)
    finally:
        writer.close()


def _why_silent(probe: asyncio.Future[None], wait_s: float) -> str:
    if probe.cancelled():
        return f"no answer within {wait_s:g} s"
    error = probe.exception()
    if isinstance(error, asyncio.IncompleteReadError | ConnectionResetError):
        return "closed the connection: not a plaintext Kafka listener?"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def _unavailable(what: str) -> UnavailableError:
    return UnavailableError(
        f"no Kafka broker answered: {what}. Start the broker, or name one that can be reached from here with "
        "--broker HOST:PORT[,HOST:PORT…]"
    )


async def ingest_consumer(
    bootstrap: str,
    group: str,
    topics: Sequence[str] = (),
    *,
    listener: RebalanceListener | None = None,
    batch_bytes_max: int = BATCH_BYTES_MAX,
) -> Consumer:
    """Returns a started member of `group`; it joins in the background once it is subscribed.

    Nothing is committed by itself, and a partition without a committed offset, or whose offset is gone,
    raises from `getmany` (`NoOffsetForPartitionError`, `OffsetOutOfRangeError`): where to start is the
    caller's decision. A batch that cannot be read is stepped over: see `batches.refused`. What a transaction has not
    committed is not read: of our own indicators the next worker writes what a fenced one had not committed, and another
    version of us perhaps otherwise; a producer of telemetry that aborts sends again.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        group: The consumer group.
        topics: Topics to subscribe to; none leaves `subscribe` or `assign` to the caller.
        listener: Called on every rebalance.
        batch_bytes_max: What a batch may decompress to.

    Raises:
        UnavailableError: No broker answered.
        ConfigError: A topic does not exist.
    """
    consumer: Consumer = AIOKafkaConsumer(
        bootstrap_servers=await reachable(bootstrap),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        session_timeout_ms=6_000,
        heartbeat_interval_ms=1_500,
        rebalance_timeout_ms=8_000,
        max_poll_interval_ms=60_000,
        request_timeout_ms=10_000,  # above the rebalance timeout: a JoinGroup waits that long for the others
        metadata_max_age_ms=5_000,
        max_partition_fetch_bytes=4 << 20,
        fetch_max_bytes=32 << 20,
        fetch_min_bytes=_FETCH_MIN_BYTES,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
    )
    with batches.stepping_over(Guard(batch_bytes_max=batch_bytes_max)):
        consumer = await _started(consumer, bootstrap)
    if topics:
        await _expect_topics(consumer, topics, bootstrap)
        consumer.subscribe(list(topics), listener=listener)
    return consumer


async def ingest_producer(bootstrap: str) -> Producer:
    """Returns a started idempotent producer for the shuffle log: acks=all, nothing repeated within a destination.

    It compresses with snappy: rows become five times smaller for 0.06 µs each, and what both halves then need not copy,
    send, receive and checksum costs more than that. zstd (level 3, the only one aiokafka offers) makes them seven times
    smaller for 0.2 µs.

    Raises:
        UnavailableError: No broker answered.
    """
    producer: Producer = AIOKafkaProducer(
        bootstrap_servers=await reachable(bootstrap),
        acks="all",
        enable_idempotence=True,
        compression_type="snappy",
        max_request_size=MAX_REQUEST_BYTES,
        max_batch_size=MAX_BATCH_BYTES,
        request_timeout_ms=10_000,
        metadata_max_age_ms=5_000,
    )
    return await _started(producer, bootstrap)


async def checkpoint_producer(bootstrap: str, transactional_id: str) -> Producer:
    """Returns a started transactional producer; its start has fenced every earlier one of the same id.

    Starting sends InitProducerId: the previous owner's open transaction is aborted and it can never commit
    again. It compresses with zstd: counters become 13 times smaller at 165 MB/s, what a worker writes is what
    a restore reads back, and a checkpoint is small beside the rows it sums up.

    Raises:
        UnavailableError: No broker answered, or none took the role of transaction coordinator.
        ConfigError: The id is not authorised.
    """
    producer: Producer = AIOKafkaProducer(
        bootstrap_servers=await reachable(bootstrap),
        transactional_id=transactional_id,
        acks="all",
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        max_request_size=MAX_REQUEST_BYTES,
        max_batch_size=MAX_BATCH_BYTES,
        compression_type="zstd",
        request_timeout_ms=3_000,
        metadata_max_age_ms=10_000,
        retry_backoff_ms=100,
    )
    return await _started(producer, bootstrap)


async def assigned_reader(
    bootstrap: str, *, isolation: Isolation = "read_committed", guard: Guard | None = None
) -> Consumer:
    """Returns a started consumer outside any group: the caller assigns partitions, seeks and reads.

    It has no reset policy: seek before the first `getmany`. An `OffsetOutOfRangeError` can be false (a leader
    that was frozen and woke answers for its old log), so compare with a fresh `beginning_offsets` before
    believing it.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        isolation: `read_committed` for what transactions wrote.
        guard: Steps over batches that cannot be read, for topics that are not ours; None: they are an error.

    Raises:
        UnavailableError: No broker answered.
    """
    consumer: Consumer = AIOKafkaConsumer(
        bootstrap_servers=await reachable(bootstrap),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation,
        max_partition_fetch_bytes=8 << 20,
        fetch_max_bytes=64 << 20,
        request_timeout_ms=3_000,
        metadata_max_age_ms=10_000,
        retry_backoff_ms=100,
    )
    with batches.stepping_over(guard) if guard is not None else contextlib.nullcontext():
        return await _started(consumer, bootstrap)


async def admin(bootstrap: str) -> Admin:
    """Returns a started admin client.

    Raises:
        UnavailableError: No broker answered.
    """
    client: Admin = AIOKafkaAdminClient(bootstrap_servers=await reachable(bootstrap), request_timeout_ms=15_000)
    return await _started(client, bootstrap)


async def stop(client: Consumer | Producer | Admin, *, wait_s: float = _STOP_S) -> None:
    """Stops a client within `wait_s`, whatever state it is in; never raises a Kafka error.

    Unbounded, aiokafka's `stop` waits for ever on a broker that is gone. What was not acknowledged by then is
    abandoned.
    """
    # A task of its own, never awaited directly: aiokafka's fetcher can raise CancelledError out of `stop` although
    # nobody cancelled anything, and the caller would take itself for cancelled.
    closing = asyncio.ensure_future(client.close() if hasattr(client, "close") else client.stop())
    await asyncio.wait({closing}, timeout=wait_s)
    if not closing.done():
        closing.cancel()
    elif not closing.cancelled() and (error := closing.exception()) and not isinstance(error, KafkaError | OSError):
        raise error
    _forget_handled_errors(client)


def _forget_handled_errors(client: Any) -> None:
    # aiokafka leaves the error of a fenced transaction in futures that nobody awaits any more. Collected as
    # garbage each prints a traceback at some later time, about something long handled.
    batches = getattr(getattr(client, "_message_accumulator", None), "_batches", {})
    futures = [batch._drain_waiter for queue in batches.values() for batch in queue]
    futures.append(getattr(getattr(client, "_txn_manager", None), "_transaction_waiter", None))
    for future in futures:
        if future is not None and future.done() and not future.cancelled():
            future.exception()


async def _expect_topics(consumer: Consumer, topics: Sequence[str], bootstrap: str) -> None:
    """Refuses a subscription to what does not exist: aiokafka would wait, then name no topic."""
    for attempt in range(1 + round(_TOPICS_S / _GRACE_S)):
        if attempt:
            await asyncio.sleep(_GRACE_S)  # a broker hears of a new topic a little later than its creator
        missing = sorted(set(topics) - set(await describe(consumer, topics)))
        if not missing:
            return
    await stop(consumer)
    raise ConfigError(
        f"no topic {', '.join(missing)} at {bootstrap}: create it, e.g. with `qma topics apply` "
        "(`qma topics show` lists what is missing)"
    )


async def _started(client: Client, bootstrap: str) -> Client:
    try:
        await asyncio.wait_for(client.start(), _START_S)
    except BaseException as error:
        await stop(client)
        if isinstance(error, TransactionalIdAuthorizationFailed):
            raise ConfigError(f"Kafka at {bootstrap} refuses access: {error}. Grant it with kafka-acls") from error
        if isinstance(error, TimeoutError):
            raise _unavailable(f"{bootstrap} (answers, but the client was not ready in {_START_S:g} s)") from error
        if isinstance(error, KafkaError):
            raise _unavailable(f"{bootstrap} ({error})") from error
        raise
    return client
