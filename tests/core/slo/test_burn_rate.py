"""Burn rates: the published factors, and exact comparisons."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.cells import COLUMNS, Column
from stream.core.slo.burn_rate import (
    DEFAULT_RULES,
    RULES,
    SUPPLEMENTS,
    RuleKind,
    burn_rate,
    burns,
    duration,
    rules_for,
    window_lengths,
)
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, WEIGHT_ONE
from tests.core.oracles import burn

MONTH = 30 * DAY_MINUTES


def factors(window_minutes: int) -> list[float]:
    """Returns the factors of the workbook's rules, which have one whatever is left of the budget."""
    found = [rule.factor(window_minutes) for rule in RULES]
    return [float(factor) for factor in found if factor is not None]


def cell(n: int, bad: int) -> list[int]:
    values = [0] * COLUMNS
    values[Column.N], values[Column.N_BAD] = n, bad
    values[Column.WEIGHT], values[Column.WEIGHT_BAD] = n * WEIGHT_ONE, bad * WEIGHT_ONE
    return values


def test_the_factors_at_thirty_days_are_those_of_the_workbook():
    assert factors(MONTH) == [14.4, 6.0, 3.0, 1.0]


def test_the_factors_scale_with_the_window_and_never_ask_for_less_than_the_budget_allows():
    assert factors(28 * DAY_MINUTES) == [13.44, 5.6, 2.8, 1.0]
    assert factors(7 * DAY_MINUTES) == [3.36, 1.4, 1.0, 1.0]


def test_the_nominal_factor_may_ask_for_less():
    """Sloth's 28 d catalogue: 13.44, 5.6, 2.8 and 0.9333, which would ticket on burning that lasts for ever."""
    nominal = [rule.nominal_factor(28 * DAY_MINUTES) for rule in RULES]
    assert [round(float(factor), 4) for factor in nominal] == [13.44, 5.6, 2.8, 0.9333]


@pytest.mark.parametrize(("left", "factor"), [("1", 30), ("0.5", 15), ("0.1", 3), ("0.01", 1)])
def test_the_exhaustion_rule_asks_for_what_would_use_up_the_rest_within_a_day(left, factor):
    """Thirty days: 30, 15 and 3 times with all, a half and a tenth of the budget left."""
    (rule,) = [rule for rule in SUPPLEMENTS if rule.kind is RuleKind.EXHAUSTION]
    assert rule.factor(MONTH, Fraction(left)) == factor


def test_the_exhaustion_rule_has_no_factor_where_nothing_is_left_or_known():
    (rule,) = [rule for rule in SUPPLEMENTS if rule.kind is RuleKind.EXHAUSTION]
    assert rule.factor(MONTH, None) is None
    assert rule.factor(MONTH, Fraction(0)) is None
    assert rule.factor(MONTH, Fraction(-1)) is None


def test_a_budget_that_is_renewed_sooner_has_to_be_gone_before_that():
    """A tenth of 30 days: within a day 3 times, within the last 2 hours of a period 36 times."""
    rule = next(rule for rule in SUPPLEMENTS if rule.kind is RuleKind.EXHAUSTION)
    left = Fraction(1, 10)
    assert [rule.factor(MONTH, left, minutes) for minutes in (None, 5000, 120)] == [3, 3, 36]
    assert rule.factor(MONTH, left, 0) == 4320


def test_what_inhibits_a_rule_is_a_rule_that_comes_before_it():
    """So that one pass in order knows which of them fire."""
    seen = set()
    ordered = {rule.name for rule in DEFAULT_RULES}
    assert len(ordered) == len(DEFAULT_RULES)
    for rule in DEFAULT_RULES:
        assert set(rule.inhibited_by) <= ordered - {rule.name}
        seen.add(rule.name)


def test_rules_whose_long_window_does_not_fit_are_left_out():
    assert [rule.name for rule in rules_for(HOUR_MINUTES)] == ["page-1h-5m"]
    assert [rule.name for rule in rules_for(DAY_MINUTES)] == ["page-1h-5m", "page-6h-30m", "ticket-1d-2h"]
    assert window_lengths(HOUR_MINUTES) == (5, 60)
    assert window_lengths(MONTH) == (5, 30, 60, 120, 360, 1440, 4320)


def test_exactly_fourteen_point_four_is_not_above_it():
    factor = RULES[0].factor(MONTH)
    at = burn_rate(cell(10_000, 144), Fraction("0.001"))
    above = burn_rate(cell(1_000_000, 14_401), Fraction("0.001"))
    assert at == factor
    assert burns(at, at, factor) is False
    assert burns(above, above, factor) is True
    assert burns(above, at, factor) is False
    assert burns(at, above, factor) is False
    assert burns(at, at, factor, at_least=True) is True


def test_no_data_decides_nothing():
    assert burn_rate(cell(0, 0), Fraction("0.001")) is None
    high = Fraction(1000)
    assert burns(None, high, Fraction(1)) is None
    assert burns(high, None, Fraction(1)) is None
    assert burns(None, None, Fraction(1)) is None


def test_ten_requests_an_hour_with_one_failure_burn_a_hundred_times_too_fast():
    """One failure in an hour of ten requests: 100 times, and 100 ÷ 720 of a month's budget."""
    rate = burn_rate(cell(10, 1), Fraction("0.001"))
    assert rate == 100
    assert float(rate * HOUR_MINUTES / MONTH) == pytest.approx(0.139, abs=5e-4)


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_burn_rates_are_exact(good, bad):
    assert burn_rate(cell(good + bad, bad), Fraction("0.001")) == burn([(good + bad, bad)], "0.999")


def test_lengths_are_written_as_people_write_them():
    assert [duration(m) for m in (5, 90, 120, 4320)] == ["5m", "90m", "2h", "3d"]
