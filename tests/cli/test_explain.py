"""`qma explain`: every event says in words what stands behind it, and a recount finds what is not so."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.cli.explained import as_object, exit_code, lines
from stream.cli.explained_events import Explanation
from stream.config.problems import printable
from stream.core.cells import Column
from stream.core.columns import Kind, RowFlag, Rows
from stream.core.engine import Engine
from stream.core.engine.state import SERIES
from stream.core.events import HeldBackBy
from stream.core.fingerprints import fingerprints
from stream.core.log import LogRecord, decode_record, encode_record
from stream.core.rendering import Rendered, render
from stream.core.slo.spec import Bundle, Comparison, Objective, SliSignal, Threshold
from stream.core.units import DAY_NS, MINUTE_NS, SECOND_NS, WEIGHT_ONE
from stream.replay.comparison import field_differences
from stream.replay.evidence import (
    Covered,
    Fold,
    LogStanding,
    Published,
    RowsRecount,
    count_differences,
    folded,
    minute_of_event,
)
from stream.replay.recount import MinuteCount, MinuteRecount
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective
from tests.core.engine.scenarios import BAD, GOOD, rich_log

Log = list[tuple[int, bytes]]


def explained(log: Log) -> list[Explanation]:
    """Returns every event that a log puts out with a fold and, of indicators, a recount row by row."""
    engine, found = Engine(0), []
    for offset, (time_ns, value) in enumerate(log):
        outputs = [render(output) for output in engine.apply(offset, time_ns, value)]
        found += [_explained(output, outputs, engine, log[: offset + 1]) for output in outputs]
    return found


def _explained(output: Rendered, outputs: list[Rendered], engine: Engine, log: Log) -> Explanation:
    event = published(output)
    fold = folded(event, engine, outputs)
    explanation = Explanation(prefix="qma.", event=event, definition=fold.definition, fold=fold)
    if event.event["type"] == "qma.sli.v1":
        assert fold.definition is not None
        minute = minute_of_event(event)
        assert minute is not None
        count = recounted(log, fold.definition.objective, fold.definition.bundle, minute, fold.definition.since)
        explanation.rows = RowsRecount(count=count, differences=count_differences(event.data["minute"], count))
    return explanation


def published(output: Rendered) -> Published:
    return Published(
        topic=output.topic, partition=0, offset=7, time_ns=T0_NS, value=output.value, event=orjson.loads(output.value)
    )


def recounted(log: Log, about: Objective, configured: Bundle, minute: int, since: int = 0) -> MinuteCount:
    recount = MinuteRecount(about, since=since, bundle=configured, minute=minute)
    for time_ns, value in log:
        recount.add(decoded(value), time_ns)
    return recount.count


@lru_cache(maxsize=200)
def decoded(value: bytes) -> LogRecord:
    return decode_record(value)


@pytest.fixture(scope="module")
def rich() -> list[Explanation]:
    """Everything that a log puts out in which much happens."""
    return explained([*rich_log()[:81]])


def first(found: list[Explanation], topic: str, **wanted: Any) -> Explanation:
    """Returns the first event of a topic that says what is wanted."""
    return next(
        e
        for e in found
        if e.event.topic == topic and all(e.event.data.get(name) == is_ for name, is_ in wanted.items())
    )


def said(explanation: Explanation) -> str:
    return "\n".join(lines(explanation))


def test_every_event_is_equal_to_what_the_log_gives_and_every_minute_to_its_rows(rich: list[Explanation]):
    assert {e.event.topic for e in rich} == {"sli", "burn-rate", "budget", "certificate", "status"}
    assert sum(e.rows is not None for e in rich) > 300
    for explanation in rich:
        assert exit_code(explanation) == 0, said(explanation)
        assert explanation.fold is not None
        assert explanation.fold.is_equal


def test_every_explanation_is_made_of_plain_lines(rich: list[Explanation]):
    for explanation in rich:
        for text in lines(explanation):
            assert "\n" not in text
            assert not re.search(r"\b(None|True|False)\b|\[\]|\{|'}", text), text


def test_every_explanation_is_plain_values_for_programs(rich: list[Explanation]):
    for explanation in rich:
        body = orjson.loads(orjson.dumps(as_object(explanation)))
        assert body["event"] == explanation.event.event
        assert body["fold"]["is_equal"]
        assert (body["objective"] is None) == (explanation.event.data.get("objective_digest") is None)


def test_an_indicator_shows_the_arithmetic_of_its_budget_and_where_it_was_decided(rich: list[Explanation]):
    explanation = first(rich, "sli", service=GOOD, objective="availability", revision=1)
    explanation.log = LogStanding(
        records=1, sources=[Covered(topic="events", topic_id="id", partition=0, first_offset=0, next_offset=2461)]
    )

    text = said(explanation)

    assert "96.7742 % of 31 events good, 1 bad" in text
    assert "bad / (allowed share × total) = 1 / (0.01 × 631) = 15.8479 %" in text
    assert "revision 1: rows that came after the minute had closed corrected it" in text
    assert "0.99 of requests succeed, over 30d" in text
    assert "qma.shuffle/0 offset 40, at 2025-11-24T16:41:02Z by the log's clock" in text
    assert "events/0: all offsets before 2,461" in text
    assert re.search(r"^  1m +2025-11-24T16:20Z +31 +1 +31 +1 +0 +0$", text, re.MULTILINE)
    assert "fold: equal, byte for byte" in text
    assert "31 rows in 2 log records" in text


def test_an_alert_shows_rule_factor_both_windows_and_who_was_told(rich: list[Explanation]):
    firing = first(rich, "burn-rate", service=BAD, state="firing", rule="page-1h-5m")
    text = said(firing)
    data = firing.event.data

    assert "over both 1h and 5m the budget burns faster than its factor, 2 % of the budget" in text
    assert "both rates are to be more than the factor, here 14.4" in text
    assert f"burn rate {data['long']['burn_rate']:.3g};" in text
    assert f"burn rate {data['short']['burn_rate']:.3g};" in text
    assert "yes: people were to be told" in text

    assert f"trace {data['exemplars']['worst']['trace_id']}: the worst of the minute" in text

    pending = said(first(rich, "burn-rate", service=BAD, state="pending", rule="page-5x-6h-30m"))
    assert re.search(r"told +no: it has to burn for 15m without a break first", pending)


@pytest.mark.parametrize("by", list(HeldBackBy))
def test_whatever_holds_an_alert_back_is_said(rich: list[Explanation], by: HeldBackBy):
    explanation = first(rich, "burn-rate", service=BAD, state="firing")
    data = {**explanation.event.data, "notify": False, "held_back": {"by": by, "name": "the-name"}}
    held = replace(explanation, event=replace(explanation.event, event={**explanation.event.event, "data": data}))

    told = next(text for text in lines(held) if text.startswith("  told "))

    assert re.search(r" no: .{20,}", told)
    assert ("the-name" in told) == (by is not HeldBackBy.NOT_TOLD_BEFORE)


def test_an_entry_shows_how_its_share_is_reckoned(rich: list[Explanation]):
    entry = next(
        e for e in rich if e.event.topic == "budget" and (e.event.data["entry"] or {}).get("kind") == "incident"
    )
    entry = replace(entry, beside=beside(rich, entry))

    found = re.search(
        r"\(allowed share × total / share of the window observed\) = ([\d,.]+) / \(0\.01 × ([\d,]+) / ([\d.e-]+)\)",
        said(entry),
    )

    assert found is not None
    bad, total, observed = (float(text.replace(",", "")) for text in found.groups())
    assert bad / (0.01 * total / observed) == pytest.approx(entry.event.data["entry"]["consumed_ratio"], rel=1e-5)


def beside(found: list[Explanation], entry: Explanation) -> Published:
    return next(
        e.event
        for e in found
        if e.event.event["type"] == "qma.sli.v1"
        and (e.event.log, e.event.event["time"]) == (entry.event.log, entry.event.event["time"])
        and e.event.data["objective"] == entry.event.data["objective"]
    )


def test_a_certificate_shows_evidence_threshold_and_reasons(rich: list[Explanation]):
    issued = said(first(rich, "certificate", service=GOOD, state="issued"))
    pending = said(first(rich, "certificate", service=GOOD, state="pending"))

    assert re.search(
        r"availability \(target 0\.99\): \d+ requests, 0 bad; evidence log 3\.\d+, decided at 2\.996", issued
    )
    assert "insufficient_evidence: " in pending
    assert re.search(r"[\d,]+ more good requests are needed, about [\d,]+ min at this rate", pending)


@pytest.mark.parametrize(("path", "value"), [("n", 1), ("good", 1.0), ("n_unknown", 2)])
def test_a_changed_figure_of_a_minute_is_found_by_both_recounts(rich: list[Explanation], path: str, value: float):
    explanation = first(rich, "sli", service=BAD)
    changed = orjson.loads(explanation.event.value)
    changed["data"]["minute"][path] += value
    event = replace(explanation.event, value=orjson.dumps(changed), event=changed)
    assert explanation.fold is not None
    assert explanation.rows is not None
    assert explanation.rows.count is not None

    rows = count_differences(changed["data"]["minute"], explanation.rows.count)
    fold = replace(explanation.fold, differences=list(_differences(event, explanation)))
    both = replace(
        explanation, event=event, fold=fold, rows=RowsRecount(count=explanation.rows.count, differences=rows)
    )

    assert [found.path for found in rows] == [f"data.minute.{path}"]
    assert exit_code(both) == 1
    assert f"data.minute.{path}: published" in said(both)
    assert as_object(both)["fold"]["is_equal"] is False
    assert as_object(both)["rows"]["is_equal"] is False


def _differences(event: Published, right: Explanation) -> Any:
    return field_differences(event.value, right.event.value)


def test_an_event_that_does_not_come_out_is_different(rich: list[Explanation]):
    explanation = first(rich, "sli", service=BAD)
    lost = replace(explanation, fold=Fold(records=3))

    assert exit_code(lost) == 1
    assert "this event does not come out at that log record" in said(lost)


def test_what_cannot_be_folded_is_not_known_although_its_rows_are_equal(rich: list[Explanation]):
    explanation = first(rich, "sli", service=BAD)
    expired = replace(explanation, fold=Fold(why_not="qma.shuffle/0 begins at offset 9: …"))

    assert exit_code(expired) == 2
    assert "fold: not known, qma.shuffle/0 begins at offset 9" in said(expired)
    assert "rows of the minute: equal" in said(expired)


def test_what_a_terminal_would_act_on_is_escaped():
    assert printable("a\x1b[31mb\u202e") == "a\\x1b[31mb\\u202e"


MINUTE = T0_NS // MINUTE_NS


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.integers(-2, 6),  # minute of the event
            st.booleans(),
            st.sampled_from([0, RowFlag.SAMPLING_UNKNOWN, RowFlag.NEGATIVE_DURATION]),
            st.integers(1, 4),
            st.integers(1, 70),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 8),
    st.integers(0, 3),
    st.booleans(),
)
def test_the_slow_count_is_that_of_the_cells_whatever_comes(
    drawn: list[tuple[int, bool, int, int, int]], per_record: int, repeated: int, latency: bool
):
    """Rows of any minute, some ahead of the log's now, records of a second process that repeat what the first read."""
    about = objective(duration_lte_ns=40_000_000 if latency else None)
    configured = bundle(about)
    events = [
        Event(
            T0_NS + m * MINUTE_NS + i,
            bad=bad,
            flags=flags,
            count=n,
            weight=n * ms * WEIGHT_ONE // 3,
            duration_ns=ms * 1_000_000,
        )
        for i, (m, bad, flags, n, ms) in enumerate(drawn)
    ]
    batches = [events[at : at + per_record] for at in range(0, len(events), per_record)]
    writer, again = LogWriter(configured), LogWriter(configured, incarnation="ingest-2")
    for number, batch in enumerate(batches):
        now_ns = T0_NS + number * 20 * SECOND_NS
        writer.record(batch, until_ns=now_ns, now_ns=now_ns)
        if number < repeated:
            again.record(batch, until_ns=now_ns, now_ns=now_ns)
            writer.log.append(again.log[-1])

    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(writer.log):
        engine.apply(offset, time_ns, value)

    cells = engine.state.cells[SERIES]
    row = cells.index.get((about.service, about.digest, ""))
    for minute in range(MINUTE - 2, MINUTE + 7):
        cell = [0] * len(Column) if row is None else cells.minute(minute)[:, row].tolist()
        count = recounted(writer.log, about, configured, minute)
        assert (count.n, count.n_bad, count.weight, count.weight_bad, count.n_unknown) == tuple(
            cell[column] for column in (Column.N, Column.N_BAD, Column.WEIGHT, Column.WEIGHT_BAD, Column.N_UNKNOWN)
        )


