"""Events that must have been there: by a floor, and by another objective that counts the same events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.columns import Kind
from stream.core.events import AlertEvent, CertificateEvent, Output, SliEvent
from stream.core.points import Points, Temporality
from stream.core.slo.alerts import Alerting, AlertState
from stream.core.slo.declared import Adjustment
from stream.core.slo.sli import budget
from stream.core.slo.spec import Objective
from stream.core.units import MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective, run
from tests.core.engine.point_writer import metric_objective, named
from tests.core.engine.slo_oracle import T0
from tests.core.slo.test_sli import weighed
from tests.core.streams.rules import Sample, points

OTHER = "counted"


def paired(target: str = "0.999", tolerance: str = "", **rest) -> Objective:
    """Returns an objective on requests that expects as many as OTHER counts."""
    return objective(target=target, expected_from=OTHER, expected_tolerance=tolerance, kinds=(Kind.SERVER,), **rest)


def other(**rest) -> Objective:
    """Returns what counts the same requests another way: here, calls."""
    return objective(OTHER, "0.5", kinds=(Kind.CLIENT,), certified=False, **rest)


def metric() -> Objective:
    """Returns a metric that counts the same requests, and tells its counts once a minute."""
    return metric_objective(OTHER, target="0.5", certified=False)


@dataclass(frozen=True)
class Minute:
    """What is read in a minute: requests, bad ones among them, what OTHER counts, and what the metric tells."""

    n: int = 0
    bad: int = 0
    other: int = 0
    told: int = 0
    weight: int = 1

    def events(self, minute: int) -> list[Event]:
        """Returns the rows."""
        kinds = (
            (self.n - self.bad, False, Kind.SERVER),
            (self.bad, True, Kind.SERVER),
            (self.other, False, Kind.CLIENT),
        )
        at_ns = T0_NS + minute * MINUTE_NS + SECOND_NS
        return [
            Event(at_ns, count=count, weight=count * self.weight * WEIGHT_ONE, bad=bad, kind=kind)
            for count, bad, kind in kinds
            if count
        ]

    def points(self, minute: int) -> Points | None:
        """Returns the point that ends in the middle of the minute and covers the 60 s before."""
        time_ns = T0_NS + minute * MINUTE_NS + MINUTE_NS // 2
        sample = Sample(start=time_ns - MINUTE_NS, time=time_ns, value=float(self.told), temporality=Temporality.DELTA)
        return named(points([sample])) if self.told else None


def exported(counts: list[int], requests: list[int] | None = None, before: int = 0) -> list[Minute]:
    """Returns minutes of requests; the metric tells `counts` once a minute, half a minute late."""
    return [
        Minute(n=n, told=earlier // 2 + count // 2)
        for n, earlier, count in zip(requests or counts, [before, *counts], counts, strict=False)
    ]


def folded(
    minutes: list[Minute],
    *objectives: Objective,
    losses: frozenset[int] = frozenset(),
    adjustments: tuple[Adjustment, ...] = (),
) -> list[Output]:
    """Returns the outputs of these minutes and of two empty ones, so that they close."""
    writer = LogWriter(replace(bundle(*objectives), adjustments=adjustments))
    for number, minute in enumerate([*minutes, Minute(), Minute()]):
        writer.record(
            minute.events(number),
            points=minute.points(number),
            until_ns=T0_NS + (number + 1) * MINUTE_NS,
            lost=3 if number in losses else 0,
        )
    return run(writer.log)[1]


def indicators(outputs: list[Output]) -> dict[int, SliEvent]:
    """Returns the last indicator of each minute of the paired objective."""
    of_events = [o for o in outputs if isinstance(o, SliEvent) and o.objective.name != OTHER]
    return {event.minute - T0: event for event in of_events}


def certificate(outputs: list[Output]) -> CertificateEvent:
    """Returns what was said last of the certificate."""
    return [output for output in outputs if isinstance(output, CertificateEvent)][-1]


def test_one_percent_that_never_came_gives_bounds_and_no_certificate():
    """Five bad in 10,000 received where 10,100 are expected: 0.0495 % to 1.04 % are bad."""
    minutes = [Minute(n=200, bad=int(i < 5), other=202) for i in range(50)]
    outputs = folded(minutes, paired(window_minutes=60), other())
    event = indicators(outputs)[49]
    found = event.window_sli
    assert (found.n, found.n_missing) == (10_000, 100)
    assert (found.ratio_lower, found.ratio_upper) == (float(1 - Fraction(105, 10_100)), float(1 - Fraction(5, 10_100)))
    assert event.budget == budget(weighed(10_000, 5), Fraction("0.001"), Fraction(50, 60), 100 * WEIGHT_ONE)
    assert certificate(outputs).reasons == (Reason.INSUFFICIENT_EVIDENCE, Reason.MISSING_EVENTS)


def test_few_missing_ones_do_not_outweigh_much_evidence():
    """At 99 % one in a thousand that may have been bad leaves enough; at 99.9 % it does not."""
    minutes = [Minute(n=999, other=1_000)] * 60
    assert indicators(folded(minutes, paired(), other()))[59].window_sli.n_missing == 60
    assert certificate(folded(minutes, paired("0.99"), other())).state is CertificateState.ISSUED
    assert certificate(folded(minutes, paired("0.999"), other())).reasons == (Reason.MISSING_EVENTS,)


def test_a_declared_tolerance_is_exact():
    minutes = [Minute(n=1_000, other=1_100)] * 60
    missing = [
        indicators(folded(minutes, paired(tolerance=tolerance), other()))[59].window_sli.n_missing
        for tolerance in ("", "0.01", "0.09", "0.1")
    ]
    assert missing == [6_000, 5_340, 60, 0]


@pytest.mark.parametrize("steps", [0, 10, -10])
def test_what_a_metric_tells_late_is_not_missing_where_traffic_rises_or_falls(steps: int):
    counts = [1_000 + steps * i for i in range(60)]
    outputs = folded(exported(counts, before=1_000 - steps), paired(), metric())
    assert {event.window_sli.n_missing for event in list(indicators(outputs).values())[:60]} <= {0, 5}
    assert certificate(outputs).state is CertificateState.ISSUED


def test_after_a_gap_a_metric_tells_at_once_what_it_counted_within():
    """A cumulative metric that was not read for ten minutes: its next point adds all of them."""
    minutes = [*exported([100] * 20, before=100), *[Minute()] * 10, Minute(n=100, told=1_100)]
    outputs = folded([*minutes, *exported([100] * 20, before=100)], paired(), metric(), losses=frozenset(range(20, 30)))
    assert {event.window_sli.n_missing for event in indicators(outputs).values()} <= {0, 50}


@pytest.mark.parametrize("quiet", [0, 5])
def test_one_percent_is_missed_as_soon_as_the_metric_told_it(quiet: int):
    """10,000 requests in one minute, and 10,100 told in it and in the next: no certificate, not even at once."""
    burst = [Minute(n=10_000, told=5_050), Minute(n=1, told=5_050)]
    outputs = folded([*[Minute(n=1, told=1)] * quiet, *burst, *[Minute(n=1, told=1)] * 20], paired(), metric())
    states = [o for o in outputs if isinstance(o, CertificateEvent)]
    assert {event.state for event in states} == {CertificateState.PENDING}
    assert Reason.MISSING_EVENTS in states[-1].reasons


def test_a_certificate_waits_until_a_metric_could_have_told_what_it_stands_on():
    """3,700 requests suffice for 99.9 %; those of the second minute do once they are two minutes old."""
    last = [o for o in folded(exported([3_700] * 10), paired(), metric()) if isinstance(o, CertificateEvent)][-1]
    assert (last.state, last.minute - T0) == (CertificateState.ISSUED, 3)
    alone = certificate(folded(exported([3_700] * 10), objective(target="0.999"), metric()))
    assert alone.minute - T0 == 0


def test_without_a_word_from_the_other_nobody_knows_what_is_missing():
    outputs = folded([Minute(n=1_000)] * 10, paired(), other())
    assert indicators(outputs)[9].window_sli.n_missing == 0
    assert certificate(outputs).reasons == (Reason.MISSING_EVENTS,)


def test_what_fell_silent_an_hour_ago_tells_nothing():
    told = [Minute(n=1, other=1)] * 20
    for silent, reasons in ((58, ()), (59, (Reason.MISSING_EVENTS,))):
        last = certificate(folded([*told, *[Minute(n=1)] * silent, Minute(n=4_000)], paired(), other()))
        assert last.reasons == reasons


def test_what_nobody_confirmed_does_not_suffice_once_the_service_is_idle():
    told = [Minute(n=1, other=1)] * 5
    outputs = folded([*told, *[Minute(n=60)] * 70, *[Minute()] * 70], paired(), other())
    assert certificate(outputs).reasons == (Reason.MISSING_EVENTS,)


def test_what_comes_while_the_other_is_silent_makes_up_for_nothing():
    """1,000 of 5,000 are missing; then 4,000 come of which the other has not counted one."""
    outputs = folded([*[Minute(n=200, other=250)] * 20, *[Minute(n=200)] * 20], paired(), other())
    assert Reason.MISSING_EVENTS in certificate(outputs).reasons


@pytest.mark.parametrize("floor", [None, 60])
def test_what_is_missing_is_missing_for_ever(floor: int | None):
    """Also when single minutes are forgotten, and the evidence began in the middle of an hour."""
    quiet = Alerting(rules=())
    objectives = replace(paired(floor_per_hour=floor), alerting=quiet), replace(other(), alerting=quiet)
    writer = LogWriter(bundle(*objectives))
    for number in range(3, 15 * 60, 20):
        minute = Minute(n=10_000, other=10_200) if number == 23 else Minute(n=20, other=20) if number > 23 else Minute()
        writer.record(minute.events(number), until_ns=T0_NS + (number + 1) * MINUTE_NS)
    last = certificate(run(writer.log)[1])
    assert (last.state, last.reasons) == (CertificateState.PENDING, (Reason.MISSING_EVENTS,))


def test_evidence_from_before_the_other_was_known_is_not_confirmed():
    """The other objective is edited: what it told before is forgotten, and what was missing then with it."""
    writer = LogWriter(bundle(paired(), other()))
    for number in range(60):
        if number == 30:
            writer.bundle, writer.config_version = bundle(paired(), replace(other(), target="0.4")), 1
        told = 400 if number < 30 else 200
        events = Minute(n=200, other=told).events(number)
        writer.record(events, until_ns=T0_NS + (number + 1) * MINUTE_NS, configure=number in (0, 30))
    last = certificate(run(writer.log)[1])
    assert last.state is CertificateState.ISSUED
    assert last.minute - T0 >= 30 + 3_678 // 200, "what came since has to suffice alone"


def test_a_burst_that_nobody_confirmed_is_none_for_ever():
    """That of the first minute of the history, also when the single minutes are forgotten."""
    quiet = Alerting(rules=())
    writer = LogWriter(bundle(replace(paired(), alerting=quiet), replace(metric(), alerting=quiet)))
    for number in (0, 1, *range(2, 15 * 60, 30)):
        minute = Minute(n=10_000 if number == 0 else 1, told=5_050 if number < 2 else 1)
        until_ns = T0_NS + (number + 1) * MINUTE_NS
        writer.record(minute.events(number), points=minute.points(number), until_ns=until_ns)
    last = certificate(run(writer.log)[1])
    assert (last.state, last.reasons) == (CertificateState.PENDING, (Reason.MISSING_EVENTS,))
    assert last.minute - T0 > 13 * 60


def test_what_is_missing_of_all_versions_may_be_of_each():
    """The metric knows no versions, so a version that lacks nothing waits for the one that does."""
    minutes = [Minute(n=100, other=150)] * 60
    assert certificate(folded(minutes, paired(), other())).reasons == (Reason.MISSING_EVENTS,)


def test_sampled_events_weigh_as_many_as_they_stand_for():
    """One in ten was kept of 1,000 a minute, and 1,010 are told, in all minutes but the first of the history."""
    event = indicators(folded([Minute(n=100, told=1_010, weight=10)] * 30, paired(), metric()))[29]
    assert (event.window_sli.n, event.window_sli.total, event.window_sli.n_missing) == (3_000, 30_000, 290)


def test_a_floor_is_weighed_as_well_and_the_higher_of_the_two_counts():
    minutes = [Minute(n=10, other=10, weight=10)] * 60
    for floor, missing in ((6_000, 0), (6_600, 600)):
        event = indicators(folded(minutes, paired(floor_per_hour=floor), other()))[59]
        assert event.window_sli.n_missing == missing


def test_a_floor_holds_back_a_certificate():
    for floor, state in ((6_000, CertificateState.ISSUED), (9_000, CertificateState.PENDING)):
        slo = objective(target="0.999", floor_per_hour=floor)
        assert certificate(folded([Minute(n=100)] * 60, slo)).state is state


def test_no_adjustment_makes_a_certificate_forget_what_is_missing():
    minutes = [Minute(n=100, other=100 if i < 20 else 200) for i in range(40)]
    left_out = Adjustment(name="a", objectives=("availability",), start_minute=T0 + 20, end_minute=T0 + 40)
    outputs = folded(minutes, paired(), other(), adjustments=(left_out,))
    assert indicators(outputs)[39].window_sli.n_missing == 0
    assert Reason.MISSING_EVENTS in certificate(outputs).reasons


def test_an_alert_names_what_the_budget_may_be_at_most():
    minutes = [Minute(n=100, bad=50, other=200)] * 30
    fired = [o for o in folded(minutes, paired(), other()) if isinstance(o, AlertEvent)][-1]
    assert fired.reading is not None
    event = indicators(folded(minutes, paired(), other()))[fired.minute - T0]
    assert fired.reading.budget == event.budget
    assert event.budget != replace(event.budget, remaining_max_ratio=event.budget.remaining_min_ratio)


def gap_tickets(outputs: list[Output]) -> list[tuple[int, AlertState, str]]:
    """Returns minute, state and text of the tickets on gaps in the evidence."""
    alerts = [o for o in outputs if isinstance(o, AlertEvent) and o.rule.name == "ticket-evidence-gap"]
    return [(a.minute - T0, a.state, a.explanation) for a in alerts if a.objective.name != OTHER]


def test_a_ticket_is_opened_where_a_page_could_hide_among_what_never_came():
    """At 99.9 % over 30 d a page burns from 14.4 times 0.1 % on."""
    minutes = [Minute(n=980, other=1_000)] * 70 + [Minute(n=1_000, other=1_000)] * 60
    fired, resolved = gap_tickets(folded(minutes, paired(), other()))
    assert fired == (
        59,
        AlertState.FIRING,
        "Of the last 1h 58,800 events came, and 1,200 that must have been there never did: an outage could hide "
        "among them.",
    )
    assert resolved[:2] == (86, AlertState.INACTIVE), "860 of 60,000"
    assert resolved[2] == "Every minute of the last 1h was read whole, and few events or none never came."


@pytest.mark.parametrize(
    ("minute", "target", "is_told"),
    [
        (Minute(n=986, other=1_000), "0.999", False),
        (Minute(n=985, other=1_000), "0.999", True),
        (Minute(n=500, other=1_000), "0.9", False),
        (Minute(n=499, other=1_000), "0.9", True),
        (Minute(n=0, other=1_000), "0.9", True),
        (Minute(n=0, other=0), "0.9", False),
    ],
)
def test_little_that_never_came_opens_no_ticket(minute, target, is_told):
    assert bool(gap_tickets(folded([minute] * 61, paired(target), other()))) is is_told


def test_a_floor_that_is_missed_opens_a_ticket_once_an_hour_was_read():
    outputs = folded([Minute(n=10)] * 65, objective(target="0.999", floor_per_hour=1_000))
    assert [at for at, _, _ in gap_tickets(outputs)] == [59]


def told_next_minute(counts: list[int], share: float = 1.0) -> list[Minute]:
    """Returns minutes of requests; the metric tells those of a minute in the next one, and not all of them came."""
    return [Minute(n=round(n * share), told=before) for n, before in zip(counts, [0, *counts], strict=False)]


@pytest.mark.parametrize("target", ["0.999", "0.9999"])
def test_traffic_that_a_metric_tells_in_the_next_minute_opens_no_ticket_however_uneven_it_is(target: str):
    """A process that exports at the beginning of each minute; lone requests at night, then a burst."""
    night = [minute * minute % 7 == 0 for minute in range(90)]
    minutes = told_next_minute([*map(int, night), 1_000, *map(int, night), *[10, 3, 17] * 25])
    assert gap_tickets(folded(minutes, paired(target), metric())) == []


def test_what_a_metric_counts_and_never_came_opens_a_ticket_at_uneven_traffic_as_well():
    minutes = told_next_minute([1_000, 3_000, 2_000] * 25, share=0.98)
    assert gap_tickets(folded(minutes, paired(), metric()))[0][:2] == (61, AlertState.FIRING)


def test_a_metric_that_is_told_later_than_what_it_is_compared_with_opens_no_ticket():
    """The other way round: calls are known at once, the objective itself counts by a metric."""
    requests = metric_objective(target="0.999", expected_from=OTHER)
    uneven = [1_000 * (minute == 20) + minute % 5 for minute in range(120)]
    minutes = [Minute(other=n, told=before) for n, before in zip([*uneven, 0], [0, *uneven], strict=True)]
    assert gap_tickets(folded(minutes, requests, other())) == []


@pytest.mark.parametrize("silent", [{"expected_from": OTHER}, {"lost_by": ("losses",)}])
def test_whoever_is_silent_hides_nothing_of_what_a_floor_says(silent):
    objectives = objective(target="0.999", floor_per_hour=1_000, **silent), other()
    assert len(gap_tickets(folded([Minute(n=10)] * 65, *objectives))) == 1


def test_what_comes_once_the_other_is_silent_closes_no_ticket():
    minutes = [Minute(n=900, other=1_000)] * 60 + [Minute(n=1_000)] * 20
    assert [at for at, _, _ in gap_tickets(folded(minutes, paired(), other()))] == [59]


counts = st.integers(0, 30)


@given(
    pattern=st.lists(st.tuples(counts, counts), min_size=1, max_size=13),
    length=st.integers(5, 90),
    losses=st.frozensets(st.integers(2, 80), max_size=2),
    left_out=st.tuples(st.integers(0, 80), st.integers(1, 20)) | st.none(),
    tolerance=st.sampled_from(("", "0.005", "0.3")),
    window_minutes=st.sampled_from((60, 360)),
)
@settings(max_examples=15, deadline=None)
def test_what_is_missing_is_what_the_minutes_that_both_saw_lack(
    pattern, length, losses, left_out, tolerance, window_minutes
):
    """Minute by minute."""
    minutes = [Minute(n=a, other=b) for a, b in (pattern[i % len(pattern)] for i in range(length))]
    holes = {minute for loss in losses for minute in (loss, loss + 1)}
    adjustments: tuple[Adjustment, ...] = ()
    if left_out is not None:
        first, count = left_out
        holes |= set(range(first, first + count))
        span = {"start_minute": T0 + first, "end_minute": T0 + first + count}
        adjustments = (Adjustment(name="a", objectives=("availability",), **span),)
    outputs = folded(
        minutes,
        paired(tolerance=tolerance, window_minutes=window_minutes),
        other(),
        losses=losses,
        adjustments=adjustments,
    )
    for closed, event in indicators(outputs).items():
        seen = [m for m in range(max(0, closed + 1 - window_minutes), min(closed + 1, length)) if m not in holes]
        expected = ceil(sum(minutes[m].other for m in seen) * (1 - Fraction(tolerance or "0")) * WEIGHT_ONE)
        lacking = max(0, expected - sum(minutes[m].n for m in seen) * WEIGHT_ONE)
        assert event.window_sli.n_missing == -(-lacking // WEIGHT_ONE)
