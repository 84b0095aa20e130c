"""Windows, budgets and burn rates of rolling and calendar windows: every published figure against an exact oracle."""

import json
from itertools import accumulate

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from stream.core.events import BudgetEvent
from stream.core.rendering import render
from stream.core.slo.calendar import Calendar
from tests.core.engine.log_writer import objective
from tests.core.engine.slo_oracle import ALERTING, T0, Burst, Declared, Story, check_story, fold, published, stories


@settings(max_examples=12)
@given(stories(), st.integers(5, 100), st.sampled_from(("0.9", "0.999")), st.integers(0, 110))
def test_rolling_windows(story, window_minutes, target, restored_after):
    slo = objective(target=target, window_minutes=window_minutes, alerting=ALERTING)
    check_story(story, slo, None, restored_after)


def calendar(first: int, lengths) -> Calendar:
    """Returns consecutive periods; the first begins with minute `first`, counted from `T0`."""
    return Calendar(name="test", boundaries=tuple(accumulate(lengths, initial=T0 + first)))


def on_calendar(window_minutes: int, target: str = "0.99"):
    return objective(target=target, window_minutes=window_minutes, calendar="test", alerting=ALERTING)


calendars = st.builds(calendar, st.integers(-70, 5), st.lists(st.integers(7, 90), min_size=1, max_size=6))


@settings(max_examples=12)
@given(stories(adjusted=True), calendars, st.integers(0, 110))
def test_calendar_windows(story, periods, restored_after):
    """Also before the first boundary and beyond the last one, where there is no window."""
    check_story(story, on_calendar(60), periods, restored_after)


@settings(max_examples=4, phases=[Phase.generate])
@given(
    stories(minutes=(500, 640), late_most=300),
    st.integers(-400, 130),
    st.lists(st.integers(240, 700), min_size=3, max_size=3),
    st.integers(480, 640),
)
def test_periods_that_are_longer_than_what_may_still_change(story, first, lengths, restored_after):
    """What can no longer change is taken in once; corrections look back over the boundary of that."""
    check_story(story, on_calendar(480), calendar(first, lengths), restored_after, every=9)


DAYS = (1440, 1380, 1500)
"""A day, that on which clocks go forward, and that on which they go back."""


def test_days_of_an_offset_of_five_hours_and_three_quarters():
    """Midnight at +05:45 is 18:15 UTC, a quarter past the hour, and no day is like the next."""
    first = 18 * 60 + 15 - 1440  # T0 is midnight UTC, or an hour of it
    story = Story(
        minutes=first + sum(DAYS) + 20,
        bursts=tuple(Burst(i, i, 3, i % 7 == 0) for i in range(0, first + sum(DAYS) + 20, 11))
        + tuple(Burst(i + 200, i, 1, 2) for i in range(1000, 4000, 450)),
    )
    check_story(story, on_calendar(1440), calendar(first, DAYS), 1500, every=97)


def test_a_calendar_that_begins_later_counts_from_its_first_minute():
    """Also of minutes that can no longer change, of which some came before the calendar."""
    story = Story(minutes=540, bursts=tuple(Burst(i, i, 2, 1) for i in range(540)))
    check_story(story, on_calendar(480), calendar(33, (1000,)), 510, every=10)


def test_a_period_ends_with_its_last_minute_and_the_next_begins_with_nothing_used():
    boundary = 30
    story = Story(minutes=35, bursts=tuple(Burst(i, i, 1, i < boundary) for i in range(35)))
    events = {e.minute - T0: e for e in published(fold(story.log(on_calendar(60), calendar(0, (30, 60))))[0])}
    last, next_ = events[boundary - 1], events[boundary]
    least, most = next_.budget.remaining_min_ratio, next_.budget.remaining_max_ratio
    assert (last.window_sli.total, last.budget.remaining_max_ratio, last.coverage) == (60, 1 - 50, 1)
    assert (next_.window_sli.total, next_.budget.consumed_ratio, next_.coverage) == (1, 0, 1 / 60)
    assert least is not None
    assert least < 0
    assert most == 1


def test_a_budget_of_a_period_is_told_at_its_last_full_hour_without_a_forecast():
    """There is nothing left to forecast, in a period that ends with the hour or a quarter after it."""
    for first in (0, -15):
        story = Story(minutes=125, bursts=tuple(Burst(i, i, 9, 1) for i in range(125)))
        outputs, _ = fold(story.log(on_calendar(60), calendar(first, (120 - first, 60))))
        told = [o for o in outputs if isinstance(o, BudgetEvent) and o.entry is None]
        assert [o.minute - T0 for o in told] == [59, 119]
        assert told[0].forecast is not None
        assert told[1].forecast is None


def test_a_forecast_knows_what_a_period_used_up_that_began_within_an_hour():
    """A day that begins at a quarter past, as at +05:45: its first 45 minutes have all that was bad, 450 of 1440."""
    story = Story(minutes=125, bursts=tuple(Burst(i, i, 90, 10) if i < 60 else Burst(i, i, 100, 0) for i in range(125)))
    outputs, _ = fold(story.log(on_calendar(60), calendar(15, (1440,))))
    last = [o for o in outputs if isinstance(o, BudgetEvent) and o.entry is None][-1]
    assert last.minute - T0 == 119
    assert last.forecast is not None
    assert last.forecast.calendar is not None
    assert 1 - last.forecast.calendar.forecast_total_ratio == pytest.approx(450 / 1440, abs=0.01)


def test_what_a_period_used_up_is_told_to_date_and_of_its_expected_total():
    """Two hours of six, one bad in a hundred: at 99 % all that the traffic so far allows, a third of the whole."""
    story = Story(minutes=125, bursts=tuple(Burst(i, i, 99, 1) for i in range(125)))
    outputs, _ = fold(story.log(on_calendar(60), calendar(0, (360,))))
    told = [json.loads(render(o).value)["data"] for o in outputs if isinstance(o, BudgetEvent) and o.entry is None]
    at_end = told[1]["forecast"]["at_period_end"]
    assert at_end["consumed_to_date_ratio"] == told[1]["budget"]["consumed_ratio"] == 1
    assert at_end["consumed_of_total_ratio"] == pytest.approx(1 / 3, abs=0.02)
    assert at_end["remaining_ratio_10_50_90"][1] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("outage", [0, 90], ids=["none", "left out"])
def test_a_forecast_keeps_what_was_used_up_before_an_outage_of_this_hour_that_is_left_out(outage):
    """Fourteen hours of 24: half an hour of failures in the second one; in the last one an outage, and an incident."""
    bad = {**dict.fromkeys(range(60, 90), 50), **dict.fromkeys(range(790, 810), outage), 815: 30}
    bursts = tuple(Burst(i, i, 100 - bad.get(i, 0), bad.get(i, 0)) for i in range(820))
    story = Story(minutes=820, bursts=bursts, declared=(Declared(790, 810, 1, 999),))
    outputs, _ = fold(story.log(on_calendar(60), calendar(0, (1440,))))
    incident = next(o for o in outputs if isinstance(o, BudgetEvent) and o.minute == T0 + 815)
    assert incident.forecast is not None
    assert incident.forecast.calendar is not None
    assert 1 - incident.forecast.calendar.forecast_total_ratio == pytest.approx(1500 / 1440, abs=0.02)