def with_prints(value: bytes, contents: dict[int, bytes]) -> bytes:
    """Returns a log record with the fingerprints of its messages, by offset."""
    record = decode_record(value)
    offsets = np.array(list(contents), "int64")
    prints = fingerprints(np.zeros(len(contents), "int16"), offsets, list(contents.values()))
    return encode_record(
        LogRecord(**{name: getattr(record, name) for name in record.__slots__} | {"fingerprints": prints})
    )


def test_a_message_that_was_sent_twice_counts_once_in_both():
    configured = bundle(objective())
    writer = LogWriter(configured)
    event = Event(T0_NS + SECOND_NS)
    writer.record([event, event], until_ns=T0_NS, now_ns=T0_NS + 2 * SECOND_NS)
    writer.record([event], until_ns=T0_NS, now_ns=T0_NS + 3 * SECOND_NS)
    writer.log[0] = (writer.log[0][0], with_prints(writer.log[0][1], {0: b"a", 1: b"b"}))
    writer.log[1] = (writer.log[1][0], with_prints(writer.log[1][1], {2: b"a"}))

    count = recounted(writer.log, objective(), configured, MINUTE)
    engine = Engine(0)
    for offset, (time_ns, value) in enumerate(writer.log):
        engine.apply(offset, time_ns, value)

    assert (count.n, count.duplicate) == (2, 1)
    assert int(engine.state.cells[SERIES].minute(MINUTE)[Column.N].sum()) == 2


