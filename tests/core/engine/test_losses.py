"""What others say was lost on the way here: told late, twice, in any order, with holes, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.certificate.issuance import Shortfall
from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.columns import Kind
from stream.core.engine import Engine
from stream.core.engine.expectations import shortfall
from stream.core.engine.losses import LOST_WITHIN_MINUTES, TOLD_WITHIN_MINUTES
from stream.core.engine.state import SERIES
from stream.core.events import AlertEvent, CertificateEvent, Output, SliEvent
from stream.core.rendering import render
from stream.core.slo.alerts import Alerting
from stream.core.slo.declared import Adjustment
from stream.core.slo.spec import Objective
from stream.core.units import HOUR_MINUTES, MINUTE_NS, SECOND_NS, WEIGHT_ONE
from tests.core.engine.indicator_writer import T0, JourneyWriter, Said, component, composite, journey, of_journey
from tests.core.engine.log_writer import SERVICE, T0_NS, Event, objective, run
from tests.core.engine.test_chunks import fold

COLLECTOR, GATEWAY = "prod/-/otelcol", "prod/-/gateway"
LOSSES, ALSO = "losses", "gateway-losses"
HEARD_AFTER = 2
"""A minute closes a minute after its end, and its indicator is in the next record."""


def watching(**rest: Any) -> Objective:
    """Returns an objective on requests of which a Collector says what it lost."""
    return objective(**{"target": "0.999", "lost_by": (LOSSES,), "kinds": (Kind.SERVER,), **rest})


def losses(service: str = COLLECTOR, name: str = LOSSES) -> Objective:
    """Returns what counts them; here nothing is: only its indicators are read."""
    return objective(name, "0.99", service=service, kinds=(Kind.INTERNAL,), certified=False)


def told(minute: int, bad: int = 0, total: int = 1_000, **rest) -> Said:
    """Returns what the Collector says of a minute."""
    return Said(minute, **{"service": COLLECTOR, "objective": LOSSES, "total": total, "bad": bad, **rest})


@dataclass(frozen=True)
class Minute:
    """The requests of a minute, and what was lost in it; None: that is never told."""

    n: int = 0
    lost: int | None = 0
    weight: int = 1

    def events(self, minute: int) -> list[Event]:
        """Returns the rows."""
        at_ns = T0_NS + minute * MINUTE_NS + SECOND_NS
        return [Event(at_ns, count=self.n, weight=self.n * self.weight * WEIGHT_ONE)] if self.n else []


def written(minutes: Sequence[Minute], *objectives: Objective, bundle=None) -> JourneyWriter:
    """Returns the log of these minutes, of which each is told two records later."""
    writer = JourneyWriter(bundle or journey(*(objectives or (watching(), losses()))))
    for number, minute in enumerate([*minutes, *[Minute(lost=None)] * (HEARD_AFTER + 1)]):
        of = number - HEARD_AFTER
        lost = minutes[of].lost if 0 <= of < len(minutes) else None
        said = [] if lost is None else [told(of, lost)]
        writer.record(said, read_until=number + 1, events=minute.events(number))
    return writer


def folded(minutes: Sequence[Minute], *objectives: Objective, bundle=None) -> list[Output]:
    return run(written(minutes, *objectives, bundle=bundle).log)[1]


def last_indicator(outputs: Sequence[Output], name: str = "availability") -> SliEvent:
    return [o for o in outputs if isinstance(o, SliEvent) and o.objective.name == name][-1]


def certificate(outputs: Sequence[Output]) -> CertificateEvent:
    return [output for output in outputs if isinstance(output, CertificateEvent)][-1]


# Bounds


def test_each_that_was_lost_may_have_been_a_bad_one_of_this_service():
    """10,000 came and were good, the Collector lost 100 of anybody's: 99.01 % to 100 %."""
    found = last_indicator(folded([Minute(n=200, lost=2)] * 50)).window_sli
    assert (found.n, found.n_missing) == (10_000, 100)
    assert (found.ratio_lower, found.ratio_upper) == (float(Fraction(10_000, 10_100)), 1.0)


def test_what_is_told_changes_the_next_evaluation_and_what_was_published_stays():
    outputs = folded([Minute(n=200, lost=7), *[Minute(n=200)] * 9])
    events = [o for o in outputs if isinstance(o, SliEvent) and o.objective.name == "availability"]
    assert [(e.minute - T0, e.window_sli.n_missing, e.revision) for e in events[:4]] == [
        (0, 0, 0),
        (1, 7, 0),
        (2, 7, 0),
        (3, 7, 0),
    ]


