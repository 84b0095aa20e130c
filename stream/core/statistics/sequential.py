"""Always-valid tests on counts of bad and total events: may a certificate be issued, must it be revoked.

Both are valid under continuous monitoring: the error probability covers every look there will ever be,
however the looks are spaced, so re-checking each minute costs nothing. Both read unweighted counts; the
counts may be fed event by event or in minute cells, which only makes the looks fewer.

Issue: `log_e_value` bets that the bad ratio is below the objective's; a certificate is issued when it reaches
`log_threshold(alpha)`. Revoke: `revoke_update` accumulates evidence that the ratio is above it, from the
issue on; the certificate is revoked when it reaches `revoke_log_threshold(lifetime)`.

Every function is a plain function of its arguments; `bad_ratio_max` is p0 = 1 − target throughout. Pass the
target's exact complement (a `Fraction`, or the float nearest to it), never `1.0 - float(target)`, which loses
digits.
"""

import math
from fractions import Fraction
from functools import lru_cache

import scipy

BETA_PRIOR_BAD = 0.5
"""Shape a of the mixture Beta(a, a/p0): Jeffreys' 1/2; b = a/p0 puts the bets at the scale of p0 itself."""

BET_FACTOR = 10
"""A revocation bets that the bad ratio has become ten times the objective's (at most one half)."""

FALSE_REVOCATION_PROBABILITY = 1e-4
"""Chance that a certificate whose version keeps its objective is revoked during its lifetime."""

TAIL_PROBABILITY_MIN = 1e-3
"""Below it the continued fraction takes only tens of steps; above it the direct form loses nothing."""

BAD_RATIO_MIN = 1e-12
TOTAL_MAX = 10**15
"""The arithmetic below holds within these limits (p0 at this distance from 0 and 1): a million events per
second for thirty years. Some way beyond them the incomplete beta function has no value."""

FRACTION_STEPS_MAX = 1000
FRACTION_TOLERANCE_RATIO = 4e-15  # a few roundings: less might never be reached


def log_threshold(alpha: float) -> float:
    """Returns log(1/alpha), the value of an e-process that rejects.

    Source:
        Ville 1939: while its null hypothesis holds, an e-process ever reaches 1/alpha with probability <=
        alpha.
    """
    assert 0 < alpha < 1
    return -math.log(alpha)


def log_e_value(bad: int, total: int, bad_ratio_max: Fraction | float) -> float:
    """Returns the log of the evidence against "the bad ratio is at least p0", a truncated-Beta e-process.

    With n = total, k = bad and π the distribution Beta(1/2, 1/(2·p0)) truncated to (0, p0):

        M(n, k) = ∫ pᵏ (1−p)ⁿ⁻ᵏ dπ(p)  /  (p0ᵏ (1−p0)ⁿ⁻ᵏ)

    It depends on the counts alone, not on their order or batching; it increases in n at fixed k and decreases
    in k at fixed n.

    Why it is an e-process for every p >= p0: for a fixed p' < p0, an event that is bad with conditional
    probability q multiplies the likelihood ratio by q·p'/p0 + (1−q)·(1−p')/(1−p0) in expectation, which is 1
    at q = p0 and decreasing in q because p'/p0 < (1−p')/(1−p0), so it is <= 1 for every q >= p0. The ratio is
    therefore a non-negative supermartingale that starts at 1 whenever no event's chance of being bad, given
    the past, is below p0, and so is its mixture over the fixed π (Tonelli); by Ville's inequality it ever
    reaches 1/alpha with probability <= alpha.

    Args:
        bad: Bad events, unweighted, in [0, total].
        total: All events, unweighted.
        bad_ratio_max: p0 = 1 − target, in (0, 1).

    Returns:
        log M in nats, 0.0 at total == 0; finite for all inputs, never -inf: where the probability mass below
        p0 underflows, its logarithm comes from a continued fraction.

    Bound:
        |error| <= 1e-9 + 1e-14·|log M| up to 1e10 events (compared with 30-digit quadrature).

    Source:
        Robbins 1970, "Statistical Methods Related to the Law of the Iterated Logarithm" (mixtures); Howard,
        Ramdas, McAuliffe and Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences"
        (one-sided beta-binomial mixture).
    """
    p0 = _checked(bad, total, bad_ratio_max)
    return _log_mixture_ratio(bad, total, p0)


