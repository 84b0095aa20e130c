"""Backfill sections in the fold: booked once, backwards, into windows and budgets as exact sums say."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.cells import COLUMNS, Column
from stream.core.engine import Engine
from stream.core.engine.backfill import (
    NO_CELLS,
    SECTION_MINUTES_MAX,
    Backfill,
    CellColumns,
    decode_backfill,
    encode_backfill,
)
from stream.core.errors import DecodeError
from stream.core.events import BudgetEvent, SliEvent
from stream.core.log import LogRecord, decode_record, encode_record
from stream.core.units import MINUTE_NS, minute_of
from stream.kafka.clients import MAX_REQUEST_BYTES
from tests.core.engine.log_writer import SERVICE, T0_NS, LogWriter, bundle, minute_by_minute, objective, steady

ABOUT = objective()
T0 = minute_of(T0_NS)
DAYS = 24 * 60
START = T0 + 11
"""Where the objective's own history begins: it came with the frontier in minute 10, whose rows it counts."""

Booked = dict[int, tuple[int, int, int]]
"""Of each minute: events, bad ones, and the weight of each."""


def cells(booked: Booked) -> CellColumns:
    minutes = sorted(booked)
    values = np.zeros((COLUMNS, len(minutes)), np.int64)
    for at, minute in enumerate(minutes):
        n, bad, weight = booked[minute]
        each = weight << 16
        square = weight * weight << 8
        values[: Column.N_UNKNOWN, at] = [n, bad, n * each, bad * each, n * square, bad * square]
    return CellColumns(minute=np.array(minutes, np.int64), values=values)


def section(booked: Booked, first: int, end: int = START) -> Backfill:
    return Backfill(
        service=SERVICE,
        digest=ABOUT.digest,
        first_minute=first,
        end_minute=end,
        events=cells(booked).between(first, end),
        slices=NO_CELLS,
    )


def written(writer: LogWriter, booked: Backfill, sequence: int = 0) -> None:
    """Appends a section to the log of a writer."""
    record = LogRecord(
        generation="1",
        partitions=1,
        incarnation="backfill",
        sequence=sequence,
        config_version=1,
        sources=(),
        backfill=encode_backfill(booked),
    )
    writer.log.append((writer.log[-1][0], encode_record(record)))


def log_with(sections: list[Backfill], minutes: int = 30) -> LogWriter:
    """Returns a log in which the objective comes after ten minutes, and the sections after twenty."""
    writer = LogWriter(bundle())
    minute_by_minute(writer, steady(10, 6))
    writer.bundle, writer.config_version = bundle(ABOUT), 1
    writer.record(until_ns=T0_NS + 10 * MINUTE_NS, configure=True)
    minute_by_minute(writer, steady(10, 6, start=10, bad_every=6), start=10)
    for sequence, one in enumerate(sections):
        written(writer, one, sequence)
    minute_by_minute(writer, steady(minutes - 20, 6, start=20, bad_every=6), start=20)
    return writer


def folded(writer: LogWriter, restored: bool = False) -> tuple[Engine, list]:
    """Folds the log; `restored` after every record, from what a checkpoint holds."""
    engine, outputs = Engine(0), []
    for offset, (time_ns, value) in enumerate(writer.log):
        outputs += engine.apply(offset, time_ns, value)
        if restored:
            engine.checkpoint()
            engine = Engine.restore(0, engine.snapshot())
    return engine, outputs


def last(outputs: list) -> SliEvent:
    return [output for output in outputs if isinstance(output, SliEvent)][-1]


minutes_booked = st.dictionaries(
    st.integers(START - 29 * DAYS, START - 1),
    st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 3)).map(lambda c: (c[0], min(c[0], c[1]), c[2])),
    max_size=40,
)


