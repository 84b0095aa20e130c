"""Time slices: judged when they close, then frozen, and a unit of the error budget like any event."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.certificate.lifecycle import CertificateState, Reason
from stream.core.columns import RowFlag
from stream.core.events import AlertEvent, CertificateEvent
from stream.core.slo.spec import BudgetingMethod, EmptySlice, Slices
from stream.core.units import MINUTE_NS
from tests.core.engine.log_writer import T0_NS, Event, LogWriter, bundle, objective, run
from tests.core.engine.slo_oracle import ALERTING, T0, Burst, Story, check_story, fold, published, stories

slice_rules = st.builds(
    Slices,
    minutes=st.sampled_from((1, 5, 15, 60)),
    target=st.sampled_from(("", "0.5", "0.9")),
    empty=st.sampled_from(EmptySlice),
    events_min=st.integers(1, 9),
)


def sliced(slices: Slices, target: str = "0.9", **rest):
    """Returns an objective whose budget is made of slices."""
    method = BudgetingMethod.TIMESLICES if slices.target else BudgetingMethod.RATIO_TIMESLICES
    rest = {"window_minutes": 100, "alerting": ALERTING, **rest}
    return objective(target=target, **rest, method=method, slices=slices)


@settings(max_examples=25)
@given(stories(adjusted=True), slice_rules, st.integers(0, 110))
def test_windows_budgets_and_burn_rates_of_slices(story, slices, restored_after):
    check_story(story, sliced(slices), None, restored_after)


def sli_at(story: Story, slices: Slices, minute: int, **rest):
    """Returns what was published last of a minute."""
    outputs, _ = fold(story.log(sliced(slices, **rest), None))
    return [event for event in published(outputs) if event.minute == T0 + minute][-1]


def test_one_bad_slice_of_sixty_burns_16_7_times_and_not_1000_times():
    """99.9 %, one bad minute of the last hour: 1/60 ÷ 0.001. Source: Kibana's vector of its time slices."""
    story = Story(62, tuple(Burst(i, i, 0 if i == 30 else 10, 10 if i == 30 else 0) for i in range(62)))
    event = sli_at(story, Slices(minutes=1, target="0.95"), 59, target="0.999")
    assert dict(event.burn_rates)[60] == pytest.approx(1000 / 60)
    assert (event.window_sli.n, event.window_sli.good) == (60, 59)


def test_a_late_row_changes_the_minute_and_not_the_slice_that_was_booked():
    story = Story(20, (*(Burst(i, i, 2, 0) for i in range(20)), Burst(15, 3, 0, 50)))
    outputs, _ = fold(story.log(sliced(Slices(minutes=5, target="0.9")), None))
    corrected = [event for event in published(outputs) if event.revision == 1]
    assert [(e.minute - T0, e.minute_sli.n, e.window_sli.n) for e in corrected] == [(3, 52, 0)]
    assert published(outputs)[-1].window_sli.ratio == 1


def test_a_slice_that_began_before_the_history_or_holds_a_gap_is_no_slice():
    story = Story(61, tuple(Burst(i, i, 1, 0) for i in range(61)), losses=frozenset({31}))
    assert sli_at(story, Slices(minutes=15, target="0.9"), 59, window_minutes=60).window_sli.n == 3
    assert sli_at(story, Slices(minutes=60, target="0.9"), 59, window_minutes=60).window_sli.n == 0


@pytest.mark.parametrize(("empty", "n", "good"), [("good", 4, 4), ("bad", 4, 1), ("ignore", 1, 1)])
def test_a_slice_with_too_few_events_counts_as_declared(empty, n, good):
    story = Story(21, tuple(Burst(i, i, 2 if i < 5 else 1, 0) for i in range(21)))
    slices = Slices(minutes=5, target="0.9", empty=EmptySlice(empty), events_min=6)
    window = sli_at(story, slices, 19).window_sli
    assert (window.n, window.good) == (n, good)


def test_a_ratio_slice_is_as_bad_as_its_events_however_busy_it_was():
    story = Story(4, (Burst(0, 0, 3, 1), Burst(1, 1, 500, 500)))
    window = sli_at(story, Slices(minutes=1), 1).window_sli
    assert (window.n, window.total, window.good) == (2, 2, 2 - Fraction(1, 4) - Fraction(1, 2))


