"""Exemplars: the worst and the newest traced event of a closed minute, whoever sent what in which record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.columns import RowFlag, Rows, Signal
from stream.core.engine import Engine
from stream.core.engine.tally import Places, Predicate, RowTally
from stream.core.events import Output, SliEvent
from stream.core.exemplars import OPEN_MINUTES_MAX, Candidates, Exemplars, OpenExemplars, is_traced, thinned
from stream.core.log import decode_record, encode_record
from stream.core.rendering import render
from stream.core.slo.spec import Objective, SliSignal
from stream.core.units import MINUTE_NS
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, LogWriter, bundle, objective, run
from tests.core.engine.test_tally import NAMES, Row, columns

OTHER = "prod/shop/search"
SLOW_NS = 3
AVAILABILITY = objective()
LATENCY = objective("latency", duration_lte_ns=SLOW_NS)
ELSEWHERE = objective("elsewhere", service=OTHER)
OBJECTIVES = (AVAILABILITY, LATENCY, ELSEWHERE)
MINUTES = 3
TRACE = 0xF0E1D2C3B4A5968778695A4B3C2D1E0F

events = st.builds(
    Event,
    end_ns=st.integers(0, MINUTES - 1).flatmap(
        lambda minute: st.integers(0, 3).map(lambda ns: T0_NS + minute * MINUTE_NS + ns)
    ),
    bad=st.booleans(),
    service=st.sampled_from((SERVICE, OTHER)),
    version=st.sampled_from(("", "v1")),
    duration_ns=st.integers(0, 5),
    kind=st.sampled_from((1, 2)),
    flags=st.sampled_from((0, 0, int(RowFlag.NEGATIVE_DURATION))),
    trace_id=st.sampled_from((0, 1, 2, TRACE)),
)


def thinly(value: bytes) -> bytes:
    """Returns a record as the ingest writes it."""
    record = decode_record(value)
    return encode_record(replace(record, rows=thinned(record.rows)) if record.rows is not None else record)


def log_of(batches: Sequence[tuple[Sequence[Event], bool]]) -> list[tuple[int, bytes]]:
    """Returns a log with a record a batch, thinned or not; then all minutes close."""
    writer = LogWriter(bundle(*OBJECTIVES))
    for batch, thin in batches:
        writer.record(batch, until_ns=T0_NS, now_ns=T0_NS + MINUTES * MINUTE_NS)
        time_ns, value = writer.log[-1]
        writer.log[-1] = (time_ns, thinly(value) if thin else value)
    writer.record(until_ns=T0_NS + (MINUTES + 2) * MINUTE_NS)
    return writer.log


def exemplars(outputs: Sequence[Output]) -> dict[tuple[str, int], Any]:
    """Returns what is published, by objective and minute; what has none is left out."""
    slis = [output for output in outputs if isinstance(output, SliEvent)]
    data = {(sli.objective.name, sli.minute): orjson.loads(render(sli).value)["data"] for sli in slis}
    return {key: found["exemplars"] for key, found in data.items() if "exemplars" in found}


def expected(found: Sequence[Event]) -> dict[tuple[str, int], Any]:
    """Returns the same, one event after the other."""
    counted: dict[tuple[str, int], list[Event]] = {}
    for wanted in OBJECTIVES:
        for event in found:
            if counts(wanted, event) and event.trace_id:
                counted.setdefault((wanted.name, event.end_ns // MINUTE_NS), []).append(event)
    by_name = {wanted.name: wanted for wanted in OBJECTIVES}
    return {key: told_of(by_name[key[0]], candidates) for key, candidates in counted.items()}


def told_of(wanted: Objective, candidates: list[Event]) -> dict[str, Any]:
    def halves(event: Event) -> tuple[int, int]:
        return signed(event.trace_id >> 64), signed(event.trace_id % 2**64)

    def badness(event: Event) -> tuple[int, ...]:
        return is_bad(wanted, event), event.duration_ns, event.end_ns, *halves(event)

    def recency(event: Event) -> tuple[int, ...]:
        return event.end_ns, is_bad(wanted, event), event.duration_ns, *halves(event)

    return {
        "worst": told(wanted, max(candidates, key=badness)),
        "newest": told(wanted, max(candidates, key=recency)),
    }


def counts(wanted: Objective, event: Event) -> bool:
    timed = wanted.duration_lte_ns is None or not event.flags & RowFlag.NEGATIVE_DURATION
    return event.service == wanted.service and event.kind in wanted.kinds and timed


def is_bad(wanted: Objective, event: Event) -> bool:
    return event.bad if wanted.duration_lte_ns is None else event.duration_ns > wanted.duration_lte_ns


def signed(half: int) -> int:
    return half - (1 << 64) if half >> 63 else half


def told(wanted: Objective, event: Event) -> dict[str, Any]:
    return {
        "trace_id": f"{event.trace_id:032x}",
        "bad": is_bad(wanted, event),
        "duration_ms": event.duration_ns / 1e6,
        "time": f"2025-11-24T16:{(event.end_ns - T0_NS) // MINUTE_NS:02d}:00.000Z",
    }


@settings(max_examples=60)
@given(st.data(), st.lists(events, max_size=24))
def test_they_are_the_worst_and_the_newest_in_any_split_thinned_or_not(data: st.DataObject, found: list[Event]):
    shuffled = data.draw(st.permutations(found))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(found)), max_size=4)))
    bounds = list(zip([0, *cuts], [*cuts, len(found)], strict=True))
    batches = [(shuffled[first:last], data.draw(st.booleans())) for first, last in bounds]

    _, outputs = run(log_of(batches))

    assert exemplars(outputs) == expected(found)


ROUTE = (("http.route", ("/cart",)),)
LOGS = {"signal": SliSignal.LOGS, "kinds": ()}
TOLD_APART: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "version": ({}, {}, {"pair": 1}),
    "signal": ({}, {}, {"signal": Signal.LOG}),
    "kind": ({}, {}, {"kind": 3}),
    "attributes": ({"attributes": ROUTE}, {"attributes": 1}, {}),
    "failed": ({}, {"flags": int(RowFlag.FAILED)}, {}),
    "negative duration": ({"duration_lte_ns": 9}, {}, {"flags": int(RowFlag.NEGATIVE_DURATION)}),
    "event name": ({**LOGS, "event": NAMES[1]}, {"signal": Signal.LOG, "name": 1}, {"signal": Signal.LOG}),
    "severity": (
        {**LOGS, "severity_lt": 17},
        {"signal": Signal.LOG, "severity": 17},
        {"signal": Signal.LOG, "severity": 9},
    ),
    "good by attributes": (
        {**LOGS, "good_attributes": ROUTE},
        {"signal": Signal.LOG},
        {"signal": Signal.LOG, "attributes": 1},
    ),
}


@pytest.mark.parametrize("difference", TOLD_APART)
def test_thinning_keeps_what_an_objective_tells_from_a_longer_and_newer_row(difference: str):
    settings, shown, other = TOLD_APART[difference]
    blank = {"signal": Signal.SPAN, "kind": 2, "flags": 0, "severity": 0, "name": 0, "attributes": 0, "pair": 0}
    found = [
        Row(**{**blank, **shown, "duration_ns": 1, "count": 1}),
        Row(**{**blank, **other, "duration_ns": 2, "count": 1}),
    ]
    pairs = np.array([row.pair for row in found])
    rows = replace(
        columns(found),
        version=pairs.astype("int32"),
        end_ns=np.array([1, 2]),
        trace_lo=np.array([7, 8]),
        services=("",),
    )

    def told(one: Rows) -> dict[int, Exemplars]:
        predicate, wanted = Predicate.of(objective(**settings)), np.array([True, False])
        tally = RowTally(one, Places.at(pairs, np.zeros(2, "int64")), is_traced(one))
        found = tally.of(predicate, wanted).found
        assert found is not None
        candidates, own = Candidates(), OpenExemplars()
        candidates.add(np.zeros(len(found.pair), "int64"), found.minute, found.told)
        candidates.hand_over([own])
        return own.held

    assert told(rows)[0].worst.trace_lo == 7
    assert told(thinned(rows)) == told(rows)


@settings(max_examples=20)
@given(st.lists(st.lists(events, max_size=6), min_size=1, max_size=4))
def test_a_crash_between_any_two_records_changes_nothing(batches: list[list[Event]]):
    log = log_of([(batch, True) for batch in batches])
    whole, outputs = run(log)

    engine, restored = Engine(0), []
    for offset, (time_ns, value) in enumerate(log):
        restored += engine.apply(offset, time_ns, value)
        engine.checkpoint()
        engine = Engine.restore(0, engine.snapshot())

    assert [render(output) for output in restored] == [render(output) for output in outputs]
    whole.checkpoint()
    assert engine.snapshot() == whole.snapshot()


def test_without_trace_ids_there_are_none():
    _, outputs = run(log_of([([Event(T0_NS, bad=True)], True)]))

    assert any(isinstance(output, SliEvent) for output in outputs)
    assert exemplars(outputs) == {}


def test_a_bad_event_is_worse_than_any_good_one_and_the_trace_id_is_told_in_full():
    found = [
        Event(T0_NS, bad=True, duration_ns=1, trace_id=TRACE),
        Event(T0_NS + 1, duration_ns=10**9, trace_id=7),
    ]

    shown = exemplars(run(log_of([(found, True)]))[1])["availability", T0_NS // MINUTE_NS]

    assert shown["worst"]["trace_id"] == f"{TRACE:x}"
    assert shown["newest"]["trace_id"] == f"{7:032x}"
    assert shown["newest"]["duration_ms"] == 1000


def test_late_events_change_no_exemplar_and_a_correction_has_none():
    writer = LogWriter(bundle(AVAILABILITY))
    writer.record([Event(T0_NS, trace_id=1)], until_ns=T0_NS)
    writer.record(until_ns=T0_NS + 2 * MINUTE_NS)
    writer.record([Event(T0_NS + 1, bad=True, trace_id=2)], until_ns=T0_NS + 3 * MINUTE_NS)

    engine, outputs = run(writer.log)

    first, corrected = [o for o in outputs if isinstance(o, SliEvent) and o.minute == T0_NS // MINUTE_NS]
    assert first.exemplars is not None
    assert first.exemplars.worst.trace_lo == 1
    assert (corrected.revision, corrected.exemplars) == (1, None)
    assert engine.services[SERVICE].states[AVAILABILITY.digest].exemplars.held == {}


def test_what_is_held_is_bounded_while_no_minute_closes():
    writer = LogWriter(bundle(AVAILABILITY))
    minutes = OPEN_MINUTES_MAX + 50
    found = [Event(T0_NS + i * MINUTE_NS, trace_id=i + 1) for i in range(minutes)]
    for first in range(0, minutes, 41):
        writer.record(found[first : first + 41], now_ns=T0_NS + minutes * MINUTE_NS)

    engine, _ = run(writer.log)
    engine.checkpoint()

    held = engine.services[SERVICE].states[AVAILABILITY.digest].exemplars.held
    newest = T0_NS // MINUTE_NS + minutes
    assert sorted(held) == list(range(newest - OPEN_MINUTES_MAX, newest))


def test_a_state_that_knows_no_exemplars_is_read():
    log = log_of([([Event(T0_NS, trace_id=1)], True), ([Event(T0_NS + 1, trace_id=2)], True)])
    engine, _ = run(log[:1])
    engine.checkpoint()
    chunks = engine.snapshot()
    key = b"head/" + SERVICE.encode()
    prefix, head = chunks[key][:6], json.loads(chunks[key][6:])
    for state in head["states"].values():
        del state["exemplars"]
    chunks[key] = prefix + orjson.dumps(head)

    _, outputs = run(log, Engine.restore(0, chunks))

    shown = exemplars(outputs)["availability", T0_NS // MINUTE_NS]
    assert shown["worst"]["trace_id"] == shown["newest"]["trace_id"] == f"{2:032x}"
