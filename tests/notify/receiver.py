"""An HTTP server that answers as an Alertmanager does, or as a test wants it to, and keeps what it was sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class Receiver:
    """What arrived. `answers` are given one by one, then 200 for ever.

    Args:
        url: Where it is.
        answers: Statuses to answer with, and the texts.
        posts: The alerts of each request.
        headers: The headers of each request.
    """

    url: str = ""
    answers: list[tuple[int, str]] = field(default_factory=list)
    posts: list[list[dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hears(self, posts: int) -> None:
        """Returns when so many requests were answered; fails after half a minute."""
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: len(self.posts) >= posts)

    @property
    def rules(self) -> list[list[str]]:
        """The rules in each request."""
        return [[alert["labels"]["rule"] for alert in post] for post in self.posts]

    async def take(self, request: web.Request) -> web.Response:
        """Answers a request."""
        self.posts.append(await request.json())
        self.headers.append(dict(request.headers))
        async with self.arrived:
            self.arrived.notify_all()
        status, text = self.answers.pop(0) if self.answers else (200, "")
        return web.Response(status=status, text=text)


@contextlib.asynccontextmanager
async def receiving(
    *answers: tuple[int, str], path: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Yields a running receiver."""
    receiver = Receiver(answers=list(answers))
    application = web.Application()
    application.router.add_post(f"{path}/api/v2/alerts", receiver.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        [(_, port)] = runner.addresses
        receiver.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}{path}"
        yield receiver
    finally:
        await runner.cleanup()