def events_until_decidable(bad: int, total: int, bad_ratio_max: Fraction | float, alpha: float) -> int:
    """Returns how many further events, all good, would let the certificate be issued.

    Args:
        bad: Bad events so far, in [0, total].
        total: Events so far.
        bad_ratio_max: p0 = 1 − target, in (0, 1).
        alpha: Probability of a false certificate, in (0, 1).

    Returns:
        The smallest m >= 0 with log_e_value(bad, total + m, p0) >= log(1/alpha). It always exists: a good
        event multiplies M by a mean of (1−p)/(1−p0) over p < p0, which is > 1 and tends to 1/(1−p0), so M
        grows without limit.
    """
    p0 = _checked(bad, total, bad_ratio_max)
    threshold = log_threshold(alpha)
    if _log_mixture_ratio(bad, total, p0) >= threshold:
        return 0
    undecided, decided = 0, 1
    while _log_mixture_ratio(bad, total + decided, p0) < threshold:
        undecided, decided = decided, 2 * decided
    # M increases in m, so there is one crossing; the bisection keeps an end on each side of it.
    while decided - undecided > 1:
        middle = (undecided + decided) // 2
        if _log_mixture_ratio(bad, total + middle, p0) >= threshold:
            decided = middle
        else:
            undecided = middle
    return decided


def revocation_log_increment(bad: int, total: int, bad_ratio_max: Fraction | float) -> float:
    """Returns the log likelihood ratio of the bet p1 against p0 for one slice.

    It is k·log(p1/p0) + (n−k)·log((1−p1)/(1−p0)) with n = total, k = bad.

    p1 = min(1/2, 10·p0); an objective that allows half of the events or more to be bad (p0 >= 1/2) takes p1 =
    (1+p0)/2, so that p1 > p0 always. While every event's chance of being bad is <= p0 the ratio's expectation
    is <= 1: it is an e-value against "the objective is kept".

    Args:
        bad: Bad events of the slice, unweighted, in [0, total].
        total: All events of the slice.
        bad_ratio_max: p0 = 1 − target, in (0, 1).
    """
    p0 = _checked(bad, total, bad_ratio_max)
    p1 = min(0.5, BET_FACTOR * p0) if p0 < 0.5 else p0 + (1 - p0) / 2
    assert p0 < p1 < 1
    return bad * math.log(p1 / p0) + (total - bad) * math.log1p((p0 - p1) / (1 - p0))


def revoke_update(log_s: float, bad: int, total: int, bad_ratio_max: Fraction | float) -> float:
    """Returns the e-CUSUM after one more slice: max(log_s, 0) + increment.

    It starts at 0.0 when the certificate is issued. The maximum restarts the bet whenever the past speaks
    against it, so a long good history does not delay a revocation.

    Args:
        log_s: Value after the previous slice, in nats.
        bad: Bad events of this slice, in [0, total].
        total: All events of this slice; a slice without events only restarts.
        bad_ratio_max: p0 = 1 − target, in (0, 1).

    Source:
        Shin, Ramdas and Rinaldo 2022, "E-detectors: a nonparametric framework for sequential change
        detection".
    """
    assert not math.isnan(log_s)
    return max(log_s, 0.0) + revocation_log_increment(bad, total, bad_ratio_max)


def revoke_log_threshold(lifetime_minutes: float, false_alarm: float = FALSE_REVOCATION_PROBABILITY) -> float:
    """Returns the value of the e-CUSUM that revokes: log(lifetime_minutes / false_alarm).

    Args:
        lifetime_minutes: Validity of the certificate: the largest number of minute slices it can see.
        false_alarm: Probability of a false revocation within the lifetime, in (0, 1).

    Bound:
        While the objective is kept, the expected number of slices to a false alarm is at least exp(threshold)
        (the e-detector's average run length). Within the lifetime, P(false revocation) <= lifetime /
        exp(threshold) = false_alarm: the e-CUSUM is the largest of the products that start at slice 1, 2, …,
        each of which ever reaches exp(threshold) with probability <= exp(−threshold) (Ville), and at most
        `lifetime_minutes` of them start.

    Source:
        Shin, Ramdas and Rinaldo 2022, "E-detectors" (run length); the lifetime's bound is the union over
        starts.
    """
    assert lifetime_minutes >= 1
    assert 0 < false_alarm < 1
    return math.log(lifetime_minutes) - math.log(false_alarm)


