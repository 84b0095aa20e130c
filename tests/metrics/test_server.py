"""The HTTP endpoint: formats of `/metrics`, codes of the probes, and an address that is taken."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from stream.core.errors import ConfigError
from stream.ingest.shuffle import IngestStats
from stream.metrics.collectors import IngestCollector
from stream.metrics.server import Probe, serve


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def well() -> None:
    """All is well."""


@contextlib.asynccontextmanager
async def serving(
    health: Callable[[], str | None] = well, readiness: Callable[[], str | None] = well
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yields a client of a running endpoint."""
    registry = CollectorRegistry()
    registry.register(IngestCollector(IngestStats(messages=3)))
    listen = f"127.0.0.1:{free_port()}"
    server = asyncio.ensure_future(serve(listen, registry, Probe(health=health, readiness=readiness)))
    try:
        async with aiohttp.ClientSession(f"http://{listen}") as client:
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    await client.get("/")
                    break
                assert not server.done()
                await asyncio.sleep(0.01)
            yield client
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)


async def get(client: aiohttp.ClientSession, path: str, **headers: str) -> tuple[int, str, str]:
    async with client.get(path, headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


def test_metrics_are_prometheus_text_unless_openmetrics_is_asked_for():
    async def ask() -> list[tuple[int, str, str]]:
        async with serving() as client:
            openmetrics = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
            return [await get(client, "/metrics"), await get(client, "/metrics", Accept=openmetrics)]

    plain, openmetrics = asyncio.run(ask())

    assert plain[0] == 200
    assert plain[1].startswith("text/plain; version=")
    assert openmetrics[1].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics[2].endswith("# EOF\n")
    for families in (parse(plain[2]), parse_openmetrics(openmetrics[2])):
        [messages] = [family for family in families if family.name == "qma_ingest_messages"]
        assert [(sample.name, sample.value) for sample in messages.samples] == [("qma_ingest_messages_total", 3.0)]


def test_a_compressed_answer_holds_the_same():
    async def ask() -> tuple[str, bytes, str]:
        async with serving() as client:
            plain = await get(client, "/metrics", **{"Accept-Encoding": "identity"})
            headers = {"Accept-Encoding": "gzip;q=1.0"}
            async with client.request("GET", "/metrics", headers=headers, auto_decompress=False) as answer:
                return answer.headers["Content-Encoding"], await answer.read(), plain[2]

    encoding, body, plain = asyncio.run(ask())

    assert encoding == "gzip"
    assert gzip.decompress(body).decode() == plain


def test_nothing_is_compressed_for_who_does_not_ask():
    async def ask() -> bool:
        async with serving() as client, client.get("/metrics", headers={"Accept-Encoding": "identity"}) as answer:
            return "Content-Encoding" in answer.headers

    assert not asyncio.run(ask())


def test_the_probes_answer_200_or_503_with_the_reason():
    state: dict[str, str | None] = {"health": None, "readiness": "its partitions are not restored yet"}

    async def ask() -> list[tuple[int, str]]:
        async with serving(lambda: state["health"], lambda: state["readiness"]) as client:
            first = [await get(client, path) for path in ("/healthz", "/readyz")]
            state.update(health="partition 3: no checkpoint for 61 s", readiness=None)
            second = [await get(client, path) for path in ("/healthz", "/readyz")]
            return [(code, text) for code, _, text in first + second]

    assert asyncio.run(ask()) == [
        (200, "ok\n"),
        (503, "its partitions are not restored yet\n"),
        (503, "partition 3: no checkpoint for 61 s\n"),
        (200, "ok\n"),
    ]


def test_the_root_says_what_there_is_and_nothing_else_exists():
    async def ask() -> list[tuple[int, str, str]]:
        async with serving() as client:
            return [await get(client, "/"), await get(client, "/metric")]

    root, other = asyncio.run(ask())

    assert root[0] == 200
    for path in ("/metrics", "/healthz", "/readyz"):
        assert path in root[2]
    assert other[0] == 404


def test_an_address_in_use_is_a_configuration_error_that_says_the_fix():
    probe = Probe(health=well, readiness=well)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"^cannot listen on {listen}: .*in use.*--listen HOST:PORT"):
            asyncio.run(serve(listen, CollectorRegistry(), probe))


def test_a_host_that_is_not_ours_is_a_configuration_error():
    probe = Probe(health=well, readiness=well)
    with pytest.raises(ConfigError, match=r"^cannot listen on 203\.0\.113\.1:9464: .*--listen HOST:PORT"):
        asyncio.run(serve("203.0.113.1:9464", CollectorRegistry(), probe))


def test_the_address_is_free_again_when_the_endpoint_ends():
    async def twice() -> None:
        listen = f"127.0.0.1:{free_port()}"
        probe = Probe(health=well, readiness=well)
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(serve(listen, CollectorRegistry(), probe), 0.1)

    asyncio.run(twice())