def test_a_message_from_the_future_that_is_sent_again_in_time_counts():
    configured = bundle(objective())
    writer = LogWriter(configured)
    event = Event(T0_NS + 10 * MINUTE_NS)
    for number, now_ns in enumerate((T0_NS, T0_NS + 8 * MINUTE_NS)):
        writer.record([event], until_ns=T0_NS, now_ns=now_ns)
        writer.log[-1] = (now_ns, with_prints(writer.log[-1][1], {number: b"a"}))

    count = recounted(writer.log, objective(), configured, MINUTE + 10)

    assert (count.n, count.future, count.duplicate) == (1, 1, 0)


def test_what_comes_later_than_six_hours_is_late_and_what_was_decoded_before_the_objective_does_not_count():
    configured = bundle(objective())
    writer = LogWriter(configured)
    writer.record([Event(T0_NS)], until_ns=T0_NS)
    writer.record(until_ns=T0_NS + DAY_NS)
    writer.record([Event(T0_NS)], until_ns=T0_NS + DAY_NS)

    assert recounted(writer.log, objective(), configured, MINUTE).late == 1
    assert recounted(writer.log, objective(), configured, MINUTE).n == 1
    assert recounted(writer.log, objective(), configured, MINUTE, since=1).n == 0


OBJECTIVES = (
    objective(),
    objective(kinds=(Kind.CLIENT,)),
    objective(duration_lte_ns=3_000_000),
    objective(attributes=(("http.route", ("/a", "/b")),)),
    objective(good_attributes=(("result", ("hit",)),)),
    objective(bad_attributes=(("result", ("miss",)),), without=(("http.route", ("/b",)),)),
    objective(threshold=Threshold(op=Comparison.LT, value="0.5", attribute="score")),
    objective(signal=SliSignal.LOGS, kinds=(), severity_lt=17),
    objective(signal=SliSignal.LOGS, kinds=(), event="checkout.done"),
    objective(sampling_none=True),
)


