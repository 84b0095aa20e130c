"""The notifier on a real broker: what is committed there reaches the server, also after a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from stream.core.errors import ConfigError, UnavailableError
from stream.core.units import DAY_NS
from stream.kafka.clients import checkpoint_producer, stop
from stream.kafka.local import LocalKafka
from stream.kafka.topics import apply, pipeline_topics
from stream.notify.endpoint import endpoint, tls_context
from stream.notify.process import NotifyOptions, run_notify
from stream.notify.stats import NotifyStats
from tests.notify.receiver import Receiver, receiving
from tests.notify.written import KEY, PAGE, T0_NS, TICKET, at, burn_rate, listed, status

Records = Sequence[tuple[str, bytes, bytes | None]]


def options(bootstrap: str, prefix: str, *urls: str) -> NotifyOptions:
    return NotifyOptions(
        bootstrap=bootstrap,
        prefix=prefix,
        endpoints=[endpoint(url) for url in urls],
        tls=tls_context(None),
        interval_s=3600,
    )


@contextlib.asynccontextmanager
async def notifying(wanted: NotifyOptions, stats: NotifyStats) -> AsyncIterator[None]:
    """Runs a notifier whose clock stands still."""
    running = asyncio.ensure_future(run_notify(wanted, stats=stats, clock=lambda: T0_NS))
    try:
        yield
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def write(bootstrap: str, prefix: str, records: Records, *, commit: bool = True, time_ns: int = T0_NS) -> None:
    """Writes records in a transaction, as a checkpoint does."""
    producer = await checkpoint_producer(bootstrap, f"{prefix}test")
    try:
        await producer.begin_transaction()
        for topic, key, value in records:
            sent = producer.send(f"{prefix}{topic}", value, key=key, partition=1, timestamp_ms=time_ns // 1_000_000)
            await (await sent)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await stop(producer)


async def hears(receiver: Receiver, rule: str, *, ends_at: str | None = None) -> dict:
    """Returns an alert once it has arrived; fails after a minute."""
    async with asyncio.timeout(60):
        for posts in range(1, 100):
            await receiver.hears(posts)
            for alert in receiver.posts[posts - 1]:
                if alert["labels"]["rule"] == rule and (ends_at is None or alert["endsAt"] == ends_at):
                    return alert
    raise AssertionError(receiver.posts)


@pytest.mark.kafka
def test_committed_alerts_reach_every_alertmanager_and_a_restart_forgets_none(
    kafka: LocalKafka, topic_prefix: str, caplog: pytest.LogCaptureFixture
):
    begins: Records = [
        ("burn-rate", b"s", burn_rate(0, "firing", "It burns.")),
        ("status", KEY, status(0, listed(), listed(TICKET, told=False))),
    ]

    async def check() -> None:
        await apply(kafka.bootstrap, pipeline_topics(topic_prefix, 2, 1, "LogAppendTime"))
        long_ago = [("burn-rate", b"s", b"of an alert that is over")]
        await write(kafka.bootstrap, topic_prefix, long_ago, time_ns=T0_NS - DAY_NS)
        await write(kafka.bootstrap, topic_prefix, begins)
        await write(kafka.bootstrap, topic_prefix, [("status", KEY, b"junk"), ("burn-rate", b"s", b"{}")])
        await write(kafka.bootstrap, topic_prefix, [("status", KEY, None)], commit=False)
        stats = NotifyStats()
        async with receiving() as one, receiving() as other:
            wanted = options(kafka.bootstrap, topic_prefix, one.url, other.url)
            async with notifying(wanted, stats):
                for receiver in (one, other):
                    alert = await hears(receiver, PAGE)
                    assert alert["annotations"]["description"] == "It burns."
                assert stats.is_ready
            async with notifying(wanted, NotifyStats()):
                while len(one.posts) < 2:
                    await one.hears(2)
                assert [alert["labels"] for alert in one.posts[1]] == [alert["labels"]]

                over = status(1, listed(TICKET, began_at=at(1)))
                await write(kafka.bootstrap, topic_prefix, [("status", KEY, over)])
                assert (await hears(one, PAGE, ends_at=at(2)))["startsAt"] == at(0)
                assert (await hears(one, TICKET))["startsAt"] == at(1)
            assert stats.status_ns == T0_NS
            refused = [record.getMessage() for record in caplog.records if "is not an event" in record.msg]
            assert {message.split()[0] for message in refused} == {
                f"{topic_prefix}status/1/2",
                f"{topic_prefix}burn-rate/1/4",
            }, "what was published before any alert began is not looked at"

    asyncio.run(check())


@pytest.mark.kafka
def test_without_topics_it_says_how_to_create_them(kafka: LocalKafka, topic_prefix: str):
    with pytest.raises(
        ConfigError, match=rf"no topic {topic_prefix}burn-rate, {topic_prefix}status .*`qma topics apply`"
    ):
        asyncio.run(run_notify(options(kafka.bootstrap, topic_prefix, "http://127.0.0.1:1")))


def test_without_a_broker_it_is_unavailable():
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1 "):
        asyncio.run(run_notify(options("127.0.0.1:1", "p.", "http://127.0.0.1:1")))
