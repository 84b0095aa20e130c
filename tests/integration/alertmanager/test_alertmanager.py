"""A real Alertmanager takes what two notifiers send for one alert, routes it, inhibits, and tells of the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from stream.core.rendering import rfc3339
from stream.core.units import MINUTE_NS
from stream.notify.alertmanager import Alertmanager
from stream.notify.board import Board
from stream.notify.endpoint import endpoint
from stream.notify.stats import NotifyStats
from tests.integration.alertmanager.programs import program
from tests.notify.written import KEY, PAGE, TICKET, burn_rate, listed, status

SAMPLE = Path(__file__).parents[3] / "deploy" / "alertmanager" / "alertmanager.yml"
DEADLINE_S = 60


@dataclass(slots=True)
class People:
    """Receivers of notifications: what each was told, (status, rules, description of the first)."""

    told: dict[str, list[tuple[str, list[str], str]]] = field(default_factory=lambda: {"pages": [], "tickets": []})

    async def take(self, request: web.Request) -> web.Response:
        """Is told of a group of alerts."""
        body = await request.json()
        alerts = body["alerts"]
        rules = sorted(alert["labels"]["rule"] for alert in alerts)
        told = (body["status"], rules, alerts[0]["annotations"]["description"])
        self.told[request.match_info["who"]].append(told)
        return web.Response()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running Alertmanager, its people and its log."""

    url: str
    client: aiohttp.ClientSession
    process: subprocess.Popen[bytes]
    log: Path
    people: People

    async def alerts(self) -> list[dict[str, Any]]:
        """Returns the alerts that it has, silenced and inhibited ones, too."""
        async with self.client.get(f"{self.url}/api/v2/alerts") as answer:
            assert answer.status == 200, await answer.text()
            found: list[dict[str, Any]] = await answer.json()
            return found

    async def states(self) -> dict[str, str]:
        """Returns the state of each alert, by rule."""
        return {alert["labels"]["rule"]: alert["status"]["state"] for alert in await self.alerts()}

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until a condition holds."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not await condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s, f"{what}: {self.people.told}\n{self.log.read_text()}"
            await asyncio.sleep(0.1)

    async def until_told(self, who: str, status: str, *rules: str) -> str:
        """Waits until somebody was told of alerts that are so. Returns the first one's description."""

        def found() -> list[str]:
            return [text for state, told, text in self.people.told[who] if (state, told) == (status, sorted(rules))]

        async def was_told() -> bool:
            return bool(found())

        await self.until(was_told, f"{who} told that {rules} {status}")
        return found()[-1]


def sample(people_url: str) -> dict[str, Any]:
    """Returns the sample configuration with receivers that are there and without waits."""
    configuration: dict[str, Any] = yaml.safe_load(SAMPLE.read_text())
    route = configuration["route"]
    for part in (route, *route["routes"]):
        part.update(group_wait="100ms", group_interval="300ms")
    for receiver in configuration["receivers"]:
        [webhook] = receiver["webhook_configs"]
        webhook["url"] = f"{people_url}/{receiver['name']}"
    return configuration


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def started(people_url: str, directory: Path) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """Runs an Alertmanager on its own. Yields its address, its process and its log."""
    config, log, address = directory / "alertmanager.yml", directory / "log", f"127.0.0.1:{free_port()}"
    config.write_text(json.dumps(sample(people_url)))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(program("alertmanager", "prometheus-alertmanager"), f"--config.file={config}"),
                *(f"--storage.path={directory / 'data'}", f"--web.listen-address={address}"),
                "--cluster.listen-address=",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://{address}", process, log
    finally:
        process.terminate()
        process.wait(30)