def _checked(bad: int, total: int, bad_ratio_max: Fraction | float) -> float:
    """Returns p0 as a float after asserting what every function here assumes."""
    p0 = float(bad_ratio_max)
    assert BAD_RATIO_MIN <= p0 <= 1 - BAD_RATIO_MIN, f"the allowed bad ratio {p0} is not within (0, 1)"
    assert 0 <= bad <= total <= TOTAL_MAX, f"bad {bad} is not within [0, total {total}], or that is too large"
    return p0


def _log_mixture_ratio(bad: int, total: int, p0: float) -> float:
    """Returns `log_e_value` for any total: the wait for a decision may be longer than any history."""
    if total == 0:
        return 0.0
    b = BETA_PRIOR_BAD / p0
    return _log_beta_below(BETA_PRIOR_BAD + bad, b + (total - bad), p0) - _log_prior_below(p0)


@lru_cache(maxsize=1000)
def _log_prior_below(p0: float) -> float:
    return _log_beta_below(BETA_PRIOR_BAD, BETA_PRIOR_BAD / p0, p0)


def _log_beta_below(a: float, b: float, x: float) -> float:
    """Returns log ∫₀ˣ (p/x)ᵃ ((1−p)/(1−x))ᵇ / (p (1−p)) dp.

    This is the incomplete beta function relative to xᵃ (1−x)ᵇ. Only this ratio is ever formed: the integral
    and the integrand are each as small as e^(−1e9), and their logarithms would cancel to nothing. For a
    difference of two values at the same x the powers of x and 1−x in excess cancel exactly.
    """
    tail = float(scipy.special.betainc(a, b, x))
    if tail < TAIL_PROBABILITY_MIN:
        return math.log(_beta_fraction(a, b, x)) - math.log(a)
    n = a + b
    excess = a - n * x
    deviance = _deviance(a, n * x, excess) + _deviance(b, n * (1 - x), -excess)
    stirling = _stirling_error(a) + _stirling_error(b) - _stirling_error(n)
    return deviance + stirling + 0.5 * math.log(2 * math.pi * n / a / b) + math.log(tail)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Returns a·∫₀ˣ pᵃ⁻¹(1−p)ᵇ⁻¹dp / (xᵃ(1−x)ᵇ) for x well below the mean a/(a+b).

    Source: DLMF 8.17.22, by the modified Lentz recurrence. It converges fast for x < (a+1)/(a+b+2), which a
    tail below `TAIL_PROBABILITY_MIN` implies.
    """
    numerator = 1.0
    denominator = 1 / (1 - (a + b) * x / (a + 1))
    value = denominator
    for m in range(1, FRACTION_STEPS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            denominator = 1 / (1 + term * denominator)
            numerator = 1 + term / numerator
            value *= numerator * denominator
        if abs(value - before) <= FRACTION_TOLERANCE_RATIO * value:
            return value
    raise AssertionError(f"no convergence at a={a}, b={b}, x={x}")


def _deviance(count: float, mean: float, excess: float) -> float:
    """Returns count·log(count/mean) − excess, where excess = count − mean, exact near count == mean.

    Source: Loader 2000, "Fast and Accurate Computation of Binomial Probabilities", function bd0.
    """
    if abs(excess) > 0.1 * (count + mean):
        return count * math.log(count / mean) - excess
    ratio = excess / (count + mean)
    result = excess * ratio
    power = 2 * count * ratio
    for odd in range(3, FRACTION_STEPS_MAX, 2):
        power *= ratio * ratio
        if result + power / odd == result:
            break
        result += power / odd
    return result


def _stirling_error(z: float) -> float:
    """Returns log Γ(z) − ((z − ½)·log z − z + ½·log 2π), the remainder of Stirling's formula.

    Source: DLMF 5.11.1; below 16 the series does not reach double precision and the difference does not
    cancel much.
    """
    if z < 16:
        return math.lgamma(z) - ((z - 0.5) * math.log(z) - z + 0.5 * math.log(2 * math.pi))
    w = 1 / (z * z)
    return (1 / 12 - w * (1 / 360 - w * (1 / 1260 - w * (1 / 1680 - w / 1188)))) / z
