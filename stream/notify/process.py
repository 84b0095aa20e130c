"""The notifier as a process: one follower of the topics, one sender for each Alertmanager."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from stream.core.units import SECOND_NS
from stream.notify.alertmanager import Alertmanager
from stream.notify.board import Board
from stream.notify.endpoint import Endpoint
from stream.notify.follower import Follower
from stream.notify.stats import NotifyStats

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyOptions:
    """What to read and whom to tell.

    Args:
        bootstrap: `HOST:PORT[,HOST:PORT…]`.
        prefix: Start of the topics' names.
        endpoints: Each is told of everything: the members of an Alertmanager cluster must not share a load balancer.
        tls: What the certificates of `https` addresses are checked against.
        interval_s: What fires is sent again once in this time.
    """

    bootstrap: str
    prefix: str
    endpoints: Sequence[Endpoint]
    tls: ssl.SSLContext
    interval_s: int


async def run_notify(
    options: NotifyOptions, *, stats: NotifyStats | None = None, clock: Callable[[], int] = time.time_ns
) -> None:
    """Keeps the Alertmanagers told until cancelled.

    Args:
        options: What to read and whom to tell.
        stats: Kept up to date.
        clock: Returns the time of day in ns.

    Raises:
        ConfigError: When a topic does not exist.
        IncompatibleError: When another version wrote a record.
        UnavailableError: When no broker answers at the start.
    """
    stats = stats if stats is not None else NotifyStats()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=options.tls)) as session:
        told = [
            Alertmanager(endpoint, session, stats, interval_ns=options.interval_s * SECOND_NS, clock=clock)
            for endpoint in options.endpoints
        ]

        def show(board: Board) -> None:
            for alertmanager in told:
                alertmanager.show(board)

        follower = Follower(options.bootstrap, options.prefix, stats, show)
        await _together(follower.run(), *(alertmanager.run() for alertmanager in told))


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    """Runs works that end by an error only; it ends the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def serve(options: NotifyOptions, service: Callable[[NotifyStats], Coroutine[Any, Any, None]]) -> None:
    """Runs the notifier as a process until SIGTERM or SIGINT.

    Args:
        options: What to read and whom to tell.
        service: Runs beside it with its figures, an HTTP endpoint; if it fails, the process ends.

    Raises:
        StreamError: As `run_notify` and the service do.
    """

    async def until_signal() -> None:
        stats = NotifyStats()
        work = asyncio.ensure_future(_together(run_notify(options, stats=stats), service(stats)))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await work

    LOG.info("tells %s every %d s", ", ".join(endpoint.name for endpoint in options.endpoints), options.interval_s)
    asyncio.run(until_signal())
