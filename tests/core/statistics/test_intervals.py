"""Intervals against published and recomputed values, their own limits, and the binomial tests they invert."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stream.core.statistics.intervals import clopper_pearson, effective_count, newcombe, wilson

NEWCOMBE_WILSON = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]
NEWCOMBE_CLOPPER_PEARSON = [
    (81, 263, 0.2527, 0.3676),
    (15, 148, 0.0578, 0.1617),
    (0, 20, 0.0, 0.1684),
    (1, 29, 0.0009, 0.1776),
]


@pytest.mark.parametrize(("bad", "total", "lower", "upper"), NEWCOMBE_WILSON)
def test_wilson_equals_newcombes_cases(bad: int, total: int, lower: float, upper: float) -> None:
    assert wilson(bad, total) == pytest.approx((lower, upper), abs=5e-5)


@pytest.mark.parametrize(("bad", "total", "lower", "upper"), NEWCOMBE_CLOPPER_PEARSON)
def test_clopper_pearson_equals_newcombes_cases(bad: int, total: int, lower: float, upper: float) -> None:
    assert clopper_pearson(bad, total) == pytest.approx((lower, upper), abs=5e-5)


def test_ten_bad_in_ten_thousand_do_not_show_three_nines() -> None:
    lower, upper = wilson(9990, 10_000)
    assert (lower, upper) == pytest.approx((0.998160, 0.999457), abs=5e-7)
    assert lower < 0.999


def test_sampled_events_count_as_what_was_observed_not_as_what_they_stand_for() -> None:
    weights = [10.0] * 1000
    observed = effective_count(sum(weights), sum(w * w for w in weights))
    assert observed == pytest.approx(1000)
    ratio = weights[0] / sum(weights)
    assert wilson(ratio * observed, observed) == pytest.approx((0.000177, 0.005643), abs=5e-7)
    claimed_wrongly = wilson(10, 10_000)
    assert claimed_wrongly == pytest.approx((0.000543, 0.001840), abs=5e-7)


def test_one_heavy_event_dominates_the_effective_count() -> None:
    assert effective_count(1000.0 + 1000.0, 1000.0 * 1000.0 + 1000.0) == pytest.approx(3.996, abs=1e-3)
    assert effective_count(0.0, 0.0) == 0.0
    assert effective_count(7.0, 7.0) == 7.0


def test_effective_count_takes_fixed_point_sums_beyond_the_squares_range() -> None:
    weight = 65_536 << 16
    events = 10**12
    assert effective_count(weight * events, weight * weight * events) == pytest.approx(events, rel=1e-12)


@settings(deadline=None)
@given(st.lists(st.floats(min_value=1e-3, max_value=65_536.0), min_size=1, max_size=50))
def test_effective_count_is_between_one_and_the_number_of_events(weights: list[float]) -> None:
    count = effective_count(math.fsum(weights), math.fsum(w * w for w in weights))
    assert 1 - 1e-9 <= count <= len(weights) * (1 + 1e-9)


@pytest.mark.parametrize("total", [0, 0.0, -1.0])
def test_no_data_excludes_nothing(total: float) -> None:
    assert wilson(0, total) == (0.0, 1.0)
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@settings(deadline=None)
@given(
    st.floats(min_value=1e-3, max_value=1e12),
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=0.5, max_value=0.9999),
)
def test_wilson_holds_the_ratio_within_zero_and_one(total: float, ratio: float, confidence: float) -> None:
    bad = ratio * total
    lower, upper = wilson(bad, total, confidence=confidence)
    assert 0.0 <= lower <= bad / total * (1 + 1e-12)
    assert bad / total * (1 - 1e-12) <= upper <= 1.0
    assert wilson(0.0, total, confidence=confidence)[0] == 0.0
    assert wilson(total, total, confidence=confidence)[1] == 1.0


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=10**6), st.data())
def test_wilson_ends_are_where_the_score_test_just_rejects(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(min_value=0, max_value=total))
    for end in wilson(bad, total):
        if 0.0 < end < 1.0:
            score = (bad / total - end) / math.sqrt(end * (1 - end) / total)
            assert abs(score) == pytest.approx(1.959963984540054, rel=1e-6)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=5000), st.data())
def test_the_two_intervals_mirror_when_good_and_bad_are_exchanged(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(min_value=0, max_value=total))
    for interval in (wilson, clopper_pearson):
        lower, upper = interval(bad, total)
        mirrored_lower, mirrored_upper = interval(total - bad, total)
        assert (1 - mirrored_upper, 1 - mirrored_lower) == pytest.approx((lower, upper), abs=1e-12)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=5000), st.data())
def test_clopper_pearson_ends_are_where_binomial_tests_just_reject(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.integers(min_value=0, max_value=total))
    lower, upper = clopper_pearson(bad, total, confidence=0.98)
    if bad > 0:
        assert stats.binom.sf(bad - 1, total, lower) == pytest.approx(0.01, rel=1e-7)
    if bad < total:
        assert stats.binom.cdf(bad, total, upper) == pytest.approx(0.01, rel=1e-7)


@pytest.mark.parametrize(
    ("bad", "allowed_ratio", "total"),
    [
        (0, 0.01, 299),
        (0, 0.001, 2_995),
        (0, 0.0001, 29_956),
        (0, 0.00001, 299_572),
        (1, 0.001, 4_742),
        (2, 0.001, 6_294),
        (5, 0.001, 10_511),
        (10, 0.001, 16_959),
    ],
)
def test_events_needed_at_a_declared_horizon(bad: int, allowed_ratio: float, total: int) -> None:
    assert clopper_pearson(bad, total, confidence=0.9)[1] <= allowed_ratio  # two-sided 90 % = one-sided 95 %
    assert clopper_pearson(bad, total - 1, confidence=0.9)[1] > allowed_ratio


@pytest.mark.parametrize("bad", [0, 1, 10**7, 10**10 - 1, 10**10])
def test_ten_billion_events_give_a_finite_ordered_interval(bad: int) -> None:
    total = 10**10
    for lower, upper in (wilson(bad, total), clopper_pearson(bad, total)):
        assert 0.0 <= lower <= bad / total <= upper <= 1.0
        assert upper - lower < 1e-4


@pytest.mark.parametrize(("bad", "total"), [(-1, 10), (11, 10), (math.nan, 10), (1, math.nan), (1, math.inf)])
def test_counts_that_cannot_be_are_a_programmers_error(bad: float, total: float) -> None:
    with pytest.raises(AssertionError):
        wilson(bad, total)


def test_repeated_calls_give_the_same_bits() -> None:
    first = [wilson(81, 263), clopper_pearson(81, 263)]
    wilson(5, 7, confidence=0.5)
    clopper_pearson(5, 7, confidence=0.5)
    assert [wilson(81, 263), clopper_pearson(81, 263)] == first


def test_newcombes_difference() -> None:
    # Newcombe 1998: 56/70 - 48/80.
    first, second = (56 / 70, wilson(56, 70)), (48 / 80, wilson(48, 80))
    assert newcombe(first, second) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    low, high = newcombe(second, first)
    assert (-high, -low) == pytest.approx((0.0524, 0.3339), abs=5e-5)
