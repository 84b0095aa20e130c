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

REFUSED: Mapping[str, tuple[Mapping[str, Any], Callable[[], list[Event]], int]] = {
    "future": ({}, lambda: [Event(T0_NS + DAY_NS), Event(T0_NS), Event(T0_NS + DAY_NS, service="prod/shop/other")], 2),
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
