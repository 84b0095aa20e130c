"""One log in which much happens: several services and versions, alerts, certificates, refusals, corrections, gaps."""

from __future__ import annotations

from typing import Any

from stream.core.slo.spec import Objective
from stream.core.units import DAY_NS, MINUTE_NS, SECOND_NS
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, Message, Reader, bundle

GOOD, BAD, QUIET, UNKNOWN = "prod/shop/checkout", "prod/shop/search", "prod/-/batch", "unknown/-/legacy"


def objectives() -> tuple[Objective, ...]:
    """Two objectives for a service that is well, one each for those that are not."""

    def on(service: str, name: str, target: str = "0.99", **rest: Any) -> Objective:
        return Objective(service=service, name=name, target=target, window_minutes=43_200, **rest)

    return (
        on(GOOD, "availability"),
        on(GOOD, "latency", duration_lte_ns=200_000_000),
        on(BAD, "search-availability"),
        on(QUIET, "batch-success", "0.999"),
        on(UNKNOWN, "legacy"),
    )


def rich_log() -> list[tuple[int, bytes]]:
    """Returns the log: an hour and a half of traffic, then a configuration without one objective, then eight days."""
    writer = LogWriter(bundle(*objectives(), publish_sketches=True))
    log = writer.log
    for minute in range(90):
        start_ns = T0_NS + minute * MINUTE_NS
        until_ns = start_ns + MINUTE_NS
        found = [_event(start_ns, i, minute) for i in range(60)]
        if minute == 40:
            found.append(Event(T0_NS + 20 * MINUTE_NS, service=GOOD, bad=True))  # late: a correction
        writer.record(found, until_ns=until_ns, now_ns=until_ns + 2 * SECOND_NS, lost=3 if minute == 70 else 0)
    refused = [Message(T0_NS + 90 * MINUTE_NS, malformed=1), Message(T0_NS + 90 * MINUTE_NS, malformed=2)]
    log.append(
        (T0_NS + 91 * MINUTE_NS, Reader(writer.bundle, refused, "other", topic="extra", topic_id="extra-id").read(2))
    )
    writer.bundle = bundle(*objectives()[:-1], publish_sketches=True)
    writer.config_version = 1
    until_ns = T0_NS + 92 * MINUTE_NS
    writer.record([_event(until_ns, i, 92) for i in range(10)], until_ns=until_ns, configure=True)
    writer.record(until_ns=until_ns, now_ns=T0_NS + 8 * DAY_NS)
    return log


def _event(start_ns: int, i: int, minute: int) -> Event:
    service = (GOOD, GOOD, GOOD, BAD, BAD, UNKNOWN)[i % 6] if i < 59 or minute % 10 else QUIET
    turned = minute >= 60
    version = "v2" if turned and i % 2 else "v1"
    bad = service == BAD and 60 <= minute < 80 and (version == "v2" or minute >= 70)
    return Event(
        start_ns + i * SECOND_NS,
        bad=bad,
        service=service,
        version="" if service == UNKNOWN else version,
        duration_ns=(i + 1) * 1_000_000,
        trace_id=0 if service == UNKNOWN else (minute + 1) << 64 | i,
    )