@contextlib.asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Server]:
    """Runs an Alertmanager that answers, and the people that it tells."""
    people = People()
    application = web.Application()
    application.router.add_post("/{who}", people.take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        [(_, port)] = runner.addresses
        with started(f"http://127.0.0.1:{port}", directory) as (url, process, log):
            async with aiohttp.ClientSession() as client:
                server = Server(url=url, client=client, process=process, log=log, people=people)

                async def answers() -> bool:
                    with contextlib.suppress(aiohttp.ClientConnectionError):
                        return (await client.get(f"{url}/-/ready")).ok
                    return False

                await server.until(answers, "an answer")
                yield server
    finally:
        await runner.cleanup()


class Notifier:
    """What `qma notify` does to an Alertmanager, with records of the test's."""

    def __init__(self, server: Server) -> None:
        self.board, self.stats = Board(), NotifyStats()
        self.sender = Alertmanager(
            endpoint(server.url), server.client, self.stats, interval_ns=MINUTE_NS, clock=time.time_ns
        )

    async def hears(self, *records: bytes) -> None:
        """Takes in records, and sends what they changed."""
        for record in records:
            if b'"qma.status.v1"' in record:
                self.board.take_status(KEY, record, time.time_ns())
            else:
                self.board.take_burn_rate(record, time.time_ns())
        self.sender.show(self.board)
        await self.sender.step()
        assert not self.stats.failed, "Alertmanager refuses nothing"


def ago(minutes: int) -> str:
    return rfc3339(time.time_ns() - minutes * MINUTE_NS)


def now_is(minute: int, *alerts: dict[str, Any]) -> bytes:
    """Returns a status that is a minute old, as a real one is."""
    return status(minute, *alerts, as_of=ago(1))


def test_an_alert_of_two_notifiers_is_one_and_is_told_when_it_fires_and_when_it_ends(tmp_path: Path):
    async def check() -> None:
        async with running(tmp_path) as server:
            one, other = Notifier(server), Notifier(server)
            fires = now_is(0, listed(began_at=ago(3)))
            for notifier in (one, other):
                await notifier.hears(burn_rate(0, "firing", "It burns 20 times too fast."), fires)

            assert await server.until_told("pages", "firing", PAGE) == "It burns 20 times too fast."
            [alert] = await server.alerts()
            assert alert["labels"].items() >= {"alertname": "ObjectiveAtRisk", "severity": "page"}.items()
            ends_in_s = datetime.fromisoformat(alert["endsAt"]).timestamp() - time.time()
            assert 60 < ends_in_s <= 180, "it ends by itself when no notifier is left"

            resolved = burn_rate(1, "resolved", "It is well again.")
            await one.hears(resolved, now_is(1))
            assert await server.until_told("pages", "resolved", PAGE) == "It is well again."
            await other.hears(resolved, now_is(1))
            assert await server.alerts() == []

            # A notifier that starts now knows of the end as well, and its word changes nothing.
            third = Notifier(server)
            await third.hears(fires, now_is(1))
            assert [status for status, _, _ in server.people.told["pages"]] == ["firing", "resolved"]
            assert server.people.told["tickets"] == []

    asyncio.run(check())


def test_a_page_keeps_the_tickets_of_its_objective_quiet_and_no_others(tmp_path: Path):
    async def check() -> None:
        async with running(tmp_path) as server:
            notifier = Notifier(server)
            ticket, page = listed(TICKET, began_at=ago(9)), listed(began_at=ago(3))
            await notifier.hears(now_is(0, page))
            await server.until_told("pages", "firing", PAGE)
            await notifier.hears(now_is(1, page, ticket))

            async def inhibited() -> bool:
                return await server.states() == {PAGE: "active", TICKET: "suppressed"}

            await server.until(inhibited, "the inhibition")
            assert server.people.told["tickets"] == []

            elsewhere = "prod/shop/search"
            value = status(0, listed(TICKET, service=elsewhere, began_at=ago(9)), service=elsewhere, as_of=ago(1))
            notifier.board.take_status(f"{elsewhere}/availability".encode(), value, time.time_ns())
            await notifier.hears()
            await server.until_told("tickets", "firing", TICKET)

            await notifier.hears(now_is(2, ticket))
            await server.until_told("pages", "resolved", PAGE)

            async def told_of_both() -> bool:
                by_now = [alert["status"]["state"] for alert in await server.alerts()]
                return by_now == ["active", "active"] and len(server.people.told["tickets"]) == 2

            await server.until(told_of_both, "the ticket after the page")

    asyncio.run(check())


def test_an_empty_list_is_accepted_as_a_sign_of_life(tmp_path: Path):
    async def check() -> None:
        async with running(tmp_path) as server:
            notifier = Notifier(server)
            await notifier.hears()
            assert notifier.stats.success_ns.keys() == {server.url}

    asyncio.run(check())


def test_what_alertmanager_refuses_is_what_the_notifier_never_sends(tmp_path: Path):
    """An alert that ends before it starts: what the board guards against is a refusal indeed."""

    async def check() -> None:
        async with running(tmp_path) as server:
            wrong = {"labels": {"alertname": "x"}, "startsAt": ago(1), "endsAt": ago(2)}
            async with server.client.post(f"{server.url}/api/v2/alerts", json=[wrong]) as answer:
                assert (answer.status, "start time" in await answer.text()) == (400, True)

            notifier = Notifier(server)
            await notifier.hears(now_is(0, listed(began_at=ago(0))), now_is(1))
            assert notifier.stats.sent[server.url] == 1

    asyncio.run(check())


def test_amtool_accepts_the_sample():
    done = subprocess.run([program("amtool"), "check-config", SAMPLE], capture_output=True, timeout=60)

    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
