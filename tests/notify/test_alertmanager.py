"""The protocol, against a real HTTP server and with a clock of the test's: nothing here waits for time to pass."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from stream.core.rendering import rfc3339
from stream.core.units import MINUTE_NS, SECOND_NS
from stream.metrics.exposition import exposition
from stream.notify.alertmanager import Alertmanager
from stream.notify.board import Board
from stream.notify.endpoint import endpoint, tls_context
from stream.notify.stats import NotifyCollector, NotifyStats
from tests.notify.receiver import Receiver, receiving
from tests.notify.written import KEY, OBJECTIVE, PAGE, T0_NS, TICKET, at, burn_rate, listed, status

INTERVAL_S = 60


class Notifier:
    """A sender to one address, its board and its clock."""

    def __init__(self, url: str, session: aiohttp.ClientSession, **secrets: Path) -> None:
        self.now_ns = T0_NS
        self.board, self.stats = Board(), NotifyStats()
        self.endpoint = endpoint(url, **secrets)
        self.sender = Alertmanager(
            self.endpoint, session, self.stats, interval_ns=INTERVAL_S * SECOND_NS, clock=lambda: self.now_ns
        )
        self.sender.show(self.board)

    def status(self, minute: int, *alerts: dict[str, Any]) -> None:
        self.board.take_status(KEY, status(minute, *alerts), self.now_ns)

    async def after(self, seconds: float) -> float:
        """Lets time pass, then sends what is due. Returns in how many seconds everything is due again."""
        self.now_ns += round(seconds * SECOND_NS)
        return await self.sender.step() / SECOND_NS


@contextlib.asynccontextmanager
async def notifying(receiver: Receiver, **secrets: Path) -> AsyncIterator[Notifier]:
    async with aiohttp.ClientSession() as session:
        yield Notifier(receiver.url, session, **secrets)


def with_receiver(
    check: Callable[[Receiver, Notifier], Coroutine[Any, Any, None]], *answers: tuple[int, str], path: str = ""
) -> None:
    """Runs a check against a server that gives `answers` first."""

    async def checked() -> None:
        async with receiving(*answers, path=path) as receiver, notifying(receiver) as notifier:
            await check(receiver, notifier)

    asyncio.run(checked())


def test_what_fires_is_posted_at_once_and_again_every_interval():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        assert await notifier.after(0) == INTERVAL_S
        assert await notifier.after(59) == 1
        assert len(receiver.posts) == 1
        assert await notifier.after(1) == INTERVAL_S
        assert receiver.rules == [[PAGE], [PAGE]]

        first, second = (post[0] for post in receiver.posts)
        assert first["labels"] == second["labels"]
        assert (first["startsAt"], second["startsAt"]) == (at(0), at(0))
        # Alertmanager ends it after three intervals in which nobody sent it.
        assert first["endsAt"] == rfc3339(T0_NS + 180 * SECOND_NS)
        assert second["endsAt"] == rfc3339(T0_NS + 240 * SECOND_NS)
        assert receiver.headers[0]["Content-Type"] == "application/json"

    with_receiver(check)


def test_a_change_is_posted_at_once_and_alone():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed(TICKET))
        await notifier.after(0)
        notifier.status(1, listed(TICKET), listed())
        assert await notifier.after(10) == 50, "the round of everything keeps its time"
        assert receiver.rules == [[TICKET], [PAGE]]
        await notifier.after(50)
        assert receiver.rules[2:] == [[PAGE], [TICKET]]

        notifier.board.take_burn_rate(burn_rate(1, "firing", "It burned."), notifier.now_ns)
        await notifier.after(1)
        assert [alert["annotations"]["description"] for alert in receiver.posts[4]] == ["It burned."]

    with_receiver(check)


def test_what_ended_is_posted_with_its_end_and_repeated_for_five_minutes():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        await notifier.after(0)
        notifier.status(1)
        await notifier.after(1)
        for _ in range(6):
            await notifier.after(60)

        ends = [[alert["endsAt"] for alert in post] for post in receiver.posts[1:]]
        assert ends == [[at(2)]] * 5 + [[], []]
        assert {alert["startsAt"] for post in receiver.posts for alert in post} == {at(0)}

    with_receiver(check)


def test_without_alerts_an_empty_list_shows_that_they_would_arrive():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        await notifier.after(0)
        await notifier.after(60)

        assert receiver.posts == [[], []]
        assert notifier.stats.success_ns == {receiver.url: T0_NS + MINUTE_NS}
        assert notifier.stats.sent.total() == 0

    with_receiver(check)


def test_pages_go_first_so_that_they_inhibit_the_tickets_that_follow():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed(TICKET), listed(), listed("ticket-3d-6h"), listed("page-6h-30m"))
        await notifier.after(0)
        assert receiver.rules == [[PAGE, "page-6h-30m"], [TICKET, "ticket-3d-6h"]]

    with_receiver(check)


def test_many_alerts_are_posted_in_several_requests():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        for n in range(150):
            service = f"prod/shop/s{n:03}"
            value = status(0, listed(service=service, alert=f"{n:032x}"), service=service)
            notifier.board.take_status(f"{service}/{OBJECTIVE}".encode(), value, T0_NS)
        await notifier.after(0)

        assert [len(post) for post in receiver.posts] == [64, 64, 22]
        assert len({alert["labels"]["service"] for post in receiver.posts for alert in post}) == 150
        assert notifier.stats.sent[receiver.url] == 150

    with_receiver(check)


@pytest.mark.parametrize("code", [500, 503, 429, 408])
def test_an_answer_that_may_change_is_tried_again_ever_later_up_to_the_interval(code: int):
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        waits = [await notifier.after(0)]
        for _ in range(7):
            waits.append(await notifier.after(waits[-1]))
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
        assert await notifier.after(5) == 55, "nothing is sent before its time"
        assert len(receiver.posts) == 8

        receiver.answers.clear()
        notifier.status(1, listed(), listed(TICKET))
        assert await notifier.after(55) == INTERVAL_S
        assert receiver.rules[-2:] == [[PAGE], [TICKET]]
        assert notifier.stats.sent[receiver.url] == 2
        assert notifier.stats.failed[receiver.url] == 8

    with_receiver(check, *[(code, "not now")] * 20)


def test_one_that_is_not_there_is_tried_again(caplog: pytest.LogCaptureFixture):
    async def check() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens here once it is closed
        async with aiohttp.ClientSession() as session:
            notifier = Notifier(url, session)
            notifier.status(0, listed())
            assert [await notifier.after(0), await notifier.after(1)] == [1, 2]
            assert notifier.stats.failed[url] == 2
            assert notifier.stats.success_ns == {}
        assert f"{url} was not told of 1 alerts, they are sent again soon: Cannot connect" in caplog.text

    asyncio.run(check())


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_a_refusal_is_logged_with_its_text_and_not_tried_before_the_next_round(
    code: int, caplog: pytest.LogCaptureFixture
):
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        assert await notifier.after(0) == INTERVAL_S
        assert f"{receiver.url} answered {code} to 1 alerts" in caplog.text
        assert r"'startsAt in body\nis wrong'" in caplog.text, "on one line"
        assert await notifier.after(30) == 30
        assert len(receiver.posts) == 1
        assert (notifier.stats.failed[receiver.url], notifier.stats.sent[receiver.url]) == (1, 0)
        assert notifier.stats.success_ns == {}

        await notifier.after(30)
        assert receiver.rules == [[PAGE], [PAGE]]
        assert notifier.stats.sent[receiver.url] == 1

    with_receiver(check, (code, "startsAt in body\nis wrong"))


def test_a_refused_alert_does_not_keep_others_from_being_sent():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        await notifier.after(0)
        notifier.status(1, listed(), listed(TICKET))
        await notifier.after(1)
        assert receiver.rules == [[PAGE], [TICKET]]

    with_receiver(check, (400, "no"))


def test_a_redirect_is_not_followed():
    """As a GET, which is what clients make of it, nobody would be told and nobody would notice."""

    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        await notifier.after(0)
        assert notifier.stats.failed[receiver.url] == 1

    with_receiver(check, (302, "elsewhere"))


def test_a_clock_that_is_set_back_does_not_silence():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        await notifier.after(0)
        assert await notifier.after(-3600) == INTERVAL_S
        assert receiver.rules == [[PAGE], [PAGE]]

    with_receiver(check)


def test_what_two_notifiers_send_differs_in_nothing_that_names_an_alert():
    async def check() -> None:
        async with receiving() as receiver, notifying(receiver) as one, notifying(receiver) as other:
            for notifier in (one, other):
                notifier.status(0, listed(), listed(TICKET))
            await one.after(0)
            await other.after(17)

            assert receiver.rules == [[PAGE], [TICKET]] * 2
            for mine, others in zip(receiver.posts[:2], receiver.posts[2:], strict=True):
                assert mine == [{**alert, "endsAt": mine[0]["endsAt"]} for alert in others]

    asyncio.run(check())


def test_it_may_serve_under_a_prefix():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        await notifier.after(0)
        assert receiver.rules == [[PAGE]]

    with_receiver(check, path="/alerting/here")


def test_secrets_are_sent_read_anew_each_time_and_never_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    secret = tmp_path / "secret"

    async def check() -> None:
        async with receiving((403, "go away")) as receiver:
            for url, secrets in (
                (receiver.url, {"bearer_token_file": secret}),
                (receiver.url.replace("//", "//user@"), {"password_file": secret}),
                (receiver.url.replace("//", "//user:s3cret@"), {}),
            ):
                secret.write_text("s3cret\n")
                async with aiohttp.ClientSession() as session:
                    notifier = Notifier(url, session, **secrets)
                    assert "s3cret" not in repr(notifier.endpoint)
                    assert notifier.endpoint.name == receiver.url
                    await notifier.after(0)
                    secret.write_text("n3w")
                    await notifier.after(60)
        # Source: RFC 7617, section 2: base64 of user:password.
        basic = {"s3cret": "Basic dXNlcjpzM2NyZXQ=", "n3w": "Basic dXNlcjpuM3c="}
        assert [headers["Authorization"] for headers in receiver.headers] == [
            "Bearer s3cret", "Bearer n3w", basic["s3cret"], basic["n3w"], basic["s3cret"], basic["s3cret"],
        ]  # fmt: skip
        assert "answered 403" in caplog.text
        assert not {"s3cret", "n3w", basic["s3cret"].split()[1]} & set(caplog.text.replace("'", " ").split())

    with caplog.at_level(logging.DEBUG):
        asyncio.run(check())


def test_a_server_must_have_a_certificate_that_is_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("NOT TESTED WITH TLS: `openssl` is not on PATH")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *made, *names], check=True, capture_output=True, timeout=60)
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(certificate, key)

    async def check() -> None:
        async with receiving(tls=own) as receiver:
            for ca_file, posts in ((None, []), (certificate, [[]])):
                connector = aiohttp.TCPConnector(ssl=tls_context(ca_file))
                async with aiohttp.ClientSession(connector=connector) as session:
                    await Notifier(receiver.url, session).after(0)
                assert receiver.posts == posts
        assert "certificate verify failed" in caplog.text

    asyncio.run(check())


def test_a_secret_that_cannot_be_read_is_said_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    secret = tmp_path / "secret"
    secret.write_text("x")

    async def check() -> None:
        async with receiving() as receiver, notifying(receiver, bearer_token_file=secret) as notifier:
            secret.unlink()
            assert await notifier.after(0) == 1
            assert str(secret) in caplog.text
            secret.write_bytes(b"s3cret\xff")
            assert await notifier.after(1) == 2
            assert "s3cret" not in caplog.text
            secret.write_text("x")
            assert await notifier.after(2) == INTERVAL_S
            assert receiver.posts == [[]]

    asyncio.run(check())


def test_the_figures_are_shown_as_metrics():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        notifier.status(0, listed())
        await notifier.after(0)
        await notifier.after(60)
        notifier.stats.status_ns = T0_NS
        registry = CollectorRegistry()
        registry.register(NotifyCollector(notifier.stats))
        text = exposition(registry, "application/openmetrics-text; version=1.0.0").plain().decode()
        found = {
            sample.name: (sample.labels, sample.value)
            for family in parse_openmetrics(text)
            for sample in family.samples
        }
        named = {"alertmanager": receiver.url}
        assert found == {
            "qma_notify_alerts_sent_total": (named, 1.0),
            "qma_notify_alerts_failed_total": (named, 1.0),
            "qma_notify_last_success_timestamp_seconds": (named, T0_NS / SECOND_NS + 60),
            "qma_notify_status_timestamp_seconds": ({}, T0_NS / SECOND_NS),
        }

    with_receiver(check, (400, "no"))


def test_a_change_wakes_it():
    async def check(receiver: Receiver, notifier: Notifier) -> None:
        running = asyncio.ensure_future(notifier.sender.run())
        try:
            await receiver.hears(1)
            notifier.status(0, listed())
            notifier.sender.show(notifier.board)
            await receiver.hears(2)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert receiver.rules == [[], [PAGE]]

    with_receiver(check)


def test_nothing_is_sent_before_the_topics_were_read():
    async def check() -> None:
        async with receiving() as receiver, aiohttp.ClientSession() as session:
            sender = Alertmanager(
                endpoint(receiver.url), session, NotifyStats(), interval_ns=SECOND_NS, clock=lambda: T0_NS
            )
            running = asyncio.ensure_future(sender.run())
            done, _ = await asyncio.wait({running}, timeout=0.05)
            running.cancel()
            assert (done, receiver.posts) == (set(), [])

    asyncio.run(check())
