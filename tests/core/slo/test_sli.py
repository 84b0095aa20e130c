"""Indicators and budgets: exact ratios, bounds that close, and no number where there is no data."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.cells import COLUMNS, Column
from stream.core.slo.sli import bound_to_add, budget, sli
from stream.core.slo.spec import Objective, SliSignal
from stream.core.units import WEIGHT_ONE
from tests.core.slo.test_burn_rate import cell

ratios = st.fractions(0, 1)


def weighed(n: int, bad: int) -> list[int]:
    values = cell(n, bad)
    values[4], values[5] = n * 256, bad * 256
    return values


@given(st.integers(0, 10**6), st.integers(0, 10**6), ratios, st.sampled_from(("0.9", "0.999", "0.99999")))
def test_budgets_are_never_nan_and_bounds_are_in_order(good, bad, coverage, target):
    left = budget(weighed(good + bad, bad), 1 - Fraction(target), coverage)
    values = (left.consumed_ratio, left.remaining_min_ratio, left.remaining_max_ratio)
    assert all(value is None or math.isfinite(value) for value in values)
    assert (left.consumed_ratio is None) == (good + bad == 0)
    if left.remaining_min_ratio is not None and left.remaining_max_ratio is not None:
        assert left.remaining_min_ratio <= left.remaining_max_ratio <= 1


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_the_bounds_are_equal_once_the_window_is_covered(good, bad):
    left = budget(weighed(good + bad, bad), Fraction("0.001"), Fraction(1))
    assert left.remaining_min_ratio == left.remaining_max_ratio == float(1 - Fraction(bad, good + bad) * 1000)


@given(st.integers(1, 1000), *(st.integers(0, 1000) for _ in range(5)))
def test_what_is_left_in_the_end_lies_within_the_bounds(good, bad, more_good, more_bad, lost_good, lost_bad):
    """The rest of the window, at the same traffic, may be anything from all good to all bad; so may what was lost."""
    seen, rest, lost = good + bad, more_good + more_bad, lost_good + lost_bad
    coverage = Fraction(seen + lost, seen + lost + rest)
    left = budget(weighed(seen, bad), Fraction("0.01"), coverage, lost * WEIGHT_ONE)
    in_the_end = 1 - Fraction(bad + more_bad + lost_bad, seen + rest + lost) * 100
    assert left.remaining_min_ratio is not None
    assert left.remaining_max_ratio is not None
    assert left.remaining_min_ratio - 1e-9 <= in_the_end <= left.remaining_max_ratio + 1e-9


def test_the_numbers_of_another_tool():
    """3,556 bad of 7,112 against 90 %: burn rate 5; of 720 minutes 360 are bad, 72 allowed, 288 too many."""
    left = budget(weighed(7_112, 3_556), Fraction("0.1"), Fraction(1))
    assert left.consumed_ratio == 5
    assert left.remaining_max_ratio is not None
    assert left.remaining_max_ratio * 72 == -288


def test_no_data_is_no_number():
    empty = sli([0] * COLUMNS)
    assert (empty.ratio, empty.interval, empty.n) == (None, None, 0)
    nothing = budget([0] * COLUMNS, Fraction("0.1"), Fraction(1))
    assert (nothing.consumed_ratio, nothing.remaining_min_ratio, nothing.remaining_max_ratio) == (None,) * 3


def test_data_that_covers_no_minute_has_a_rate_and_no_bounds():
    left = budget(weighed(10, 1), Fraction("0.1"), Fraction(0))
    assert (left.consumed_ratio, left.remaining_min_ratio, left.remaining_max_ratio) == (1.0, None, None)


@pytest.mark.parametrize(
    ("bad", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)]
)
def test_the_interval_is_wilsons_of_the_good_ratio(bad, n, low, high):
    found = sli(weighed(n, bad))
    assert found.interval == pytest.approx((1 - high, 1 - low), abs=5e-5)
    assert found.interval is not None
    assert found.ratio is not None
    assert found.interval[0] <= found.ratio <= found.interval[1]


def test_keeping_all_errors_and_a_tenth_of_the_rest():
    """Five bad events of weight 1 and 995 good ones of weight 10: 0.0502 %, not 0.5 %."""
    values = [1000, 5, 9955 << 16, 5 << 16, (5 + 99_500) * 256, 5 * 256, 0, 0, 0]
    found = sli(values)
    assert found.ratio is not None
    assert 1 - found.ratio == pytest.approx(5 / 9955)
    assert (found.total, found.good) == (9955, 9950)


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(0, 1000))
def test_the_ratio_lies_in_its_interval(weight, good, bad):
    n = good + bad
    values = [n, bad, (n * weight) << 16, (bad * weight) << 16, n * weight**2 * 256, bad * weight**2 * 256, 0, 0, 0]
    found = sli(values)
    assert found.interval is not None
    assert found.ratio is not None
    low, high = found.interval
    assert 0 <= low <= found.ratio <= high <= 1


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_the_true_ratio_lies_between_that_with_the_unsure_bad_and_that_with_them_good(good, bad, unsure):
    values = weighed(good + bad + unsure, bad + unsure)
    values[Column.N_UNSURE] = unsure
    found = sli(values)
    assert found.n_unsure == unsure
    if good + bad + unsure == 0:
        assert found.ratio_upper is None
        return
    n = good + bad + unsure
    assert (found.ratio, found.ratio_upper) == (float(Fraction(good, n)), float(Fraction(good + unsure, n)))


def test_the_bound_to_add_is_named_in_the_units_that_a_metric_may_have():
    objective = Objective(
        service="a/b/c",
        name="fast",
        target="0.9",
        window_minutes=60,
        signal=SliSignal.METRICS,
        metric="http.server.request.duration",
        duration_lte_ns=200_000_000,
    )
    assert bound_to_add(objective).startswith(
        "fast: make 0.2 (200 where the unit is ms) a bucket bound of http.server.request.duration"
    )


def test_what_is_missing_may_have_been_all_bad_or_all_good():
    """Five bad of 10,000 received where 10,100 are expected: 0.0495 % to 1.04 % are bad."""
    missing = 100 * WEIGHT_ONE
    found = sli(weighed(10_000, 5), missing=missing)
    assert found.n_missing == 100
    assert found.ratio_lower == pytest.approx(1 - 0.0104, abs=5e-5)
    assert found.ratio_upper == pytest.approx(1 - 0.000495, abs=5e-7)
    left = budget(weighed(10_000, 5), Fraction("0.001"), Fraction(1), missing)
    assert left.remaining_min_ratio == float(1 - Fraction(105, 10_100) * 1000)
    assert left.remaining_max_ratio == float(1 - Fraction(5, 10_100) * 1000)
    assert sli(weighed(10, 0), missing=1).n_missing == 1, "a part of an event is one"
    nothing = sli([0] * COLUMNS, missing=10 * WEIGHT_ONE)
    assert (nothing.ratio, nothing.ratio_lower, nothing.n_missing) == (None, None, 10)
