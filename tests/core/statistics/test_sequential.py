"""The always-valid tests: against quadrature, by exact enumeration of their null, by seeded simulation."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stream.core.statistics.sequential import (
    events_until_decidable,
    log_e_value,
    log_threshold,
    revocation_log_increment,
    revoke_log_threshold,
    revoke_update,
)

ALPHA = 0.05
THREE_NINES = 0.001
WEEK_MINUTES = 7 * 24 * 60

bad_ratios = st.floats(min_value=1e-7, max_value=0.95)


def log_e_value_by_quadrature(bad: int, total: int, p0: float) -> float:
    """Returns log M by Gauss-Legendre panels in v; p = p0·v² takes the singularity at 0 away."""
    nodes, node_weights = np.polynomial.legendre.leggauss(20)
    to_the_ends = np.geomspace(1e-12, 0.5, 400)  # the mass may lie within 1/total of either end
    edges = np.unique(np.concatenate([np.linspace(0.0, 1.0, 4001), to_the_ends, 1 - to_the_ends]))
    half = np.diff(edges)[:, None] / 2
    v = (edges[:-1, None] + half * (nodes + 1)).ravel()
    log_weight = np.log((half * node_weights).ravel())
    log_good = np.log1p(-p0 * v * v)
    log_prior = (0.5 / p0 - 1) * log_good + log_weight
    log_ratio = 2 * bad * np.log(v) + (total - bad) * (log_good - math.log1p(-p0))
    return float(np.logaddexp.reduce(log_prior + log_ratio) - np.logaddexp.reduce(log_prior))


@pytest.mark.parametrize("p0", [1e-6, 1e-4, 0.001, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("total", [1, 7, 100, 3678, 100_000, 10_000_000])
def test_e_value_equals_its_integral(total: int, p0: float) -> None:
    mean, deviation = total * p0, math.sqrt(total * p0)
    around = [mean / 2, mean * 0.9, mean, mean + 3 * deviation, mean + 4 * deviation, 2 * mean]
    for bad in sorted({round(k) for k in (0, 1, 2, *around, total / 2, total) if k <= total}):
        expected = log_e_value_by_quadrature(bad, total, p0)
        assert log_e_value(bad, total, p0) == pytest.approx(expected, rel=1e-9, abs=1e-7), (bad, total, p0)


@pytest.mark.parametrize("p0", [0.001, 0.05, 0.3, 0.5, 0.8])
def test_e_value_is_a_martingale_at_p0_and_shrinks_above_it(p0: float) -> None:
    for total in (1, 2, 5, 20, 60):
        e_values = np.exp([log_e_value(bad, total, p0) for bad in range(total + 1)])
        at_p0 = stats.binom.pmf(np.arange(total + 1), total, p0)
        assert e_values @ at_p0 == pytest.approx(1.0, abs=1e-9)
        for above in np.linspace(p0, 1.0, 7)[1:]:
            assert e_values @ stats.binom.pmf(np.arange(total + 1), total, above) < 1.0


@pytest.mark.parametrize("p0", [0.001, 0.05, 0.5, 0.8])
def test_one_more_event_never_raises_the_expected_e_value_whatever_happened_before(p0: float) -> None:
    for total in range(0, 40):
        for bad in range(total + 1):
            now = log_e_value(bad, total, p0)
            if_bad = math.exp(log_e_value(bad + 1, total + 1, p0) - now)
            if_good = math.exp(log_e_value(bad, total + 1, p0) - now)
            assert p0 * if_bad + (1 - p0) * if_good == pytest.approx(1.0, abs=1e-9)
            for above in ((1 + p0) / 2, 1.0):
                assert above * if_bad + (1 - above) * if_good < 1.0


@settings(deadline=None)
@given(bad_ratios, st.integers(min_value=0, max_value=10**9), st.integers(min_value=0, max_value=1000))
def test_good_events_are_evidence_and_bad_ones_are_against(p0: float, total: int, bad: int) -> None:
    bad = min(bad, total)
    now = log_e_value(bad, total, p0)
    slack = 1e-9 * (1 + abs(now))  # one event in a billion moves log M by less than its rounding
    assert log_e_value(bad, total + 1, p0) >= now - slack
    assert log_e_value(bad + 1, total + 1, p0) <= now + slack


@pytest.mark.parametrize("p0", [1e-5, THREE_NINES, 0.05, 0.5])
def test_evidence_without_failures_grows_strictly_and_starts_at_none(p0: float) -> None:
    totals = [0, *np.unique(np.geomspace(1, 10**10, 60).astype(np.int64)).tolist()]
    values = [log_e_value(0, total, p0) for total in totals]
    assert values[0] == 0.0
    assert all(before < after for before, after in pairwise(values))


def test_three_nines_without_a_failure_is_decidable_after_3678_events() -> None:
    assert events_until_decidable(0, 0, THREE_NINES, ALPHA) == 3678
    assert log_e_value(0, 3677, THREE_NINES) < log_threshold(ALPHA) <= log_e_value(0, 3678, THREE_NINES)
    assert events_until_decidable(0, 3000, THREE_NINES, ALPHA) == 678
    assert events_until_decidable(0, 3678, THREE_NINES, ALPHA) == 0


@settings(deadline=None)
@given(
    st.integers(min_value=0, max_value=500),
    st.integers(min_value=0, max_value=10**8),
    bad_ratios,
    st.floats(min_value=1e-6, max_value=0.5),
)
def test_events_until_decidable_is_the_first_crossing(bad: int, extra: int, p0: float, alpha: float) -> None:
    total = bad + extra
    wait = events_until_decidable(bad, total, p0, alpha)
    assert log_e_value(bad, total + wait, p0) >= log_threshold(alpha)
    if wait > 0:
        assert log_e_value(bad, total + wait - 1, p0) < log_threshold(alpha)


def test_each_failure_lengthens_the_wait() -> None:
    waits = [events_until_decidable(bad, 1000, THREE_NINES, ALPHA) for bad in range(10)]
    assert waits == sorted(set(waits))


@pytest.mark.parametrize("p0", [1e-12, 1e-7, 0.001, 0.5, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("total", [1, 1000, 10**10, 10**15])
def test_extreme_counts_are_finite(total: int, p0: float) -> None:
    at_p0 = round(total * p0)
    near = [at_p0 + step * round(math.sqrt(total * p0 * (1 - p0))) for step in (-40, -4, -3, 0, 3, 4, 40)]
    counts = sorted({0, 1, total // 2, total - 1, total, *(k for k in near if 0 <= k <= total)})
    values = [log_e_value(bad, total, p0) for bad in counts]
    assert all(math.isfinite(value) for value in values)
    assert values == sorted(values, reverse=True)
    assert math.isfinite(revocation_log_increment(total, total, p0))
    assert math.isfinite(revocation_log_increment(0, total, p0))


def test_a_wait_longer_than_any_history_is_still_a_number() -> None:
    assert events_until_decidable(10**15, 10**15, 1e-9, ALPHA) > 10**23


def _issue_look(bad_ratio: float, *, look_every: int, looks: int, runs: int, seed: int) -> np.ndarray:
    """Returns for each run the number of the first look that issues for three nines, or looks + 1."""
    threshold = log_threshold(ALPHA)
    bad_max = np.full(looks, -1)  # the largest count of bad events that still issues, at each look
    for look in range(looks):
        bad = max(int(bad_max[look - 1]), 0) if look else 0
        while log_e_value(bad, (look + 1) * look_every, THREE_NINES) >= threshold:
            bad_max[look] = bad
            bad += 1
    generator = np.random.default_rng(seed)
    bad_counts = generator.binomial(look_every, bad_ratio, size=(runs, looks)).cumsum(axis=1)
    issued = bad_counts <= bad_max
    return np.where(issued.any(axis=1), issued.argmax(axis=1) + 1, looks + 1)


def test_false_certificates_stay_below_alpha_over_two_hundred_looks() -> None:
    runs = 2000
    first = _issue_look(THREE_NINES, look_every=1000, looks=200, runs=runs, seed=20)
    false_certificates = int((first <= 200).sum())
    # Fails when the count is improbable (1 in 1000) under a true rate of at most 5 %.
    assert false_certificates <= stats.binom.isf(0.001, runs, ALPHA)
    assert false_certificates > 0  # the test has power to see any


@pytest.mark.parametrize(("bad_ratio", "median"), [(0.0002, 7_000), (0.0005, 21_000), (0.0008, 195_000)])
def test_versions_that_meet_the_objective_earn_their_certificate(bad_ratio: float, median: int) -> None:
    first = _issue_look(bad_ratio, look_every=1000, looks=1000, runs=1000, seed=21)
    assert float(np.median(first)) * 1000 == pytest.approx(median, rel=0.15)


def test_revocation_increment_is_the_likelihood_ratio_of_the_bet() -> None:
    expected = 3 * math.log(0.01 / 0.001) + 97 * math.log(0.99 / 0.999)
    assert revocation_log_increment(3, 100, THREE_NINES) == pytest.approx(expected, rel=1e-13)
    assert revocation_log_increment(3, 100, Fraction(1, 1000)) == pytest.approx(expected, rel=1e-13)
    assert revocation_log_increment(0, 0, THREE_NINES) == 0.0


@pytest.mark.parametrize(("p0", "p1"), [(0.01, 0.1), (0.05, 0.5), (0.2, 0.5), (0.5, 0.75), (0.9, 0.95)])
def test_the_bet_is_ten_times_worse_and_always_worse(p0: float, p1: float) -> None:
    assert revocation_log_increment(1, 1, p0) == pytest.approx(math.log(p1 / p0))
    assert revocation_log_increment(0, 1, p0) == pytest.approx(math.log((1 - p1) / (1 - p0)))
    if_bad = math.exp(revocation_log_increment(1, 1, p0))
    if_good = math.exp(revocation_log_increment(0, 1, p0))
    mean_at_p0 = p0 * if_bad + (1 - p0) * if_good
    assert mean_at_p0 == pytest.approx(1.0)  # so it is an e-value: the mean is lower still below p0


def test_e_cusum_forgets_good_history_and_keeps_evidence() -> None:
    after_good = revoke_update(0.0, 0, 10**9, THREE_NINES)
    assert after_good < 0
    assert revoke_update(after_good, 5, 10, THREE_NINES) == revoke_update(0.0, 5, 10, THREE_NINES)
    once = revoke_update(0.0, 5, 10, THREE_NINES)
    assert revoke_update(once, 5, 10, THREE_NINES) == pytest.approx(2 * once)


def test_revocation_threshold_is_the_lifetime_over_the_false_alarm_probability() -> None:
    assert revoke_log_threshold(WEEK_MINUTES) == pytest.approx(math.log(WEEK_MINUTES / 1e-4))
    assert revoke_log_threshold(60, false_alarm=0.01) == pytest.approx(math.log(6000))


def test_a_tenfold_failure_ratio_is_revoked_after_about_1310_requests() -> None:
    threshold = revoke_log_threshold(WEEK_MINUTES)
    generator = np.random.default_rng(22)
    slice_size = 5
    requests = []
    for _ in range(500):
        log_s, total = 0.0, 0
        while log_s < threshold:
            log_s = revoke_update(log_s, int(generator.binomial(slice_size, 0.01)), slice_size, THREE_NINES)
            total += slice_size
        requests.append(total)
    assert float(np.mean(requests)) == pytest.approx(1310, rel=0.1)


@pytest.mark.parametrize("requests_per_minute", [3, 600])
def test_a_version_just_at_its_objective_keeps_its_certificate(requests_per_minute: int) -> None:
    runs = 200
    generator = np.random.default_rng(23)
    # The increment is linear in the counts (asserted above), so all runs advance at once.
    per_bad = revocation_log_increment(1, 1, THREE_NINES)
    per_good = revocation_log_increment(0, 1, THREE_NINES)
    log_s = np.zeros(runs)
    largest = np.zeros(runs)
    for bad in generator.binomial(requests_per_minute, THREE_NINES, size=(WEEK_MINUTES, runs)):
        log_s = np.maximum(log_s, 0.0) + bad * per_bad + (requests_per_minute - bad) * per_good
        np.maximum(largest, log_s, out=largest)
    assert largest.max() < revoke_log_threshold(WEEK_MINUTES)


@pytest.mark.parametrize("p0", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_an_objective_that_allows_all_or_nothing_is_a_programmers_error(p0: float) -> None:
    with pytest.raises(AssertionError):
        log_e_value(0, 10, p0)
    with pytest.raises(AssertionError):
        revoke_update(0.0, 0, 10, p0)


@pytest.mark.parametrize(("bad", "total"), [(-1, 10), (11, 10)])
def test_counts_that_cannot_be_are_a_programmers_error(bad: int, total: int) -> None:
    with pytest.raises(AssertionError):
        log_e_value(bad, total, THREE_NINES)
    with pytest.raises(AssertionError):
        events_until_decidable(bad, total, THREE_NINES, ALPHA)
    with pytest.raises(AssertionError):
        revocation_log_increment(bad, total, THREE_NINES)


def test_repeated_calls_in_any_order_give_the_same_bits() -> None:
    questions = [(0, 100, 0.001), (7, 10**6, 0.001), (10**7, 10**10, 0.001), (3, 9, 0.5)]
    first = [log_e_value(*question) for question in questions]
    assert [log_e_value(*question) for question in reversed(questions)] == first[::-1]
    assert events_until_decidable(1, 50, 0.01, ALPHA) == events_until_decidable(1, 50, 0.01, ALPHA)


def test_an_exact_objective_and_its_nearest_float_agree() -> None:
    assert log_e_value(2, 9000, 1 - Fraction("0.999")) == log_e_value(2, 9000, 0.001)