def test_more_may_be_lost_in_a_minute_than_came_in_it():
    """An exporter that gives up after minutes tells more losses than there was traffic."""
    assert last_indicator(folded([Minute(n=10), Minute(n=10, lost=5_000), Minute(n=10)])).window_sli.n_missing == 5_000


def test_of_sampled_events_a_lost_one_weighs_what_those_that_came_do():
    found = last_indicator(folded([Minute(n=100, lost=3, weight=10)] * 10)).window_sli
    assert (found.n, found.total, found.n_missing) == (1_000, 10_000, 300)


def test_the_most_that_anybody_says_is_missing_holds():
    counted = objective("counted", "0.5", kinds=(Kind.SERVER,), certified=False)
    minutes = [Minute(n=10, lost=2)] * 60
    for rest, missing in (({}, 120), ({"floor_per_hour": 650}, 120), ({"floor_per_hour": 800}, 800 * 62 // 60 - 600)):
        slo = watching(expected_from="counted", **rest)
        assert last_indicator(folded(minutes, slo, counted, losses())).window_sli.n_missing == missing


def test_two_collectors_lose_both():
    slo, objectives = watching(lost_by=(LOSSES, ALSO)), (losses(), losses(GATEWAY, ALSO))
    writer = JourneyWriter(journey(slo, *objectives))
    for number in range(30):
        said = [told(number - 2, 1), told(number - 2, 2, service=GATEWAY, objective=ALSO)] if number > 1 else []
        writer.record(said, read_until=number + 1, events=Minute(n=500).events(number))
    outputs = run(writer.log)[1]
    assert last_indicator(outputs).window_sli.n_missing == 3 * 28
    assert certificate(outputs).reasons == (Reason.MISSING_EVENTS,)


def test_an_adjustment_leaves_losses_out_of_the_budget_and_of_no_certificate():
    minutes = [Minute(n=300, lost=0 if i < 20 else 100) for i in range(40)]
    left_out = Adjustment(name="a", objectives=("availability",), start_minute=T0 + 20, end_minute=T0 + 40)
    bundle = replace(journey(watching(), losses()), adjustments=(left_out,))
    outputs = folded(minutes, bundle=bundle)
    assert last_indicator(outputs).window_sli.n_missing == 0
    assert Reason.MISSING_EVENTS in certificate(outputs).reasons


def test_an_objective_of_another_name_or_service_is_not_asked():
    writer = JourneyWriter(journey(watching(), losses()))
    strangers = [told(0, 9, service=GATEWAY), told(0, 9, objective="other"), told(0, 9, service=SERVICE)]
    writer.record(strangers, read_until=1, events=Minute(n=10).events(0))
    for number in range(1, 5):
        writer.record(read_until=number + 1)
    assert last_indicator(run(writer.log)[1]).window_sli.n_missing == 0


@pytest.mark.parametrize("service", [SERVICE, COLLECTOR])
def test_an_objective_of_the_same_service_tells_as_well(service: str):
    """The exporter within the process, for example: through the topic, as everybody."""
    writer = JourneyWriter(journey(watching(), losses(service)))
    for number in range(12):
        said = [told(number - 2, 3, service=service)] if number > 1 else []
        writer.record(said, read_until=number + 1, events=Minute(n=10).events(number))
    assert last_indicator(run(writer.log)[1]).window_sli.n_missing == 30


def test_losses_that_an_outage_could_hide_among_are_a_ticket():
    for lost, fired in ((0, []), (5, ["ticket-evidence-gap"])):
        alerts = [o for o in folded([Minute(n=10, lost=lost)] * 62) if isinstance(o, AlertEvent)]
        assert [alert.rule.name for alert in alerts] == fired
        assert all("never did, or may have been lost: an outage could hide" in a.explanation for a in alerts)


# Certificates

ENOUGH = 3_700
"""Requests without a failure that show 99.9 %."""


def test_a_certificate_waits_until_what_it_stands_on_could_have_been_told_as_lost():
    found = certificate(folded([Minute(n=ENOUGH)] * 20))
    assert found.state is CertificateState.ISSUED
    # at the minute at which what was heard ends 10 min after the first: it is told of two minutes before
    assert found.minute - T0 == LOST_WITHIN_MINUTES + HEARD_AFTER - 1


def test_few_losses_do_not_outweigh_much_evidence():
    """At 99 % one lost in a thousand leaves enough; at 99.9 % it does not."""
    minutes = [Minute(n=999, lost=1)] * 60
    assert certificate(folded(minutes, watching(target="0.99"), losses())).state is CertificateState.ISSUED
    assert certificate(folded(minutes, watching(target="0.999"), losses())).reasons == (Reason.MISSING_EVENTS,)


def test_nobody_knows_what_was_lost_before_it_is_told_and_once_it_falls_silent():
    never = folded([Minute(n=ENOUGH, lost=None)] * 10)
    assert certificate(never).reasons == (Reason.MISSING_EVENTS,)
    silent = folded([*[Minute(n=1)] * 20, *[Minute(n=ENOUGH, lost=None)] * 50])
    assert certificate(silent).state is CertificateState.PENDING, "what nobody told of is no evidence"


def test_a_hole_in_the_telling_is_no_evidence_until_it_is_told():
    """The burst of one minute, which nobody told of, or told of in part: then it comes, and suffices."""
    burst = [Minute(n=1)] * 15 + [Minute(n=ENOUGH, lost=None)] + [Minute(n=1)] * 30
    writer = written(burst)
    assert certificate(run(writer.log)[1]).reasons == (Reason.MISSING_EVENTS,)
    at = len(burst) + HEARD_AFTER + 2
    writer.record([told(15, gap=True)], read_until=at, events=Minute(n=1).events(at - 2))
    assert certificate(run(writer.log)[1]).reasons == (Reason.MISSING_EVENTS,)
    writer.record([told(15, revision=1)], read_until=at + 1, events=Minute(n=1).events(at - 1))
    assert certificate(run(writer.log)[1]).state is CertificateState.ISSUED


@pytest.mark.parametrize(("after", "issued"), [(1, False), (LOST_WITHIN_MINUTES - 1, False), (11, True)])
def test_what_a_hole_could_have_told_of_is_before_it_as_well(after: int, issued: bool):
    """What was lost is told minutes later: who is silent then may have kept it to himself."""
    burst = [Minute(n=1)] * 5 + [Minute(n=ENOUGH)] + [Minute(n=1)] * 40
    burst[5 + after] = Minute(n=1, lost=None)
    states = {o.state for o in folded(burst) if isinstance(o, CertificateEvent)}
    assert (CertificateState.ISSUED in states) == issued


def test_an_hour_of_silence_within_is_no_evidence_when_it_speaks_again():
    """It is heard of, and counts nothing: it may have been restarted, with all that it held."""
    quiet = [told(minute, total=0) for minute in range(60, 130)]
    writer = JourneyWriter(journey(watching(), losses()))
    for number in range(200):
        minute = Minute(n=ENOUGH if number == 90 else 1)
        said = [quiet[number - 60] if 60 <= number < 130 else told(number)]
        writer.record(said, read_until=number + 1.5, events=minute.events(number))
    assert certificate(run(writer.log)[1]).reasons == (Reason.MISSING_EVENTS,)


@pytest.mark.parametrize("hidden", ["lost", "untold"])
def test_what_was_lost_or_not_told_is_so_for_ever(hidden: str):
    """Also when single minutes are forgotten, and the evidence began in the middle of an hour."""
    quiet = Alerting(rules=())
    writer = JourneyWriter(journey(replace(watching(), alerting=quiet), replace(losses(), alerting=quiet)))
    for number in range(3, 15 * HOUR_MINUTES, 20):
        events = Minute(n=20_000 if number == 23 else 2).events(number)
        lost = 200 if number == 23 and hidden == "lost" else 0
        untold = {23} if hidden == "untold" else set()
        said = [told(minute, lost if minute == 23 else 0) for minute in range(number, number + 20)]
        writer.record([one for one in said if one.minute not in untold], read_until=number + 21, events=events)
    last = certificate(run(writer.log)[1])
    assert (last.state, last.reasons) == (CertificateState.PENDING, (Reason.MISSING_EVENTS,))
    assert last.minute - T0 > 13 * HOUR_MINUTES


def test_evidence_that_is_whole_suffices_after_single_minutes_are_forgotten():
    quiet = Alerting(rules=())
    slo = watching(target="0.9999", alerting=quiet)
    writer = JourneyWriter(journey(slo, replace(losses(), alerting=quiet)))
    for number in range(3, 15 * HOUR_MINUTES, 20):
        said = [told(minute) for minute in range(number - 3, number + 17)]
        writer.record(said, read_until=number + 18, events=Minute(n=1_000).events(number))
    assert certificate(run(writer.log)[1]).state is CertificateState.ISSUED


_SEGMENTS = st.lists(
    st.tuples(st.sampled_from(["lost", "kept", "quiet", "gap", "unheard"]), st.sampled_from([1, 3, 11, 60, 75])),
    min_size=1,
    max_size=5,
)


def _saying(kind: str, minute: int) -> list[Said]:
    if kind == "unheard":
        return []
    if kind == "quiet":
        return [told(minute, total=0)]
    return [told(minute, minute % 4 if kind == "lost" else 0, gap=kind == "gap")]


@given(segments=_SEGMENTS, first=st.integers(0, 40))
@settings(max_examples=12, deadline=None)
def test_what_evidence_lacks_is_what_each_of_its_minutes_lacks(segments: list[tuple[str, int]], first: int):
    """Minute by minute: what the last ten told of, what could still tell of it, and hours without a word."""
    kinds = ["kept"] * first + [kind for kind, length in segments for _ in range(length)]
    quiet = Alerting(rules=())
    slo = watching(alerting=quiet)
    writer = JourneyWriter(journey(slo, replace(losses(), alerting=quiet)))
    said = [one for minute, kind in enumerate(kinds) for one in _saying(kind, minute)]
    writer.record(read_until=1)
    last = len(kinds)
    events = [event for minute in range(last) for event in Minute(n=1 + minute % 5).events(minute)]
    writer.record(said, read_until=last + 1.5, events=events)
    while ((engine := run(writer.log)[0]).state.next_minute or 0) < T0 + last:
        writer.record(read_until=last + 1.5)
    found = shortfall(engine.state, engine.state.services[SERVICE], slo, "v1", (T0 + first, T0 + last))

    counted = {m for m, kind in enumerate(kinds) if kind in ("lost", "kept", "gap")}
    recent = [m for m in counted if m >= max(first, last - TOLD_WITHIN_MINUTES)]
    if not recent:
        assert found is None
        return
    until = max(recent) + 1
    holes = {m for m in range(first, until) if kinds[m] in ("gap", "unheard")}
    whole_hours = range(-(-first // HOUR_MINUTES), until // HOUR_MINUTES)
    silent = {h for h in whole_hours if not counted & set(range(h * HOUR_MINUTES, (h + 1) * HOUR_MINUTES))}
    untold = [
        m
        for m in range(first, last)
        if m >= until - LOST_WITHIN_MINUTES
        or holes & set(range(m, m + LOST_WITHIN_MINUTES))
        or m // HOUR_MINUTES in silent
    ]
    lost = sum(m % 4 for m in range(first, last) if kinds[m] == "lost")
    assert found == Shortfall(n_missing=lost, n_untold=sum(1 + m % 5 for m in untold))


# Order, repetition, restore

_SAID = st.builds(
    told,
    st.integers(0, 11),
    st.integers(0, 40),
    total=st.integers(0, 50),
    revision=st.integers(0, 2),
    gap=st.booleans(),
)


def _latest(said: Sequence[Said]) -> dict[int, Said]:
    """Returns of each minute what counts: of those with the highest revision the one that was read first."""
    latest: dict[int, Said] = {}
    for one in said:
        if one.minute not in latest or latest[one.minute].revision < one.revision:
            latest[one.minute] = one
    return latest


@given(said=st.lists(_SAID, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=3))
@settings(max_examples=15, deadline=None)
def test_of_each_minute_the_latest_revision_counts_whatever_the_order(said: list[Said], cuts: list[int]):
    writer = JourneyWriter(journey(watching(window_minutes=60), losses()))
    bounds = sorted({0, len(said), *(min(cut, len(said)) for cut in cuts)})
    writer.record(read_until=12, events=Minute(n=5).events(0))
    for first, last in pairwise(bounds):
        writer.record(said[first:last])
        writer.record(said[first:last], said_offset=writer.said_offset - (last - first))  # read again
    writer.record(read_until=20, events=Minute(n=5).events(15))
    found = last_indicator(run(writer.log)[1]).window_sli.n_missing
    assert found == sum(one.bad for one in _latest(said).values())


def test_of_minutes_that_are_forgotten_one_by_one_nothing_is_heard_any_more():
    """After an outage of hours, composites still wait for them. Told again, one would stand for two of its hour."""
    quiet = Alerting(rules=())
    slo = watching(alerting=quiet)
    writer = JourneyWriter(journey(slo, losses(), composite(component(COLLECTOR, name=LOSSES))))
    writer.record(read_until=1.5, events=Minute(n=5).events(0))
    for _ in range(4):
        writer.record(read_until=16 * HOUR_MINUTES)
    for revision in range(3):
        writer.record([told(65, 4, revision=revision)], read_until=16 * HOUR_MINUTES + 0.1)
    engine = run(writer.log)[0]
    assert (engine.composites.next_minute or 0) < T0 + 65 < (engine.state.next_minute or 0) - 12 * HOUR_MINUTES
    found = shortfall(engine.state, engine.state.services[SERVICE], slo, "v1", (T0, engine.state.next_minute or 0))
    assert found is None or found.n_missing == 0
    assert all(not row.startswith("#lost/") for _, _, row in engine.state.cells[SERIES].index)


def test_a_crash_at_any_record_changes_nothing():
    minutes = [Minute(n=60 + i % 7, lost=(i % 3) or None) for i in range(40)]
    writer = written(minutes, watching(target="0.9"), losses(), composite(component(COLLECTOR, name=LOSSES)))
    writer.record([told(3, 30, revision=1), told(3, 10)], read_until=50)
    log = writer.log
    offsets = range(len(log))
    outputs, topic, engine = fold(log)
    crashed, topic_after, restored = fold(log, restores=frozenset(offsets))
    assert crashed == outputs
    assert topic_after == topic
    assert restored.snapshot() == engine.snapshot()
    assert restored.state.losses_asked == engine.state.losses_asked != {}


def test_a_composite_of_the_same_objective_hears_of_it_and_is_not_delayed():
    both = (watching(), losses(), composite(component(COLLECTOR, name=LOSSES)))
    outputs = folded([Minute(n=10, lost=100)] * 10, *both)
    assert [event.minute_sli.good for event in of_journey(outputs)[:8]] == pytest.approx([0.9] * 8)
    without = folded([Minute(n=10, lost=100)] * 10, replace(watching(), lost_by=()), *both[1:])
    assert [e.minute for e in of_journey(without)] == [e.minute for e in of_journey(outputs)]


def test_nobody_else_is_disturbed():
    """Another objective of the service says the same, byte for byte, whoever asks for losses."""
    plain = objective("plain", window_minutes=60)
    logs = [folded([Minute(n=10, lost=3)] * 20, slo, plain, losses()) for slo in (watching(lost_by=()), watching())]
    said = [[render(o).value for o in outputs if getattr(o, "objective", None) == plain] for outputs in logs]
    assert said[0] == said[1]
    assert len(said[0]) > 19


def test_an_objective_that_no_longer_asks_forgets():
    writer = written([Minute(n=10, lost=3)] * 10)
    plain = watching(lost_by=())
    writer.configure(journey(plain, losses()))
    writer.record([told(10, 5)], read_until=20, events=Minute(n=10).events(15))
    engine, outputs = run(writer.log)
    assert last_indicator(outputs).window_sli.n_missing == 0
    assert {version for _, _, version in engine.state.cells[SERIES].index} == {""}
    assert engine.state.losses_asked == {}
    assert Engine.restore(0, fold(writer.log)[1]).state.losses_asked == {}


def test_weights_of_a_finer_unit_hide_nothing():
    """An objective of the same name once told ratios; whoever writes such numbers overflows no counter."""
    writer = JourneyWriter(journey(watching(), losses()))
    huge = 1 << 44
    said = [told(minute, huge, total=huge) for minute in range(20)]
    writer.record(said, read_until=25, events=[e for m in range(20) for e in Minute(n=10).events(m)])
    writer.record(read_until=30)
    assert last_indicator(run(writer.log)[1]).window_sli.n_missing > 1 << 30