@settings(max_examples=15, deadline=None)
@given(minutes_booked, st.lists(st.integers(1, 29 * DAYS), min_size=1, max_size=3, unique=True))
def test_windows_coverage_and_budget_are_the_exact_sums_of_both(booked: Booked, reaches: list[int]):
    bounds = [START, *(START - reach for reach in sorted(reaches))]
    sections = [section(booked, first, end) for end, first in pairwise(bounds)]

    engine, outputs = folded(log_with(sections))

    event, end, first = last(outputs), last(outputs).minute + 1, bounds[-1]
    inside = {minute: cell for minute, cell in booked.items() if minute >= first}
    live = end - START + 1
    total = sum(n * weight for n, _, weight in inside.values()) + 6 * live
    bad = sum(bad * weight for _, bad, weight in inside.values()) + live
    assert event.window_sli.n == sum(n for n, _, _ in inside.values()) + 6 * live
    assert (event.window_sli.total, event.window_sli.total - event.window_sli.good) == (total, bad)
    assert event.coverage == float(Fraction(end - first, 43_200))
    assert event.budget.consumed_ratio == pytest.approx(float(Fraction(bad, total) / Fraction(1, 100)))
    assert event.backfilled_minutes == START - first
    day = dict(event.burn_rates)[DAYS]
    old = [c for minute, c in inside.items() if minute >= (end - DAYS) // 10 * 10]
    of_day = Fraction(sum(b * w for _, b, w in old) + live, sum(n * w for n, _, w in old) + 6 * live)
    assert day == pytest.approx(float(of_day * 100))
    assert engine.state.ignored_backfills == 0


def test_each_section_is_entered_and_told_when_the_next_minute_closes():
    booked = {START - 5: (10, 2, 1), START - 3000: (4, 1, 3)}
    sections = [section(booked, START - 60), section(booked, START - 4000, START - 60)]

    engine, outputs = folded(log_with(sections))

    told = [o for o in outputs if isinstance(o, BudgetEvent)]
    entered = [o.entry for o in told if o.entry is not None and o.entry.kind == "backfill"]
    assert [(entry.start_minute, entry.end_minute, entry.n, entry.weight_bad >> 16) for entry in entered] == [
        (START - 60, START, 10, 2),
        (START - 4000, START - 60, 4, 3),
    ]
    assert len({o.minute for o in told if o.entry in entered}) == 1
    state = engine.state.services[SERVICE].states[ABOUT.digest]
    assert [entry for entry in state.ledger.entries if entry.kind == "backfill"] == entered
    assert state.unentered == []


def test_a_state_restored_after_every_record_goes_on_the_same():
    booked = {START - 5: (10, 2, 1), START - 700: (3, 0, 1), START - 3000: (4, 1, 3), START - 9000: (1, 1, 1)}
    writer = log_with([section(booked, START - 60), section(booked, START - 9001, START - 60)])

    engine, outputs = folded(writer)
    again, same = folded(writer, restored=True)

    engine.checkpoint()
    assert same == outputs
    assert again.snapshot() == engine.snapshot()


def test_what_does_not_fit_is_ignored_whatever_is_wrong_with_it():
    good = section({START - 5: (10, 2, 1)}, START - 60)
    wrong = [
        section({}, START - 60, START - 1),
        section({}, START - 60, START + 1),
        section({}, START, START),
        Backfill(**{**_values(good), "digest": "f" * 64}),
        Backfill(**{**_values(good), "first_minute": START - 4}),
        good,
        good,
    ]

    engine, outputs = folded(log_with(wrong))

    assert engine.state.ignored_backfills == len(wrong) - 1
    assert last(outputs).backfilled_minutes == 60


def test_nothing_is_booked_before_the_objectives_own_history_has_begun():
    writer = LogWriter(bundle())
    minute_by_minute(writer, steady(10, 6))
    writer.bundle, writer.config_version = bundle(ABOUT), 1
    writer.record(until_ns=T0_NS + 10 * MINUTE_NS, configure=True)
    written(writer, section({START - 5: (10, 2, 1)}, START - 60, START + 1))

    engine, _ = folded(writer)

    assert engine.state.ignored_backfills == 1


@given(minutes_booked, minutes_booked)
@settings(max_examples=20, deadline=None)
def test_a_section_comes_back_from_its_bytes_and_from_a_log_record(events: Booked, slices: Booked):
    booked = Backfill(
        service=SERVICE,
        digest=ABOUT.digest,
        first_minute=1,
        end_minute=START,
        events=cells(events),
        slices=cells(slices),
    )
    record = LogRecord(
        generation="1",
        partitions=1,
        incarnation="b",
        sequence=0,
        config_version=1,
        sources=(),
        backfill=encode_backfill(booked),
    )

    found = decode_backfill(decode_record(encode_record(record)).backfill or b"")

    assert (found.service, found.digest, found.first_minute, found.end_minute) == (SERVICE, ABOUT.digest, 1, START)
    for one, other in ((found.events, booked.events), (found.slices, booked.slices)):
        assert (one.minute == other.minute).all()
        assert (one.values == other.values).all()


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x05\x00\x00\x00nonsense", encode_backfill(section({}, 1))[:-9]])
def test_bytes_that_are_no_section_are_refused(data: bytes):
    with pytest.raises(DecodeError):
        decode_backfill(data)


def _values(one: Backfill) -> dict:
    return {name: getattr(one, name) for name in Backfill.__dataclass_fields__}


def test_the_longest_section_fits_into_a_record():
    """Every minute is a slice of its own, and every column holds something."""
    minute = np.arange(START - SECTION_MINUTES_MAX, START)
    full = CellColumns(minute=minute, values=np.full((COLUMNS, len(minute)), 1 << 60))
    longest = Backfill(
        service="s" * 255, digest=ABOUT.digest, first_minute=1, end_minute=START, events=full, slices=full
    )
    assert len(encode_backfill(longest)) + 1024 < MAX_REQUEST_BYTES
