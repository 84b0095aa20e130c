"""The fold of one partition: every row once, in any split, from any process; late, future, capped, corrected."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.columns import Kind, RowFlag
from stream.core.engine import Engine, balance
from stream.core.errors import DecodeError, IncompatibleError
from stream.core.events import DeadLetter, Output, SliEvent
from stream.core.log import LogRecord, decode_record, encode_record
from stream.core.rendering import render
from stream.core.units import DAY_NS, HOUR_NS, MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.hash_seeds import printed
from tests.core.engine.log_writer import (
    T0_NS,
    Event,
    LogWriter,
    Message,
    Reader,
    bundle,
    minute_by_minute,
    objective,
    run,
    steady,
)
from tests.core.oracles import NaiveCells, engine_cells, event_cells, nonzero
from tests.strategies import History, events, histories

AVAILABILITY = objective()
LATENCY = objective("latency", duration_lte_ns=1_000_000_000)
BUNDLE = bundle(AVAILABILITY, LATENCY)


def ledger_of(engine: Engine) -> dict[str, int]:
    (account,) = balance([engine.ledger])
    assert account.is_equal, account
    return {
        "received": account.received,
        "counted": account.counted,
        "late": account.late,
        "replayed": account.replayed,
        **account.rejected,
    }


def single_session(messages: list[Message]) -> Engine:
    engine, _ = run([(T0_NS + 6 * MINUTE_NS, Reader(BUNDLE, messages, "only").read(len(messages)))])
    return engine


# Every row once


@given(histories(BUNDLE))
def test_cells_do_not_depend_on_who_read_what_how_often(history: History):
    engine, _ = run(history.log)
    once = single_session(history.messages)
    assert engine_cells(engine) == engine_cells(once)
    split, whole = ledger_of(engine), ledger_of(once)
    assert whole.pop("replayed") == 0
    split.pop("replayed")
    assert split == whole


@settings(max_examples=30)
@given(histories(BUNDLE))
def test_the_ledger_balances_after_every_record(history: History):
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(history.log):
        engine.apply(offset, time_ns, value)
        ledger_of(engine)
    assert ledger_of(engine)["received"] == sum(message.items for message in history.messages)


@settings(max_examples=30)
@given(histories(BUNDLE))
def test_each_refused_message_becomes_one_dead_letter_however_often_it_was_read(history: History):
    _, outputs = run(history.log)
    letters = [output for output in outputs if isinstance(output, DeadLetter)]
    malformed = [offset for offset, message in enumerate(history.messages) if message.malformed]
    assert [letter.offset for letter in letters] == malformed
    assert [letter.items for letter in letters] == [history.messages[offset].malformed for offset in malformed]


@settings(max_examples=30)
@given(histories(BUNDLE))
def test_minute_cells_equal_the_events(history: History):
    engine, _ = run(history.log)
    all_events = [event for message in history.messages for event in message.events]
    for wanted in (AVAILABILITY, LATENCY):
        expected = {key: cell for key, cell in event_cells(all_events, wanted).cells.items() if any(cell)}
        held = nonzero(engine.state.cells["series"])
        assert {key: cell for key, cell in held.items() if key[0][1] == wanted.digest} == expected


def test_a_run_of_messages_that_is_partly_replayed_counts_the_new_part():
    messages = [Message(T0_NS, (Event(T0_NS),)) for _ in range(10)]
    first, second = Reader(BUNDLE, messages, "a"), Reader(BUNDLE, messages, "b", first_offset=2)
    engine, _ = run([(T0_NS, first.read(6)), (T0_NS, second.read(8))])
    assert ledger_of(engine) == {"received": 10, "counted": 10, "late": 0, "replayed": 4}


def test_a_recreated_topic_is_another_source():
    messages = [Message(T0_NS, (Event(T0_NS),)) for _ in range(3)]
    before = Reader(BUNDLE, messages, "a")
    after = Reader(BUNDLE, messages, "b", topic_id="another")
    engine, _ = run([(T0_NS, before.read(3)), (T0_NS, after.read(3))])
    assert [account.counted for account in balance([engine.ledger])] == [3, 3]


def test_receipts_and_rows_at_different_partitions_balance_together():
    messages = [Message(T0_NS, (Event(T0_NS),)) for _ in range(4)]
    value = Reader(BUNDLE, messages, "a").read(4)
    record = decode_record(value)
    home, other = Engine(0), Engine(0)
    home.apply(0, T0_NS, _with(record, rows=None))
    (account,) = balance([home.ledger, other.ledger])
    assert account.in_flight == 4
    other.apply(0, T0_NS, _with(record, receipts=None))
    (account,) = balance([home.ledger, other.ledger])
    assert account.in_flight == 0
    assert account.is_equal
    assert account.counted == account.received == 4


def _with(record: LogRecord, **changes: object) -> bytes:
    return encode_record(LogRecord(**{**{f: getattr(record, f) for f in record.__slots__}, **changes}))


# What breaks the ingest's promises


def test_a_lost_record_stops_the_worker():
    writer = LogWriter(BUNDLE)
    for _ in range(3):
        writer.record([Event(T0_NS)])
    engine, _ = run(writer.log[:1])
    with pytest.raises(AssertionError, match="a record was lost or reordered"):
        engine.apply(1, T0_NS, writer.log[2][1])


def test_a_repeated_record_stops_the_worker():
    writer = LogWriter(BUNDLE)
    writer.record([Event(T0_NS)])
    engine, _ = run(writer.log)
    with pytest.raises(AssertionError, match="a record was lost or reordered"):
        engine.apply(1, T0_NS, writer.log[0][1])


@pytest.mark.parametrize("jump_ns", [2 * HOUR_NS, 3 * DAY_NS])
def test_a_jump_of_the_clock_loses_nothing(jump_ns: int):
    """A machine that slept, or a hole in the event time of a backfill: the same processes write on."""
    writers = [LogWriter(bundle(), incarnation=name, topic_id=name) for name in ("a", "b")]
    log = []
    for at_ns in (T0_NS, T0_NS + jump_ns, T0_NS + jump_ns + SECOND_NS):
        for writer in writers:
            writer.record([Event(at_ns)], until_ns=at_ns)
            log.append(writer.log[-1])
    engine, _ = run(log)
    assert [account.counted + account.late for account in balance([engine.ledger])] == [3, 3]


def test_a_record_of_another_generation_or_partition_count_stops_the_worker():
    writer = LogWriter(BUNDLE)
    writer.record()
    record = decode_record(writer.log[0][1])
    for change in ({"generation": "2"}, {"partitions": 2}):
        with pytest.raises(IncompatibleError, match="stop the ingest processes"):
            Engine(0).apply(0, T0_NS, _with(record, **change))


def test_rows_decoded_under_a_configuration_that_never_came_stop_the_worker():
    writer = LogWriter(BUNDLE)
    writer.record()
    writer.config_version = 7
    writer.record([Event(T0_NS)])
    with pytest.raises(AssertionError):
        run(writer.log)


def test_a_source_named_twice_in_a_record_stops_the_worker():
    writer = LogWriter(BUNDLE)
    value = writer.record([Event(T0_NS)])
    record = decode_record(value)
    with pytest.raises(AssertionError):
        Engine(0).apply(0, T0_NS, _with(record, sources=record.sources * 2))


def test_what_is_no_record_is_refused_and_changes_nothing():
    engine = Engine(0)
    with pytest.raises(DecodeError):
        engine.apply(0, T0_NS, b"not a record")
    assert engine.log_offset == -1


# Late, future, caps


def test_rows_are_late_once_their_end_is_more_than_six_hours_behind_the_frontier():
    writer = LogWriter(BUNDLE)
    frontier_ns = T0_NS + 7 * HOUR_NS
    writer.record(until_ns=frontier_ns)
    edge_ns = frontier_ns - 6 * HOUR_NS
    writer.record([Event(edge_ns), Event(edge_ns - 1)], now_ns=frontier_ns)
    engine, _ = run(writer.log)
    assert ledger_of(engine)["counted"] == 1
    assert ledger_of(engine)["late"] == 1


def test_rows_are_refused_when_they_end_more_than_five_minutes_after_now():
    writer = LogWriter(BUNDLE)
    edge_ns = T0_NS + 5 * MINUTE_NS
    writer.record([Event(edge_ns), Event(edge_ns + 1), Event((1 << 63) - 1)], now_ns=T0_NS)
    engine, _ = run(writer.log)
    assert ledger_of(engine)["counted"] == 1
    assert ledger_of(engine)["future"] == 2


def test_a_service_that_no_objective_names_is_counted():
    writer = LogWriter(BUNDLE)
    writer.record([Event(T0_NS, service="x/y/z", kind=Kind.INTERNAL)])
    engine, _ = run(writer.log)
    assert ledger_of(engine)["counted"] == 1


# Which rows an objective selects


def test_an_objective_on_duration_counts_slow_requests_and_leaves_out_those_without_a_duration():
    writer = LogWriter(bundle(LATENCY))
    limit_ns = 1_000_000_000
    writer.record(
        [
            Event(T0_NS, duration_ns=limit_ns),
            Event(T0_NS, duration_ns=limit_ns + 1),
            Event(T0_NS, duration_ns=0, bad=True),
            Event(T0_NS, duration_ns=0, flags=RowFlag.NEGATIVE_DURATION),
            Event(T0_NS, kind=Kind.CLIENT),
        ]
    )
    engine, _ = run(writer.log)
    ((cell),) = nonzero(engine.state.cells["series"]).values()
    assert cell[:2] == (3, 1)


@given(st.lists(events(), max_size=30))
def test_versions_sum_up_to_the_whole(listed: list[Event]):
    writer = LogWriter(BUNDLE)
    writer.record(listed, now_ns=T0_NS + 10 * MINUTE_NS)
    engine, _ = run(writer.log)
    total = NaiveCells()
    for (key, minute), cell in nonzero(engine.state.cells["versions"]).items():
        total.add((*key[:2], ""), minute, cell)
    assert dict(total.cells) == nonzero(engine.state.cells["series"])


# Corrections


def corrections(outputs: Sequence[Output]) -> list[SliEvent]:
    return [output for output in outputs if isinstance(output, SliEvent) and output.revision]


def with_a_late_event(*, minutes: int, late_minute: int, lag_s: int = 61) -> list[SliEvent]:
    """Publishes `minutes` minutes with one event each; then one more event of `late_minute` comes."""
    writer = LogWriter(bundle(objective()))
    minute_by_minute(writer, steady(minutes, 1), lag_s=lag_s)
    late = Event(T0_NS + late_minute * MINUTE_NS + SECOND_NS, bad=True)
    until_ns = T0_NS + (minutes + 2) * MINUTE_NS
    writer.record([late], until_ns=until_ns, now_ns=until_ns + lag_s * SECOND_NS)
    _, outputs = run(writer.log)
    return corrections(outputs)


def test_a_row_of_a_closed_minute_raises_the_revision_of_that_minute_alone():
    (event,) = with_a_late_event(minutes=10, late_minute=4)
    assert event.minute * MINUTE_NS == T0_NS + 4 * MINUTE_NS
    assert event.revision == 1
    assert (event.minute_sli.n, event.minute_sli.total, event.minute_sli.good) == (2, 2.0, 1.0)
    assert event.window_sli.n == 6


def test_a_correction_keeps_the_id_of_what_it_corrects():
    writer = LogWriter(bundle(objective()))
    minute_by_minute(writer, steady(6, 1))
    minute_by_minute(writer, [[Event(T0_NS + MINUTE_NS)]], start=7)
    _, outputs = run(writer.log)
    first, second = (
        json.loads(render(output).value)
        for output in outputs
        if isinstance(output, SliEvent) and output.minute * MINUTE_NS == T0_NS + MINUTE_NS
    )
    assert first["data"]["id"] == second["data"]["id"]
    assert (first["data"]["revision"], second["data"]["revision"]) == (0, 1)
    assert first["id"] != second["id"]


def test_a_correction_does_not_say_that_the_pipeline_is_catching_up():
    (event,) = with_a_late_event(minutes=30, late_minute=4, lag_s=0)
    assert not event.catching_up


@pytest.mark.parametrize("window_minutes", [60, 360, 1440, 3 * 1440, 3 * 1440 + 60])
def test_the_window_of_a_correction_holds_all_its_events(window_minutes: int):
    """One event every ten minutes for long enough, published; then one more five hours back."""
    writer = LogWriter(bundle(objective(window_minutes=window_minutes)))
    end_minute = window_minutes + 420
    until_ns = T0_NS + end_minute * MINUTE_NS
    writer.record([Event(T0_NS + m * MINUTE_NS) for m in range(0, end_minute, 10)], now_ns=until_ns)
    writer.record(until_ns=until_ns, now_ns=until_ns)
    late_minute = end_minute - 300
    until_ns += 2 * MINUTE_NS
    writer.record([Event(T0_NS + late_minute * MINUTE_NS, bad=True)], until_ns=until_ns, now_ns=until_ns)
    _, outputs = run(writer.log)
    (event,) = corrections(outputs)
    assert event.minute * MINUTE_NS == T0_NS + late_minute * MINUTE_NS
    edge_minutes = 60 if window_minutes > 3 * 1440 else 10 if window_minutes > 360 else 0
    assert window_minutes // 10 + 1 <= event.window_sli.n <= (window_minutes + edge_minutes) // 10 + 1


# Determinism


def test_outputs_and_state_are_the_same_bytes_under_any_hash_seed():
    digests = printed("fold_digest.py", ("0", "1", "2"))
    assert len(digests) == 1
    assert len(digests.pop().split()) == 2


def test_weights_add_up_exactly():
    writer = LogWriter(BUNDLE)
    third = WEIGHT_ONE * 10 // 3
    writer.record([Event(T0_NS, weight=third) for _ in range(3000)])
    engine, _ = run(writer.log)
    total = sum(cell[2] for cell in nonzero(engine.state.cells["series"]).values())
    assert total == 2 * 3000 * third
