"""The process of a state worker: start, signals, services, and one line on stderr for every way to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from stream.config import exit_codes
from stream.core.errors import ConfigError, IncompatibleError, StreamError, UnavailableError
from stream.kafka.buffers import keep_freed_memory
from stream.kafka.clients import KafkaError, admin, reachable, stop
from stream.kafka.logs import log_to_stderr
from stream.kafka.topic_ids import describe
from stream.worker.app import StateApp
from stream.worker.options import StateOptions
from stream.worker.partition import FoldFailed
from stream.worker.partitions import Partitions
from stream.worker.status import StateStatus

log = logging.getLogger(__name__)

Service = Callable[[StateStatus], Awaitable[None]]
"""Runs in the worker's event loop until the worker stops, for example an HTTP server for its metrics."""


BROKER_WAIT_S = 60.0
"""How long a start waits for a broker."""

_BROKER_PAUSE_S = 2.0

STOP_DEADLINE_S = 9.0
"""After SIGTERM the process is gone within this, whatever hangs."""


def run_state(options: StateOptions, services: Sequence[Service] = ()) -> NoReturn:
    """Runs one state worker in the foreground until SIGTERM, SIGINT or an error; never returns.

    Exits 0 after a signal with everything checkpointed, otherwise with one of the codes above and one line on
    stderr that says what was found and what to do. stdout is not used.

    Args:
        options: What to run.
        services: Started in the worker's event loop with its status, before it joins the group. One that fails
            ends the worker.
    """
    log_to_stderr()
    # Faust's application and consumer log under the module of our subclasses.
    logging.getLogger("stream.worker.app").setLevel(logging.WARNING)
    gc.freeze()  # what the imports made is never garbage; no need to look at it again
    try:
        asyncio.run(_Worker(options).run(services))
    except Exception as error:
        die(error)
    raise AssertionError("the worker ended without an exit code")


def die(error: BaseException) -> NoReturn:
    """Ends the process at once with one line that says why; no clean-up that could write half a state."""
    code = exit_codes.CRASHED
    if isinstance(error, ConfigError | IncompatibleError):
        code = exit_codes.CONFIG
    elif isinstance(error, UnavailableError):
        code = exit_codes.UNAVAILABLE
    fault = error.__cause__ if isinstance(error, FoldFailed | IncompatibleError) else error
    if fault is not None and not isinstance(fault, StreamError | KafkaError):
        log.error("an error nobody expected, please report it:", exc_info=fault)
    text = str(error) if isinstance(error, StreamError) else repr(error)
    log.critical("state worker ends with exit code %d: %s", code, " ".join(text.split()))
    _exit(code)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    os._exit(code)


class _Worker:
    """The Faust application with its services and signals in one event loop."""

    def __init__(self, options: StateOptions) -> None:
        self._options = options
        self._status = StateStatus()
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Future[None]] = []

    async def run(self, services: Sequence[Service]) -> NoReturn:
        keep_freed_memory()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        for service in services:
            self._watch(service(self._status))
        brokers = await self._answering_brokers()
        await _expect_topics(self._options)
        partitions = Partitions(self._options, self._status, die)
        app = StateApp(self._options, brokers=brokers, partitions=partitions, status=self._status, fatal=die)
        for work in app.watch():
            self._watch(work)
        await self._run_until_stopped(app)
        await self._leave(app)

    async def _answering_brokers(self) -> str:
        """Returns the bootstrap servers that answer; waits a minute for the first, they may be restarting too."""
        give_up_s = time.monotonic() + BROKER_WAIT_S
        while True:
            try:
                return await reachable(self._options.bootstrap)
            except UnavailableError as error:
                if time.monotonic() > give_up_s:
                    raise
                log.warning("%s. Trying again", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _BROKER_PAUSE_S)
                _exit(0)

    async def _run_until_stopped(self, app: StateApp) -> None:
        starting = asyncio.ensure_future(app.start())
        starting.add_done_callback(_die_if_failed)
        crashed = asyncio.ensure_future(app._crashed.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({crashed, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if crashed.done():
            die(app.crash_reason or RuntimeError("Faust crashed without a reason"))

    async def _leave(self, app: StateApp) -> NoReturn:
        log.info("stopping: checkpoint, then leave the group")
        asyncio.get_running_loop().call_later(STOP_DEADLINE_S, self._exit_after, app)
        try:
            await app.stop()
        except Exception as error:
            log.warning("the group could not be left in order (%r): it will notice after the session timeout", error)
        self._exit_after(app)

    def _exit_after(self, app: StateApp) -> NoReturn:
        if not app.closed_in_time:
            log.critical("stopped without a last checkpoint; the next start replays the log from the one before")
            _exit(exit_codes.CRASHED)
        log.info("stopped, everything is checkpointed")
        _exit(0)

    def _watch(self, work: Awaitable[None]) -> None:
        """Runs `work` beside the worker; its failure ends the process: going on without it would not be noticed."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(_die_if_failed)
        self._tasks.append(task)


def _die_if_failed(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        die(error)


async def _expect_topics(options: StateOptions) -> None:
    """Returns when the log and the state have the same number of partitions.

    Raises:
        ConfigError: A topic is missing or they differ.
    """
    names = (options.shuffle_topic, options.state_topic)
    client = await admin(options.bootstrap)
    try:
        found = await describe(client, names)
    finally:
        await stop(client)
    missing = [name for name in names if name not in found]
    if missing:
        raise ConfigError(
            f"no topic {' and no topic '.join(missing)} at {options.bootstrap}: create them with `qma topics apply`"
        )
    log_partitions, state_partitions = (found[name].partitions for name in names)
    if log_partitions != state_partitions:
        raise ConfigError(
            f"{names[0]} has {log_partitions} partitions, {names[1]} has {state_partitions}: they must be equal. "
            "`qma topics show` names what differs; another number of partitions needs another topic prefix"
        )
