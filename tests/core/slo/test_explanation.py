"""What an alert says: true sentences, and no number where there is none."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from stream.core.cells import COLUMNS
from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import DEFAULT_RULES, RULES, SUPPLEMENTS, RuleKind
from stream.core.slo.composite import Component, Composite
from stream.core.slo.explanation import AlertReading, Suspect, beyond_chance, explain, share_text
from stream.core.slo.sli import Budget, budget, sli
from stream.core.slo.spec import Objective
from stream.core.statistics.forecast import Forecast
from stream.core.units import WEIGHT_ONE
from tests.core.slo.test_sli import weighed

MONTH = 43_200
SLO = Objective(service="a/b/c", name="x", target="0.999", window_minutes=MONTH)
PAGE = RULES[0]
NOTHING = Budget(consumed_ratio=None, remaining_min_ratio=None, remaining_max_ratio=None)


def reading(n: int = 1000, bad: int = 200, left: Budget | None = None, **rest) -> AlertReading:
    """Returns figures of windows with n events."""
    rate = None if n == 0 else bad / n * 1000
    values = {
        "long_burn_rate": rate,
        "short_burn_rate": rate,
        "long_sli": sli(weighed(n, bad)),
        "short_sli": sli(weighed(n, bad)),
        "long_coverage": 1.0,
        "budget": left or budget(weighed(100_000, 20), Fraction("0.001"), Fraction(1)),
        "coverage": 1.0,
        "window_minutes": MONTH,
    }
    return AlertReading(**{**values, **rest})


def said(state=AlertState.FIRING, rule=PAGE, factor: Fraction | None = Fraction("14.4"), suspect=None, **rest) -> str:
    return explain(SLO, rule, state, reading(**rest), factor, suspect)


def test_a_page_names_rates_threshold_chance_budget_and_when_it_is_gone():
    assert said() == (
        "Over the last 1h and 5m the error budget burned 200.00 and 200.00 times as fast as the objective allows; "
        "above 14.4 it loses at least 2% of the error budget within 1h. "
        "The 95 % interval of the error ratio, 17.638% to 22.592%, lies above the 0.100% that the objective allows: "
        "not chance. 80.0% of the budget is left. At this rate it is gone in 2.9 h."
    )


def test_what_is_lacking_of_a_composite_are_its_components():
    (gap,) = (rule for rule in DEFAULT_RULES if rule.kind is RuleKind.EVIDENCE_GAP)
    (no_data,) = (rule for rule in DEFAULT_RULES if rule.kind is RuleKind.NO_DATA)
    whole = replace(SLO, composite=Composite(components=(Component(service="a/b/d", objective="y"),)))
    for rule, objective, wanted in (
        (gap, SLO, "was read whole"),
        (gap, whole, "was heard of whole from every component"),
        (no_data, SLO, "every source was read"),
        (no_data, whole, "every component was heard of"),
    ):
        assert wanted in explain(objective, rule, AlertState.FIRING, reading(), None, None)


def test_few_events_may_be_chance():
    assert "includes the 0.100% that the objective allows: 1000 events are too few to rule chance out." in said(bad=2)


@pytest.mark.parametrize(
    ("rate", "gone"), [(1000.0, "in 35 min"), (200.0, "in 2.9 h"), (2.0, "in 12.0 d"), (0.0, ""), (None, "")]
)
def test_when_the_rest_is_gone_at_the_rate_of_the_long_window(rate, gone):
    """80 % of 30 days: 34,560 minutes at rate 1."""
    text = said(long_burn_rate=rate)
    assert (f"At this rate it is gone {gone}." in text) if gone else ("At this rate" not in text)


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [
        ((6.0, 80.0), "By the forecast it is gone in 6.0 h to 3.3 d (80 % interval); within 24 h with 40%."),
        ((0.5, None), "By the forecast it is gone in 30 min or later, or not at all (80 % interval); within 24 h"),
        ((None, None), "By the forecast it lasts."),
    ],
)
def test_the_forecast_is_told_with_its_interval_while_it_fires(interval, sentence):
    coming = Forecast(
        exhausted=False, p_exhaust_24h=0.4, median_hours=None, interval_80_hours=interval, p_never=0.5, calendar=None
    )
    assert sentence in said(forecast=coming)
    assert "forecast" not in said(AlertState.INACTIVE, forecast=coming)


@pytest.mark.parametrize(("bad", "expected"), [(200, True), (2, False)])
def test_beyond_chance_is_what_the_sentence_says(bad, expected):
    assert beyond_chance(SLO, PAGE, reading(bad=bad)) is expected
    assert ("not chance" in said(bad=bad)) is expected


def test_without_data_or_failures_nothing_is_said_about_chance():
    no_data = next(rule for rule in DEFAULT_RULES if rule.kind is RuleKind.NO_DATA)
    assert beyond_chance(SLO, no_data, reading()) is None
    assert beyond_chance(SLO, PAGE, reading(long_sli=sli([0] * COLUMNS))) is None


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "100.0%"),
        (0.9997, "99.97%"),
        (1 - 1e-9, "99.9999999%"),
        (1 - 2**-53, "99.99999999999999%"),
        (0.5, "50.0%"),
        (-0.25, "-25.0%"),
    ],
)
def test_only_what_is_whole_is_written_as_100_percent(ratio, text):
    assert share_text(ratio) == text


def test_a_threshold_that_was_raised_to_1_says_what_it_really_costs():
    """An hour of a day at the rate that the budget allows for ever is a 24th of it, not the 2 % of the rule."""
    assert "above 1 it loses at least 4% of the error budget within 1h." in said(
        factor=Fraction(1), window_minutes=1440
    )


@pytest.mark.parametrize(
    ("renewed_in", "sentence"),
    [(100, "At this rate it lasts until its period ends."), (200, "At this rate it is gone in 2.9 h.")],
)
def test_a_budget_that_is_renewed_before_it_is_gone_lasts(renewed_in, sentence):
    assert said(renewed_in_minutes=renewed_in).endswith(sentence)


def test_exhaustion_names_the_end_of_the_period_where_that_comes_first():
    rule = next(rule for rule in SUPPLEMENTS if rule.kind is RuleKind.EXHAUSTION)
    assert "is gone before its period ends." in said(rule=rule, factor=Fraction(24), renewed_in_minutes=600)
    assert "is gone within 24 h." in said(rule=rule, factor=Fraction(24), renewed_in_minutes=6000)


def test_a_budget_that_is_gone_is_said_to_be():
    left = budget(weighed(1000, 20), Fraction("0.001"), Fraction(1))
    assert said(left=left).endswith("-1900.0% of the budget is left. The budget is used up.")


def test_a_window_that_is_not_covered_gives_a_bound():
    left = budget(weighed(1000, 0), Fraction("0.001"), Fraction(1, 2))
    text = said(left=left, long_coverage=0.5, coverage=0.5)
    assert "At most 100.0% of the budget is left: its window is not covered yet." in text
    assert "Of the last 1h, 30 min were observed." in text


def test_events_that_are_missing_give_a_bound_as_well():
    left = budget(weighed(1000, 0), Fraction("0.001"), Fraction(1), missing=WEIGHT_ONE)
    assert "At most 100.0% of the budget is left: events never came, or may have been lost." in said(left=left)


def test_the_end_says_what_it_fell_below():
    text = said(AlertState.INACTIVE, bad=1)
    assert "burned 1.00 and 1.00 times as fast as the objective allows; no longer both above 14.4." in text
    assert "At this rate" not in text


def test_a_pending_alert_says_what_it_waits_for():
    rule = next(rule for rule in SUPPLEMENTS if rule.for_minutes)
    assert "if both stay above 5 for 15m, it fires." in said(AlertState.PENDING, rule, Fraction(5))


def test_exhaustion_says_how_soon_and_also_that_nothing_is_left():
    rule = next(rule for rule in SUPPLEMENTS if rule.kind is RuleKind.EXHAUSTION)
    assert "above 24 what is left of it is gone within 24 h." in said(rule=rule, factor=Fraction(24))
    assert "and none of it is left." in said(AlertState.INACTIVE, rule, None)


@pytest.mark.parametrize(
    ("suspect", "sentence"),
    [
        (
            Suspect(version="v2", bad_share=0.9, first_seen_minute=7),
            "90% of the failures are of version v2, which",
        ),
        (Suspect(version="v1", bad_share=0.6, first_seen_minute=None), "60% of the failures are of version v1. "),
        (Suspect(version="", bad_share=1.0, first_seen_minute=None), "of version (none given). "),
    ],
)
def test_the_version_that_most_failures_are_of_is_named_while_it_burns(suspect, sentence):
    assert sentence in said(suspect=suspect)
    assert "failures" not in said(AlertState.INACTIVE, suspect=suspect)


def test_events_of_which_a_histogram_does_not_tell_are_said_to_be_unsure():
    unsure = replace(sli(weighed(1000, 200)), n_unsure=150, ratio_upper=0.95)
    assert "150 of the 1000 events lie in a bucket that holds the threshold" in said(long_sli=unsure)
    assert "if all of them were good, the first rate is 50.00." in said(long_sli=unsure)


@pytest.mark.parametrize("state", list(AlertState))
@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.name)
def test_without_data_no_sentence_has_a_number_that_is_none(rule, state):
    empty = sli([0] * COLUMNS)
    figures: dict[str, Any] = {
        "long_burn_rate": None,
        "short_burn_rate": None,
        "long_sli": empty,
        "short_sli": empty,
        "left": NOTHING,
    }
    text = said(state, rule, **figures)
    assert "None" not in text
    assert "nan" not in text
    assert text.endswith(".")
