"""Budget adjustments: minutes that are left out of a budget, before or after they pass, and put back when removed."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.certificate.lifecycle import CertificateState
from stream.core.events import AlertEvent, CertificateEvent
from stream.core.slo.declared import Adjustment
from stream.core.slo.spec import Slices
from tests.core.engine.log_writer import objective
from tests.core.engine.slo_oracle import ALERTING, T0, Burst, Declared, Story, check_story, fold, published, stories
from tests.core.engine.test_slices import sliced

BAD = range(10, 20)
"""Minutes in which everything fails."""


def outage(minutes: int, *declared: Declared, bad: range = BAD) -> Story:
    """Returns a story with an outage."""
    bursts = tuple(Burst(i, i, 0 if i in bad else 4, 4 if i in bad else 0) for i in range(minutes))
    return Story(minutes, bursts, declared=declared)


def last(story: Story, slo=None):
    """Returns the indicator of the last minute that closed."""
    return published(fold(story.log(slo or objective(window_minutes=60), None))[0])[-1]


@settings(max_examples=15)
@given(stories(adjusted=True), st.integers(5, 100), st.integers(0, 110))
def test_windows_budgets_and_burn_rates_without_what_is_left_out(story, window_minutes, restored_after):
    check_story(story, objective(target="0.9", window_minutes=window_minutes, alerting=ALERTING), None, restored_after)


@pytest.mark.parametrize("applied", [1, 30], ids=["planned", "after the fact"])
def test_an_outage_that_is_left_out_costs_nothing_and_comes_back_when_the_adjustment_is_removed(applied):
    kept = last(outage(40, Declared(10, 20, applied, 99)))
    assert (kept.window_sli.n, kept.budget.consumed_ratio) == (29 * 4, 0)
    assert last(outage(40, Declared(10, 20, applied, 35))).budget == last(outage(40)).budget


def test_minutes_that_several_adjustments_leave_out_are_left_out_once():
    overlapping = (Declared(8, 15, 1, 99), Declared(12, 20, 25, 99), Declared(13, 14, 26, 99))
    assert last(outage(40, *overlapping)).budget == last(outage(40, Declared(8, 20, 1, 99))).budget


def test_a_window_of_which_everything_is_left_out_has_no_number():
    event = last(outage(40, Declared(-10, 60, 1, 99)))
    assert (event.window_sli.ratio, event.coverage) == (None, 0)
    assert (event.budget.consumed_ratio, event.budget.remaining_min_ratio) == (None, None)
    assert {rate for _, rate in event.burn_rates} == {None}


def test_the_least_that_can_be_left_does_not_count_excluded_minutes_as_observed():
    """Of 60 minutes 39 are over and 30 left out: of the 30 that count, 9 were seen."""
    event = last(outage(40, Declared(0, 30, 1, 99)), objective(window_minutes=60, target="0.5"))
    assert event.coverage == 9 / 30
    assert event.budget.remaining_min_ratio == pytest.approx(1 - (21 / 30) / 0.5)


def test_an_excluded_gap_is_no_gap():
    story = replace(outage(40, Declared(14, 18, 1, 99)), losses=frozenset({15}))
    assert last(story, objective(window_minutes=30)).coverage == 1


def test_beyond_the_minutes_that_are_kept_whole_ten_minutes_are_left_out():
    """After twelve hours a window knows only every ten minutes: what is left out is rounded inwards."""
    story = outage(800, Declared(7, 53, 60, 900), bad=range(5, 55))
    events = {e.minute - T0: e for e in published(fold(story.log(objective(window_minutes=1440), None))[0])}
    assert events[700].window_sli.n - events[700].window_sli.good == 4 * 4
    assert events[798].window_sli.n - events[798].window_sli.good == 10 * 4


def test_a_slice_of_which_a_minute_is_left_out_is_left_out():
    slo = sliced(Slices(minutes=5, target="0.9"), window_minutes=60)
    assert last(outage(40), slo).window_sli.n == 7
    assert last(outage(40, Declared(14, 16, 1, 99)), slo).window_sli.n == 5


def test_an_adjustment_of_another_objective_changes_nothing():
    story = outage(40)
    slo = objective(window_minutes=60)
    other = replace(story, declared=(_Elsewhere(10, 20, 1, 99),))
    assert last(other, slo).budget == last(story, slo).budget


class _Elsewhere(Declared):
    def adjustment(self, objective, number) -> Adjustment:
        return replace(super().adjustment(objective, number), objectives=("other",))


def test_nobody_is_called_for_failures_that_are_left_out():
    def pages(story: Story) -> list[AlertEvent]:
        return [o for o in fold(story.log(objective(target="0.999"), None))[0] if isinstance(o, AlertEvent)]

    assert pages(outage(40))
    assert not pages(outage(40, Declared(10, 20, 1, 99)))


def test_a_certificate_stands_on_what_was_left_out_as_well():
    """Nobody can explain failures away after having seen them."""

    def states(*declared: Declared) -> list[tuple[CertificateState, int]]:
        outputs, _ = fold(outage(40, *declared).log(objective(target="0.5", window_minutes=60), None))
        return [(o.state, o.assessments[0].n_bad) for o in outputs if isinstance(o, CertificateEvent)]

    assert states() == states(Declared(10, 20, 1, 99))
