"""Cohorts that are found: values become objectives as they arrive, the longest idle makes room, the rest is counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.core.engine import Engine
from stream.core.events import AlertEvent, BudgetEvent, Output, SliEvent, StatusEvent, StatusGone
from stream.core.otlp.attributes import canonical
from stream.core.points import Temporality
from stream.core.rendering import render
from stream.core.slo.alerts import Alerting, AlertState
from stream.core.slo.declared import Adjustment
from stream.core.slo.spec import SliSignal
from stream.core.units import MINUTE_NS, WEIGHT_ONE
from tests.core.engine.cohort_oracle import KEY, NOT_NAMEABLE, T0, Expected, Seen, Step, objectives, steps, written
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, LogWriter, bundle, minute_by_minute, run
from tests.core.engine.point_writer import METRIC, PointWriter, named
from tests.core.engine.test_chunks import fold, save
from tests.core.engine.test_overflow import stored
from tests.core.streams.rules import Sample, points

WHOLE, REST = objectives()
REST_NAME = "availability@__other__"


@given(steps, st.integers(1, 3), st.sets(st.integers(0, 10)))
@settings(max_examples=12)
@example([Step((Seen("b"),)), Step((Seen("a"),)), Step((), 70), Step((Seen("c"),)), Step((), 3)], 2, {3})
@example([Step((Seen("a"), Seen("b"))), Step((), 70), Step((Seen("c"),)), Step((Seen("a", 40),)), Step((), 3)], 2, {2})
@example([Step((Seen("a"),)), Step((), 59), Step((Seen("c"),)), Step((), 3)], 1, {1})
@example([Step((Seen("a"),)), Step((), 60), Step((Seen("c"),)), Step((), 3)], 1, {1})
def test_what_is_counted_is_what_plain_counting_says_wherever_it_is_restored(story, cohorts_max, restores):
    log = written(story, cohorts_max)
    expected = Expected(cohorts_max)
    for step in story:
        expected.add(step)
    engine, outputs = run(log)
    found = {
        (o.objective.name, o.minute): (o.minute_sli.n, round(o.minute_sli.total - o.minute_sli.good), o.window_sli.n)
        for o in outputs
        if isinstance(o, SliEvent) and o.revision == 0
    }
    assert found == expected.published
    assert engine.state.overflowed["cohorts"] == expected.overflowed
    assert engine.services[SERVICE].cohorts.get(REST.digest, set()) == set(expected.newest)
    again, restored, _ = fold(log, restores=frozenset(restores))
    state: dict[bytes, bytes] = {}
    save(engine, state)
    assert ([rendered.value for rendered in map(render, outputs)], state) == ([value for *_, value in again], restored)


def minute(number: int, *pods: tuple[str, int, int]) -> list[Event]:
    """Returns a minute of (pod, events, of these bad)."""
    at_ns = T0_NS + number * MINUTE_NS
    return [
        Event(at_ns, count=count, weight=count * WEIGHT_ONE, bad=bad, attributes=((KEY, pod),))
        for pod, n, n_bad in pods
        for count, bad in ((n - n_bad, False), (n_bad, True))
        if count
    ]


def story(*minutes: list[Event], **settings: Any) -> list[Output]:
    """Returns what follows from a record for each minute."""
    writer = LogWriter(bundle(WHOLE, REST, **settings))
    minute_by_minute(writer, minutes)
    return run(writer.log)[1]


def test_a_pod_that_is_worse_than_everyone_is_told_of_while_it_is_young_and_is_forgotten_when_it_is_gone():
    """Pod c begins in minute 20 and fails in every other request, until it is gone after minute 40."""
    others = ("a", 1_000, 10), ("b", 1_000, 10)
    batches = [minute(i, *others, *([("c", 100, 50)] if 20 <= i <= 40 else [])) for i in range(120)]
    outputs = story(*batches)
    fired, resolved = (output for output in outputs if isinstance(output, AlertEvent))
    assert (fired.objective.name, fired.rule.name, fired.state) == (
        "availability@c",
        "ticket-cohort-gap",
        AlertState.FIRING,
    )
    # Its first whole minute is 21; five whole minutes later its short window is covered.
    assert fired.minute - T0 == 25
    assert fired.explanation.startswith(
        f"Over the last 5m 50.000% of {KEY}=c were bad and 3.333% of everyone's, 46.667% apart where 10% may be;"
    )
    assert (resolved.objective.name, resolved.state) == ("availability@c", AlertState.INACTIVE)
    assert resolved.minute - T0 == 40 + 61
    assert resolved.explanation == f"{KEY}=c had no event for 1h."
    gone = [output.objective.name for output in outputs if isinstance(output, StatusGone)]
    assert gone == ["availability@c"]
    published = {o.minute - T0 for o in outputs if isinstance(o, SliEvent) and o.objective.name == "availability@c"}
    assert published == {*range(21, 101)}


def test_one_that_recovers_is_told_of():
    bad, good = [("a", 1_000, 10), ("b", 1_000, 300)], [("a", 1_000, 10), ("b", 1_000, 10)]
    outputs = story(*[minute(i, *(bad if i < 20 else good)) for i in range(60)])
    fired, resolved = (output for output in outputs if isinstance(output, AlertEvent))
    assert (fired.objective.name, fired.state, resolved.state) == (
        "availability@b",
        AlertState.FIRING,
        AlertState.INACTIVE,
    )
    assert resolved.explanation == f"{KEY}=b is no longer more than 10% worse than everyone."


def test_nobody_is_called_for_the_budget_of_one_and_no_ledger_is_kept():
    outputs = story(*[minute(i, ("a", 100, 100), ("", 100, 100)) for i in range(70)])
    of_parts = [o for o in outputs if isinstance(o, (AlertEvent, BudgetEvent)) and o.objective.finds]
    assert of_parts == []
    assert {o.sli.objective.name for o in outputs if isinstance(o, StatusEvent)} == {
        "availability",
        "availability@a",
        REST_NAME,
    }


def test_names_hold_any_value_and_what_no_file_could_name_is_of_the_rest():
    values: list[str | int | float | bool] = ["a@b/c", "gold plus", "ü", 200, 0.5, True, *NOT_NAMEABLE]
    events = [Event(T0_NS, attributes=((KEY, value),)) for value in values]
    engine, _ = run(_log(events))
    names = {o.name: (o.cohort, o.attributes) for o in engine.services[SERVICE].objectives if o.is_found}
    assert {name: cohort for name, (cohort, _) in names.items()} == {
        "availability@a%40b%2Fc": f"{KEY}=a@b/c",
        "availability@gold%20plus": f"{KEY}=gold plus",
        "availability@%C3%BC": f"{KEY}=ü",
        "availability@200": f"{KEY}=200",
        "availability@0.5": f"{KEY}=0.5",
        "availability@true": f"{KEY}=true",
    }
    assert all(attributes == ((KEY, (cohort.partition("=")[2],)),) for cohort, attributes in names.values())
    assert engine.state.overflowed == {"services": 0, "versions": 0, "cohorts": len(NOT_NAMEABLE)}


def _log(events: list[Event], **settings: Any) -> list[tuple[int, bytes]]:
    writer = LogWriter(bundle(WHOLE, REST, **settings))
    writer.record(until_ns=T0_NS)
    writer.record(events, until_ns=T0_NS + MINUTE_NS)
    return writer.log


def test_values_of_one_record_come_in_their_order_whatever_theirs_in_it_is():
    found = set()
    for pods in permutations("abc"):
        engine, _ = run(_log([Event(T0_NS, attributes=((KEY, pod),)) for pod in pods], cohorts_max=2))
        found.add(tuple(sorted(engine.services[SERVICE].cohorts[REST.digest])))
        assert engine.state.overflowed["cohorts"] == 1
    assert found == {("a", "b")}


def test_what_does_not_count_makes_no_cohort():
    whole, rest = objectives(without=(("http.route", ("/healthz",)),), versions=("v2",))
    writer = LogWriter(bundle(whole, rest))
    health = Event(T0_NS, version="v2", attributes=((KEY, "a"), ("http.route", "/healthz")))
    events = [health, Event(T0_NS, attributes=((KEY, "b"),)), Event(T0_NS, version="v2", attributes=((KEY, "c"),))]
    writer.record(events, until_ns=T0_NS)
    engine, _ = run(writer.log)
    assert engine.services[SERVICE].cohorts == {rest.digest: {"c"}}


def test_while_a_backlog_is_read_no_cohort_is_idle_because_of_that():
    """Half a day is read within a minute: two pods come in turn, and there is room for both."""
    writer = LogWriter(bundle(WHOLE, REST, cohorts_max=2))
    now_ns = T0_NS + 12 * 60 * MINUTE_NS
    for i in range(30):
        pod = "ab"[i % 2] if i < 29 else "c"
        writer.record(minute(i, (pod, 1, 0)), until_ns=T0_NS + i * MINUTE_NS, now_ns=now_ns + i)
    engine, outputs = run(writer.log)
    assert engine.services[SERVICE].cohorts[REST.digest] == {"a", "b"}
    assert not [output for output in outputs if isinstance(output, StatusGone)]


def test_what_is_gone_stays_gone_while_a_backlog_is_read():
    writer = LogWriter(bundle(WHOLE, REST))
    minute_by_minute(writer, [minute(i, ("a", 10, 0), *([("b", 10, 0)] if i < 5 else [])) for i in range(80)])
    minute_by_minute(writer, [minute(i, ("a", 10, 0)) for i in range(80, 90)], start=80, lag_s=600)
    minute_by_minute(writer, [minute(i, ("a", 10, 0)) for i in range(90, 110)], start=90, lag_s=600 - 60 * 10)
    _, outputs = run(writer.log)
    assert any(isinstance(o, SliEvent) and o.catching_up for o in outputs)
    told = [o for o in outputs if isinstance(o, (SliEvent, StatusGone)) and o.objective.name == "availability@b"]
    assert [isinstance(o, StatusGone) for o in told] == [False] * (len(told) - 1) + [True]


@pytest.mark.parametrize("change", ["edited", "gone", "kept"])
def test_cohorts_stay_with_the_objective_that_found_them(change):
    writer = LogWriter(bundle(WHOLE, REST))
    minute_by_minute(writer, [minute(i, ("a", 1, 0)) for i in range(3)])
    after = {
        "edited": [replace(WHOLE, target="0.6"), replace(REST, target="0.6")],
        "gone": [WHOLE],
        "kept": [WHOLE, replace(REST, alerting=WHOLE.alerting)],
    }[change]
    writer.bundle, writer.config_version = bundle(*after), 1
    writer.record(minute(3), until_ns=T0_NS + 4 * MINUTE_NS, configure=True)
    engine, outputs = run(writer.log)
    own = [o for o in engine.services[SERVICE].objectives if o.is_found]
    gone = [o.objective.name for o in outputs if isinstance(o, StatusGone)]
    assert [o.name for o in own] == (["availability@a"] if change == "kept" else [])
    assert [o.alerting.rules for o in own] == ([()] if change == "kept" else [])
    assert (
        gone == {"edited": ["availability@a"], "gone": ["availability@__other__", "availability@a"], "kept": []}[change]
    )
    restored = Engine.restore(0, stored(engine)).services[SERVICE]
    assert (restored.objectives, restored.cohorts) == (
        engine.services[SERVICE].objectives,
        engine.services[SERVICE].cohorts,
    )


def test_what_an_adjustment_leaves_out_of_everyone_is_left_out_of_those_that_were_found():
    adjustment = Adjustment(
        name="drill", objectives=(WHOLE.name, REST.name), start_minute=T0 + 1, end_minute=T0 + 3, reason="a drill"
    )
    writer = LogWriter(replace(bundle(WHOLE, REST), adjustments=(adjustment,)))
    minute_by_minute(writer, [minute(i, ("a", 10, 5)) for i in range(8)])
    _, outputs = run(writer.log)
    last = {o.objective.name: o for o in outputs if isinstance(o, SliEvent)}
    assert last["availability@a"].window_sli.n == last["availability"].window_sli.n == 10 * (7 - 2)


def test_each_has_exemplars_of_its_own():
    events = [
        Event(T0_NS + 2 * MINUTE_NS + i, trace_id=i + 1, bad=pod == "b", attributes=((KEY, pod),))
        for i, pod in enumerate("aabb")
    ]
    writer = LogWriter(bundle(WHOLE, REST))
    minute_by_minute(writer, [minute(0, ("a", 1, 0), ("b", 1, 0)), [], events, [], []])
    shown = {
        o.objective.name: (int(o.exemplars.worst.trace_id, 16), int(o.exemplars.newest.trace_id, 16))
        for o in run(writer.log)[1]
        if isinstance(o, SliEvent) and o.exemplars is not None
    }
    assert shown == {"availability": (4, 4), "availability@a": (2, 2), "availability@b": (4, 4)}


def test_points_of_metrics_find_them_as_well():
    whole, rest = (
        replace(one, signal=SliSignal.METRICS, metric=METRIC, kinds=(), alerting=Alerting(rules=()))
        for one in objectives()
    )
    writer = PointWriter(bundle(whole, rest))
    writer.record(until_ns=T0_NS)
    sets = tuple(canonical({KEY: pod} if pod else {}) for pod in ("a", "b", ""))
    for i in range(1, 5):
        time_ns = T0_NS + i * MINUTE_NS
        batch = named(
            points(
                [
                    Sample(stream=n, start=time_ns - MINUTE_NS, time=time_ns, value=n, temporality=Temporality.DELTA)
                    for n in (1, 10, 100)
                ],
                writer.next_offset,
            )
        )
        batch = replace(batch, attributes=np.arange(3, dtype="int32"), attribute_sets=sets)
        writer.record(batch, until_ns=time_ns + MINUTE_NS)
    engine, outputs = run(writer.log)
    assert engine.services[SERVICE].cohorts == {rest.digest: {"a", "b"}}
    newest = {o.objective.name: o.minute_sli.n for o in outputs if isinstance(o, SliEvent) and o.minute == T0 + 3}
    assert newest == {"availability": 111, "availability@a": 1, "availability@b": 10, REST_NAME: 100}


@pytest.mark.parametrize("other", ["good_metric", "bad_metric"])
def test_of_two_counters_either_may_come_first(other):
    """All ten of a pod's and a hundred of nobody's are counted; what is good, or bad, of the ten comes first."""
    part: dict[str, Any] = {"signal": SliSignal.METRICS, "metric": METRIC, "kinds": (), other: "part"}
    whole, rest = (replace(one, alerting=Alerting(rules=()), **part) for one in objectives())
    writer = PointWriter(bundle(whole, rest))
    writer.record(until_ns=T0_NS)
    sets = tuple(canonical({KEY: pod} if pod else {}) for pod in ("a", ""))
    time_ns = T0_NS + MINUTE_NS
    for metric, at, value in (("part", 0, 10), (METRIC, 0, 10), ("part", 1, 50), (METRIC, 1, 100)):
        sample = Sample(
            stream=2 * (metric == METRIC) + at,
            start=time_ns - MINUTE_NS,
            time=time_ns,
            value=value,
            temporality=Temporality.DELTA,
        )
        batch = named(points([sample], writer.next_offset), metric)
        writer.record(replace(batch, attributes=np.array([at], "int32"), attribute_sets=sets), until_ns=time_ns)
    writer.record(until_ns=time_ns + 3 * MINUTE_NS)
    engine, outputs = run(writer.log)
    assert engine.services[SERVICE].cohorts == {rest.digest: {"a"}}
    counted = {
        o.objective.name: (o.minute_sli.n, o.minute_sli.good)
        for o in outputs
        if isinstance(o, SliEvent) and o.minute == T0 + 1
    }
    good = {"good_metric": (60, 50), "bad_metric": (50, 50)}[other]
    assert counted == {"availability": (110, good[0]), REST_NAME: (100, good[1])}
