"""Rows that are refused: entered in the ledger, told by a dead letter, and never in the way of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest

from stream.core.engine import Engine, balance
from stream.core.events import DeadLetter
from stream.core.rendering import render
from stream.core.units import DAY_NS
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective, run


def services(count: int) -> list[Event]:
    """Returns an event of each of so many services."""
    return [Event(T0_NS + i, service=f"prod/shop/service-{i}") for i in range(count)]


def versions(count: int) -> list[Event]:
    """Returns an event of each of so many versions of a service."""
    return [Event(T0_NS + i, version=f"v{i}") for i in range(count)]


REFUSED: Mapping[str, tuple[Mapping[str, Any], Callable[[], list[Event]], int]] = {
    "future": ({}, lambda: [Event(T0_NS + DAY_NS), Event(T0_NS), Event(T0_NS + DAY_NS, service="prod/shop/other")], 2),
    "too_many_services": ({"services_max": 3}, lambda: services(5), 3),
    "too_many_versions": ({"versions_max": 2}, lambda: versions(5), 3),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_refused_rows_are_told_once_and_survive_a_checkpoint(reason: str):
    settings, events, refused = REFUSED[reason]
    writer = LogWriter(bundle(objective(), **settings))
    writer.record(events(), until_ns=T0_NS)

    engine, outputs = run(writer.log)
    checkpoint = engine.checkpoint()
    stored = {key: value for key, value in [*checkpoint.chunks, checkpoint.manifest] if value is not None}
    restored = Engine.restore(0, stored)

    letters = [output for output in outputs if isinstance(output, DeadLetter)]
    assert [(letter.reason, letter.items) for letter in letters] == [(reason, refused)]
    assert len({orjson.loads(render(letter).value)["id"] for letter in letters}) == 1
    [account] = balance([restored.ledger])
    assert account.rejected == {reason: refused}
    assert account.is_equal


def test_a_service_that_exists_goes_on_when_others_are_refused():
    writer = LogWriter(bundle(objective(), services_max=1))
    writer.record([Event(T0_NS), Event(T0_NS, service="prod/shop/other"), Event(T0_NS + 1)], until_ns=T0_NS)

    engine, _ = run(writer.log)

    [account] = balance([engine.ledger])
    assert (account.counted, account.rejected) == (2, {"too_many_services": 1})