# Alerts of slices


def kinds(outputs, rule: str) -> list[str]:
    return [str(o.state) for o in outputs if isinstance(o, AlertEvent) and o.rule.name == rule]


@pytest.mark.parametrize(
    ("empty", "events_min", "told"),
    [("ignore", 1, ["firing"]), ("good", 1, []), ("ignore", 100, [])],
    ids=["silence", "silence is good", "too few events to judge"],
)
def test_no_data_is_told_where_neither_events_nor_slices_were_counted(empty, events_min, told):
    events = range(61) if events_min > 1 else range(30)
    story = Story(130, tuple(Burst(i, i, 1, 0) for i in (range(130) if events_min > 1 else events)))
    slices = Slices(minutes=1, target="0.9", empty=EmptySlice(empty), events_min=events_min)
    slo = objective(window_minutes=1440, method=BudgetingMethod.TIMESLICES, slices=slices)
    assert kinds(fold(story.log(slo, None))[0], "ticket-no-data") == told


# Certificates of slices


def certificates(slices: Slices, events_of, minutes: int = 420, lost=(), **rest) -> list[CertificateEvent]:
    writer = LogWriter(bundle(sliced(slices, target="0.9", **rest)))
    for minute in range(minutes):
        events = events_of(minute)
        until_ns = T0_NS + (minute + 1) * MINUTE_NS
        writer.record(events, until_ns=until_ns, lost=3 if minute in lost else 0)
    return [output for output in run(writer.log)[1] if isinstance(output, CertificateEvent)]


def one(minute: int, version: str = "v1", **rest) -> Event:
    return Event(T0_NS + minute * MINUTE_NS + 1, version=version, **rest)


def test_a_version_is_certified_by_its_slices():
    events = certificates(Slices(minutes=1, target="0.5"), lambda m: [one(m), one(m), one(m, bad=True)], 60)
    issued = [e for e in events if e.state is CertificateState.ISSUED]
    assert [e.version for e in issued] == ["v1"]
    assert issued[0].assessments[0].n_bad == 0
    assert issued[0].assessments[0].n < 60


def test_an_idle_version_earns_nothing_from_empty_slices_that_count_as_good():
    """No data is not good data: what the budget makes of silence is no evidence on a version."""

    def events_of(minute: int) -> list[Event]:
        return [one(minute, "v1")] if minute < 10 else [one(minute, "v2", bad=True)]

    events = certificates(Slices(minutes=1, target="0.5", empty=EmptySlice.GOOD), events_of, 200)
    assert not [e for e in events if e.state is CertificateState.ISSUED]
    assert {e.assessments[0].n for e in events if e.version == "v1"} <= set(range(11))


def test_a_certificate_is_not_revoked_by_the_silence_after_its_version_was_replaced():
    def events_of(minute: int) -> list[Event]:
        return [one(minute, "v1" if minute < 100 else "v2")]

    events = certificates(Slices(minutes=1, target="0.5", empty=EmptySlice.BAD), events_of, 200)
    assert [str(e.state) for e in events if e.version == "v1"][-1] == "issued"


def test_a_slice_with_a_gap_is_no_evidence():
    events = certificates(Slices(minutes=15, target="0.5"), lambda m: [one(m)], 130, lost=(60,))
    n = {e.minute - T0: e.assessments[0].n for e in events}
    assert n[119] == 3  # the first of this hour holds the gap


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({"flags": RowFlag.SAMPLING_UNKNOWN}, Reason.SAMPLING_UNKNOWN),
        ({"weight": 10 << 16}, Reason.SAMPLED),
    ],
)
def test_slices_of_sampled_traffic_are_certified_no_more_than_its_events(rest, reason):
    events = certificates(Slices(minutes=1, target="0.5"), lambda m: [one(m, **rest)], 90)
    assert not [e for e in events if e.state is CertificateState.ISSUED]
    assert reason in events[-1].reasons


def test_ratio_slices_are_watched_and_never_certified():
    events = certificates(Slices(minutes=1), lambda m: [one(m)], 90)
    assert {e.state for e in events} == {CertificateState.PENDING}
    assert all(Reason.NOT_CERTIFIABLE in e.reasons for e in events)
