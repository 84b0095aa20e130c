"""A ticket where a cohort is worse than everyone by more than it may be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from stream.core.columns import Kind
from stream.core.events import AlertEvent, SliEvent
from stream.core.slo.alerts import Alerting, AlertState
from stream.core.slo.burn_rate import cohort_gap_rule
from stream.core.slo.spec import BudgetingMethod, Objective, Slices
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, minute_by_minute, objective, run
from tests.core.engine.slo_oracle import T0

EVERY = replace(objective(target="0.5", kinds=(Kind.SERVER, Kind.CONSUMER)), alerting=Alerting(rules=()))
COHORT = replace(
    objective("availability@gold", target="0.5", kinds=(Kind.CONSUMER,), cohort_of="availability", cohort="tier=gold"),
    alerting=Alerting(rules=(cohort_gap_rule(Fraction(1, 20)),)),
)
"""Consumers stand for the cohort: what makes one is not what this is about."""


def minute(number: int, cohort: tuple[int, int], others: tuple[int, int] = (1_000, 10)) -> list[Event]:
    """Returns a minute of so many events and bad ones among them."""
    at_ns = T0_NS + number * MINUTE_NS + SECOND_NS
    return [
        Event(at_ns, count=count, weight=count * WEIGHT_ONE, bad=bad, kind=kind)
        for kind, (n, n_bad) in ((Kind.CONSUMER, cohort), (Kind.SERVER, others))
        for count, bad in ((n - n_bad, False), (n_bad, True))
        if count
    ]


def alerts(*minutes: tuple[int, int]) -> list[AlertEvent]:
    """Returns the alerts of so many events of the cohort in each minute."""
    writer = LogWriter(bundle(EVERY, COHORT))
    minute_by_minute(writer, [*(minute(i, cohort) for i, cohort in enumerate(minutes)), []])
    return [output for output in run(writer.log)[1] if isinstance(output, AlertEvent)]


def test_a_cohort_that_falls_behind_is_told_of_and_so_is_its_recovery():
    """1 % of the others fail. From minute 20 on 20 % of the cohort do: with the hour's good 20 minutes before."""
    fired, resolved = alerts(*[(1_000, 10)] * 20, *[(1_000, 200)] * 30, *[(1_000, 10)] * 30)
    assert [(a.rule.name, a.state) for a in (fired, resolved)] == [
        ("ticket-cohort-gap", AlertState.FIRING),
        ("ticket-cohort-gap", AlertState.INACTIVE),
    ]
    # k bad minutes of 20 + k: (19 % × k / (20 + k)) / 2 exceeds 5 % from k = 23 on, and so does its bound from 24 on.
    assert fired.minute - T0 == 20 + 23
    assert fired.explanation == (
        "Over the last 1h 11.364% of tier=gold were bad and 6.182% of everyone's, 5.182% apart where 5% may be; "
        "the 95 % interval of that begins at 5.027%."
    )
    # j good minutes of the last five: (19 % × (5 − j) / 5) / 2 is at most 5 % from j = 3 on.
    assert resolved.minute - T0 == 50 + 2
    assert resolved.explanation == "tier=gold is no longer more than 5% worse than everyone."


def test_few_events_may_be_chance():
    assert alerts(*[(1, 0)] * 10, (1, 1), *[(1, 0)] * 4) == []


def test_a_cohort_that_is_better_than_everyone_is_not_told_of():
    assert alerts(*[(1_000, 0)] * 30) == []


def test_while_everyone_and_the_cohort_have_not_counted_the_same_minutes_nothing_is_said():
    """What a certificate needs is added, which makes another objective of everyone and not of the cohort."""
    writer = LogWriter(bundle(EVERY, COHORT))
    minute_by_minute(writer, [minute(i, (1_000, 200)) for i in range(30)])
    writer.bundle, writer.config_version = bundle(replace(EVERY, floor_per_hour=60), COHORT), 1
    writer.record(until_ns=T0_NS + 30 * MINUTE_NS, configure=True)
    minute_by_minute(writer, [*(minute(i, (1_000, 10)) for i in range(30, 110)), []], start=30)
    outputs = run(writer.log)[1]
    fired, resolved = (output for output in outputs if isinstance(output, AlertEvent))
    began = min(o.minute for o in outputs if isinstance(o, SliEvent) and o.objective.floor_per_hour)
    assert (fired.state, resolved.state) == (AlertState.FIRING, AlertState.INACTIVE)
    assert fired.minute - T0 < 30
    assert resolved.minute == began + 59


def test_events_are_compared_also_where_the_budget_is_made_of_slices():
    """A cohort with events in every other minute: its slices are no part of everyone's."""

    def sliced(objective: Objective) -> Objective:
        return replace(objective, method=BudgetingMethod.TIMESLICES, slices=Slices(minutes=1, target="0.85"))

    batches = [*(minute(i, (1_000 if i % 2 else 0, 200 if i % 2 else 0)) for i in range(30)), []]
    found = []
    for objectives in ((EVERY, COHORT), (sliced(EVERY), sliced(COHORT))):
        writer = LogWriter(bundle(*objectives))
        minute_by_minute(writer, batches)
        found.append([(a.minute, a.explanation) for a in run(writer.log)[1] if isinstance(a, AlertEvent)])
    assert found[0] == found[1] != []
