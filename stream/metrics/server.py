"""The HTTP endpoint of a process. It runs in the process's event loop, so a scrape sees one consistent moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import gzip_accepted

from stream.core.errors import ConfigError
from stream.metrics.exposition import exposition

_INDEX = "qma: /metrics for Prometheus, /healthz (alive), /readyz (working)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Answers of `/healthz` and `/readyz`: None when all is well, else why not, in a few words."""

    health: Callable[[], str | None]
    readiness: Callable[[], str | None]


async def serve(listen: str, registry: CollectorRegistry, probe: Probe) -> None:
    """Serves until cancelled.

    Args:
        listen: `HOST:PORT`. Metrics name services and versions: listen on loopback unless the network is trusted.

    Raises:
        ConfigError: When the address cannot be bound.
    """
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(_application(registry, probe), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {listen}: {error.strerror or error}; choose another address with --listen HOST:PORT"
            ) from error
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def _application(registry: CollectorRegistry, probe: Probe) -> web.Application:
    async def metrics(request: web.Request) -> web.Response:
        shown = exposition(registry, request.headers.get("Accept", ""))
        headers = {"Content-Type": shown.content_type}
        if not gzip_accepted(request.headers.get("Accept-Encoding", "")):
            return web.Response(body=shown.plain(), headers=headers)
        # Megabytes are compressed beside the loop: zlib lets go of the interpreter meanwhile.
        body = await asyncio.to_thread(shown.gzipped)
        return web.Response(body=body, headers={**headers, "Content-Encoding": "gzip"})

    async def index(_: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    application = web.Application()
    application.router.add_get("/", index)
    application.router.add_get("/metrics", metrics)
    application.router.add_get("/healthz", _answer(probe.health))
    application.router.add_get("/readyz", _answer(probe.readiness))
    return application


def _answer(check: Callable[[], str | None]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_: web.Request) -> web.StreamResponse:
        why_not = check()
        return web.Response(text=f"{why_not or 'ok'}\n", status=200 if why_not is None else 503)

    return handler
