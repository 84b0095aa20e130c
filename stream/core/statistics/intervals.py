"""Confidence intervals of a ratio bad/total, each for one look at a horizon fixed beforehand.

Wilson is for display: close to its nominal coverage on average, also at small totals. Clopper-Pearson is for
a horizon declared beforehand: its coverage is never below nominal. Both assume independent events; neither
survives repeated looks, for which `stream.core.statistics.sequential` exists.
"""

import math
from functools import lru_cache

import scipy  # its parts are imported when they are used: half a second, and few processes look at intervals


def effective_count(weight_sum: float, weight_square_sum: float) -> float:
    """Returns how many equally weighted events carry as much information as these weighted ones: (Σw)² / Σw².

    Args:
        weight_sum: Σw, the sum of the events' adjusted counts, >= 0.
        weight_square_sum: Σw², the sum of their squares, in the square of the same unit.

    Returns:
        The effective sample size; 0.0 when there is no weight at all. For n events it lies in [1, n].

    Source:
        Kish 1965, "Survey Sampling", section 11.7.
    """
    assert 0 <= weight_sum < math.inf
    assert 0 <= weight_square_sum < math.inf
    if weight_square_sum == 0:
        assert weight_sum == 0, "weights with a sum have a sum of squares"
        return 0.0
    # Divided first: the square of a large sum of integer weights need not fit in a float, the ratio does.
    return weight_sum * (weight_sum / weight_square_sum)


def wilson(bad: float, total: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the two-sided Wilson score interval of the ratio bad/total.

    Args:
        bad: Bad events, in [0, total]; for weighted events the weighted ratio times the effective count.
        total: All events, or their `effective_count`; need not be whole.
        confidence: Nominal coverage, in (0, 1).

    Returns:
        (lower, upper) within [0, 1]; (0.0, 1.0) when total <= 0: no data excludes nothing. The lower end is
        exactly 0.0 when bad is 0, the upper exactly 1.0 when bad equals total.

    Source:
        Wilson 1927; Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion", section
        3.1.1.
    """
    assert 0 < confidence < 1
    if total <= 0:
        return 0.0, 1.0
    assert 0 <= bad <= total < math.inf, f"bad {bad} is not within [0, total {total}]"
    ratio = bad / total
    z = _normal_quantile(0.5 + confidence / 2)
    z2_n = z * z / total
    spread = z * math.sqrt((ratio * (1 - ratio) + z2_n / 4) / total)
    upper = 1.0 if bad == total else min(1.0, (ratio + z2_n / 2 + spread) / (1 + z2_n))
    # The two ends are the roots of a quadratic and their product is ratio² / (1 + z²/n). Taking the lower one
    # from the product, not from a difference, keeps its digits when small and makes it exactly 0 at bad == 0.
    lower = ratio * ratio / ((1 + z2_n) * upper)
    return lower, upper


@lru_cache(maxsize=100)
def _normal_quantile(p: float) -> float:
    return float(scipy.special.ndtri(p))


def newcombe(
    first: tuple[float, tuple[float, float]], second: tuple[float, tuple[float, float]]
) -> tuple[float, float]:
    """Returns the interval of the difference of two independent ratios, first less second.

    Args:
        first: A ratio and its Wilson interval.
        second: Those that are taken from it, at the same confidence.

    Source:
        Newcombe 1998, "Interval Estimation for the Difference Between Independent Proportions", method 10.
    """
    (p, (p_low, p_high)), (q, (q_low, q_high)) = first, second
    return p - q - math.hypot(p - p_low, q_high - q), p - q + math.hypot(p_high - p, q - q_low)


def clopper_pearson(bad: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Returns the two-sided, equal-tailed Clopper-Pearson ("exact") interval of the ratio bad/total.

    Args:
        bad: Bad events, in [0, total].
        total: All events; whole, since the interval inverts a binomial test.
        confidence: Coverage that is guaranteed at a fixed total, in (0, 1). A one-sided bound at confidence c
            is the matching end of the two-sided interval at 2c − 1.

    Returns:
        (lower, upper) within [0, 1]; (0.0, 1.0) when total is 0.

    Source:
        Clopper and Pearson 1934; the ends are quantiles of Beta(k, n − k + 1) and Beta(k + 1, n − k).
    """
    assert 0 < confidence < 1
    assert 0 <= bad <= total, f"bad {bad} is not within [0, total {total}]"
    tail = (1 - confidence) / 2
    lower = 0.0 if bad == 0 else float(scipy.special.betaincinv(bad, total - bad + 1, tail))
    # The complement takes the small tail itself: 1 - tail would round it.
    upper = 1.0 if bad == total else float(scipy.special.betainccinv(bad + 1, total - bad, tail))
    return lower, upper