@pytest.mark.parametrize("about", OBJECTIVES, ids=range(len(OBJECTIVES)))
def test_every_way_to_select_and_to_judge_is_counted_alike(about: Objective):
    rng = np.random.default_rng(7)
    n = 400
    rows = Rows.of(
        n,
        offset=np.arange(n),
        service=rng.integers(0, 2, n).astype("int32"),
        kind=rng.integers(0, 6, n).astype("int8"),
        signal=rng.integers(0, 3, n).astype("int8"),
        severity=rng.integers(0, 25, n).astype("int8"),
        name=rng.integers(0, 2, n).astype("int32"),
        attributes=rng.integers(0, 5, n).astype("int32"),
        flags=rng.integers(0, 16, n).astype("uint8"),
        end_ns=T0_NS + rng.integers(0, 2, n) * MINUTE_NS,
        duration_ns=rng.integers(0, 6, n) * 1_000_000,
        count=rng.integers(1, 4, n),
        weight=rng.integers(1, 4, n) * WEIGHT_ONE,
        services=(about.service, "prod/-/other"),
        versions=("v1",),
        names=("", "checkout.done"),
        attribute_sets=(
            "",
            '{"http.route":"/a","result":"hit"}',
            '{"http.route":"/b","score":0.25}',
            '{"result":"miss","score":"0.5"}',
            '{"http.route":"/c","score":"0.49"}',
        ),
    )
    writer = LogWriter(bundle(about))
    writer.next_offset = n
    record = replace(decode_record(writer.record(until_ns=T0_NS)), rows=rows)
    log = [(T0_NS + 2 * MINUTE_NS, encode_record(record))]

    engine = Engine(0)
    engine.apply(0, *log[0])

    cells = engine.state.cells[SERIES]
    cell = cells.minute(MINUTE)[:, cells.index[about.service, about.digest, ""]].tolist()
    count = recounted(log, about, bundle(about), MINUTE)
    assert count.n > 0
    assert 0 < count.n_bad < count.n
    columns = (Column.N, Column.N_BAD, Column.WEIGHT, Column.WEIGHT_BAD, Column.N_UNKNOWN, Column.N_EXCLUDED)
    assert (count.n, count.n_bad, count.weight, count.weight_bad, count.n_unknown, count.n_excluded) == tuple(
        cell[column] for column in columns
    )
