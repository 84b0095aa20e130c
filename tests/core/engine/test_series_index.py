"""What is remembered of where series are and of exemplars that wait: a restart finds it anew, and nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stream.core import exemplars
from stream.core.cells import Column
from stream.core.engine import Engine
from stream.core.engine.overflow import IDLE_MINUTES
from stream.core.engine.state import SERIES, VERSIONS
from stream.core.events import Output
from stream.core.rendering import render
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run

OTHER = "prod/shop/search"
OBJECTIVES = (
    objective(),
    objective("availability-too", target="0.9"),
    objective("latency", duration_lte_ns=3),
    objective("elsewhere", service=OTHER),
)
LATER = objective("later", duration_lte_ns=5)


def at(minute: int, version: str = "v1", **rest) -> Event:
    return Event(T0_NS + minute * MINUTE_NS + SECOND_NS, version=version, trace_id=minute + 1, **rest)


def forgetful(log: Sequence[tuple[int, bytes]]) -> tuple[Engine, list[Output]]:
    """Returns the same as `run`, with a restart after every record."""
    engine, outputs = Engine(0), []
    for offset, (time_ns, value) in enumerate(log):
        outputs += engine.apply(offset, time_ns, value)
        engine.checkpoint()
        engine = Engine.restore(0, engine.snapshot())
    return engine, outputs


def demand_equal(log: Sequence[tuple[int, bytes]]) -> Engine:
    """Asserts that restarts change nothing; returns the engine without any."""
    engine, outputs = run(log)
    restarted, others = forgetful(log)
    engine.checkpoint()
    assert [render(output) for output in outputs] == [render(output) for output in others]
    assert engine.snapshot() == restarted.snapshot()
    return engine


def test_versions_that_were_retired_come_back_to_rows_that_others_had():
    gap = IDLE_MINUTES + 10
    coming = {0: "v1", 1: "v2", gap: "v3", 2 * gap: "v1", 2 * gap + 1: "v2"}
    writer = LogWriter(bundle(*OBJECTIVES, versions_max=2))
    found = {m: at(m, version, count=m + 1, weight=(m + 1) * WEIGHT_ONE) for m, version in coming.items()}
    batches = [[found[minute]] if minute in found else [] for minute in range(2 * gap + 4)]
    minute_by_minute(writer, batches)

    engine = demand_equal(writer.log)

    cells, minute = engine.state.cells[VERSIONS], T0_NS // MINUTE_NS + 2 * gap
    counted = {
        (key[1:], end): tuple(cells.minute(minute + end)[[Column.N, Column.N_BAD], row].tolist())
        for key, row in cells.index.items()
        for end in (0, 1)
    }
    digests = [one.digest for one in OBJECTIVES if one.service == SERVICE]
    slow = {digest: OBJECTIVES[2].digest == digest for digest in digests}
    first, second = 2 * gap + 1, 2 * gap + 2
    assert counted == {
        ((digest, version), end): (n, n * slow[digest]) if version == f"v{end + 1}" else (0, 0)
        for digest in digests
        for version, n in (("v1", first), ("v2", second))
        for end in (0, 1)
    }


def test_objectives_that_come_and_go_take_nothing_from_those_that_stay():
    writer = LogWriter(bundle(*OBJECTIVES))
    batches = [[at(minute, service=service) for service in (SERVICE, OTHER)] for minute in range(8)]
    minute_by_minute(writer, batches[:3])
    writer.bundle, writer.config_version = bundle(*OBJECTIVES[1:], LATER), 1
    writer.record(configure=True, until_ns=T0_NS + 3 * MINUTE_NS)
    minute_by_minute(writer, batches[3:6], start=3)
    writer.config_version = 0  # decoded before `LATER` was known: its history begins after that
    minute_by_minute(writer, batches[6:7], start=6)
    writer.config_version = 1
    minute_by_minute(writer, [*batches[7:], []], start=7)

    engine = demand_equal(writer.log)

    states = engine.services[SERVICE].states
    assert states.keys() == {one.digest for one in (*OBJECTIVES[1:3], LATER)}
    assert states[LATER.digest].start_minute == T0_NS // MINUTE_NS + 7
    cells = engine.state.cells[SERIES]
    counted = cells.window(T0_NS // MINUTE_NS + 8, 8)[Column.N]
    found = {digest: counted[cells.index[SERVICE, digest, ""]] for digest in states}
    assert found == {OBJECTIVES[1].digest: 8, OBJECTIVES[2].digest: 8, LATER.digest: 4}


def test_it_does_not_matter_how_long_exemplars_wait(monkeypatch: pytest.MonkeyPatch):
    writer = LogWriter(bundle(*OBJECTIVES))
    for minute in range(6):
        found = [at(minute, service=service, duration_ns=i) for i in range(8) for service in (SERVICE, OTHER)]
        writer.record(found[minute:], until_ns=T0_NS)
    writer.record(until_ns=T0_NS + 5 * MINUTE_NS)
    waiting, outputs = run(writer.log)

    monkeypatch.setattr(exemplars, "_CANDIDATES_MAX", 0)
    hasty, others = run(writer.log)

    assert [render(output) for output in outputs] == [render(output) for output in others]
    waiting.checkpoint()
    hasty.checkpoint()
    assert waiting.snapshot() == hasty.snapshot()
