"""The ingest as a process: its clients, its signals, its end. What it does in between is `loop`."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from stream.config import exit_codes
from stream.core.errors import ConfigError, IncompatibleError, UnavailableError
from stream.ingest.configuration import ConfigurationReader, check_shuffle, existing_sources
from stream.ingest.loop import IngestLoop, IngestOptions
from stream.ingest.routing import Router
from stream.ingest.shuffle import Hook, IngestStats, ShuffleLog
from stream.ingest.sources import Assignment, Sources
from stream.kafka.buffers import keep_freed_memory
from stream.kafka.clients import (
    Consumer,
    KafkaError,
    Producer,
    assigned_reader,
    ingest_consumer,
    ingest_producer,
    stop,
)

__all__ = ["IngestOptions", "IngestStats", "run_ingest", "serve"]

LOG = logging.getLogger(__name__)


_FINISH_S = 3.0
_GC_ALLOCATIONS = 100_000
_LEAVE_S = 1.5


async def run_ingest(
    options: IngestOptions,
    *,
    stopping: asyncio.Event | None = None,
    stats: IngestStats | None = None,
    hook: Hook | None = None,
) -> None:
    """Reads the sources into the shuffle log until `stopping` is set, then ends the cycle.

    Args:
        options: Brokers, names and times.
        stopping: Set to end within five seconds.
        stats: Kept up to date.
        hook: Called at `read`, `sent`, `acked` and `committed` of every cycle; for tests.

    Raises:
        UnavailableError: A send or commit was not answered, or a source topic was created again. The process
            must end: a new incarnation replays from the last commit.
        IncompatibleError: The configuration or the shuffle topic is that of another log.
    """
    stopping = stopping or asyncio.Event()
    clients: list[Consumer | Producer] = []
    work = asyncio.ensure_future(_work(options, stopping, stats or IngestStats(), hook, clients))
    asked = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        finished, _ = await asyncio.wait({work}, timeout=0 if work.done() else _FINISH_S)
    finally:
        asked.cancel()
        work.cancel()
        await asyncio.wait({work}, timeout=_LEAVE_S)
        # What a client still complains about must not hide why the process ends.
        leaving = (stop(client, wait_s=_LEAVE_S) for client in clients)
        await asyncio.gather(*leaving, return_exceptions=True)
    if finished:
        work.result()
    else:
        LOG.warning("stopped before everything was sent: what was not committed will be read again")


async def _work(
    options: IngestOptions,
    stopping: asyncio.Event,
    stats: IngestStats,
    hook: Hook | None,
    clients: list[Consumer | Producer],
) -> None:
    """Opens the clients, then runs cycles; a failure to follow the configuration ends it too."""
    clients.append(config_client := await assigned_reader(options.bootstrap))
    configurations = ConfigurationReader(config_client, f"{options.prefix}config")
    bundle = (await configurations.first()).bundle
    clients.append(observer := await assigned_reader(options.bootstrap, isolation="read_uncommitted"))
    shuffle = f"{options.prefix}shuffle"
    await check_shuffle(observer, shuffle, bundle.partitions)
    topics = await existing_sources(observer, configurations)
    clients.append(producer := await ingest_producer(options.bootstrap))
    assignment = Assignment()
    group = options.group or f"{options.prefix}ingest"
    consumer = await ingest_consumer(
        options.bootstrap, group, sorted(topics), listener=assignment, batch_bytes_max=options.batch_bytes_max
    )
    clients.append(consumer)
    incarnation = uuid.uuid4().hex
    sources = Sources(
        consumer,
        observer,
        assignment,
        incarnation=incarnation,
        start=options.start,
        indicators=f"{options.prefix}sli",
        topics=topics,
    )
    LOG.info("incarnation %s reads %s as a member of %s", incarnation, ", ".join(topics), group)
    ingest = IngestLoop(
        options=options,
        stats=stats,
        consumer=consumer,
        assignment=assignment,
        sources=sources,
        configurations=configurations,
        router=Router(generation=bundle.generation, partitions=bundle.partitions, incarnation=incarnation),
        log=ShuffleLog(producer, shuffle, stats, hook, create_time=options.create_time),
    )
    await _first_of(configurations.follow(), ingest.run(stopping))


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Returns when the first of them does, or raises as it does; the others are cancelled."""
    tasks = {asyncio.ensure_future(work) for work in works}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def serve(
    options: IngestOptions,
    *,
    stats: IngestStats | None = None,
    services: Sequence[Callable[[IngestStats], Coroutine[Any, Any, None]]] = (),
    hook: Hook | None = None,
) -> None:
    """Runs the ingest as a process: returns after SIGTERM or SIGINT, ends the process with 69 when Kafka
    does not answer and with 70 when it fails otherwise.

    Args:
        options: Brokers, names and times.
        stats: Kept up to date.
        services: Run in the same event loop with the ingest's figures, for example an HTTP endpoint; one that fails
            ends the process.
        hook: As for `run_ingest`.

    Raises:
        ConfigError: The operator must fix something; a restart would not help.
        IncompatibleError: Likewise.
    """
    keep_freed_memory()
    gc.freeze()  # what the imports made is never garbage; no need to look at it again
    gc.set_threshold(_GC_ALLOCATIONS, 20, 20)  # a fetch makes an object a message, none of them in a cycle
    try:
        asyncio.run(_until_signal(options, stats or IngestStats(), services, hook))
    except (ConfigError, IncompatibleError):
        raise
    except UnavailableError as error:
        LOG.error("ingest ends: %s", error)
        # At once: nothing that is still scheduled may run after an unclear answer.
        os._exit(exit_codes.CRASHED if _is_refusal(error) else exit_codes.UNAVAILABLE)
    except BaseException:
        LOG.exception("ingest ends")
        os._exit(exit_codes.CRASHED)


def _is_refusal(error: UnavailableError) -> bool:
    """Returns whether a broker did answer, with a no that another try would not change."""
    return isinstance(error.__cause__, KafkaError) and not error.__cause__.retriable


async def _until_signal(
    options: IngestOptions,
    stats: IngestStats,
    services: Sequence[Callable[[IngestStats], Coroutine[Any, Any, None]]],
    hook: Hook | None,
) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    ingest = run_ingest(options, stopping=stopping, stats=stats, hook=hook)
    await _first_of(ingest, *(service(stats) for service in services))
