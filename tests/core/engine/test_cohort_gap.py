"""A ticket where a cohort is worse than everyone by more than it may be."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from stream.core.columns import Kind
from stream.core.events import AlertEvent
from stream.core.slo.alerts import Alerting, AlertState
from stream.core.slo.burn_rate import cohort_gap_rule
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
