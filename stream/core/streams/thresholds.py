"""How many events of a histogram lie at or below a threshold: exact where it is a bound, else an interval."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from stream.core.columns import Array
from stream.core.points import MetricType, Points
from stream.core.streams.ragged import sums
from stream.core.streams.steps import Steps

UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Units of duration, in nanoseconds. Source: UCUM."""

_INDEX_ERROR = 2.0**-16
"""A threshold this close to a bound of an exponential histogram, in buckets, may be on either side of it: at the finest
scale the logarithm of a duration errs by up to 2^-18."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """Shapes: `known` bool[n]: a histogram in a unit of duration; `low`, `high` int64[n]: the events that are surely,
    and those that are possibly, at or below the threshold. Both are 0 where not known.
    """

    known: Array
    low: Array
    high: Array


def within(points: Points, steps: Steps, threshold_ns: int) -> Within:
    """Returns how many of the events that each step adds took at most `threshold_ns` (0 or more).

    Explicit buckets include their upper bound; exponential bucket i covers (base^i, base^(i+1)]. Negative values are
    within, and so is the zero bucket unless it reaches beyond the threshold.
    """
    assert threshold_ns >= 0
    is_duration = np.array([unit in UNIT_NS for unit in points.units], bool)
    known = (points.type >= MetricType.HISTOGRAM) & is_duration[points.unit]
    sure, possible = _cuts(points, steps, np.flatnonzero(known), threshold_ns)
    length = np.diff(points.bucket_first)
    first = points.bucket_first[:-1]
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(steps.buckets)])
    low = total[first + np.clip(sure, 0, length)] - total[first] + steps.negative
    high = total[first + np.clip(possible, 0, length)] - total[first] + steps.negative + steps.zero
    unit_ns = np.array([UNIT_NS.get(unit, 0) for unit in points.units], np.float64)[points.unit]
    low += steps.zero * (points.zero_threshold * unit_ns <= threshold_ns)
    no_buckets = steps.n - sums(steps.buckets, length) - steps.zero - steps.negative
    high += np.maximum(no_buckets, 0)
    low, high = np.clip(low, 0, steps.n), np.clip(high, 0, steps.n)
    return Within(known=known, low=low * known, high=high * known)


def _cuts(points: Points, steps: Steps, index: Array, threshold_ns: int) -> tuple[Array, Array]:
    """Returns int64[n] each: how many of a point's buckets are surely, and possibly, within the threshold."""
    sure, possible = np.zeros(len(points), np.int64), np.zeros(len(points), np.int64)
    exponential = points.type[index] == MetricType.EXPONENTIAL_HISTOGRAM
    for kind, shape in ((False, points.bounds), (True, steps.scale)):
        chosen = index[exponential == kind]
        if not len(chosen):
            continue
        units = len(points.units)
        codes, which = np.unique(shape[chosen].astype(np.int64) * units + points.unit[chosen], return_inverse=True)
        cuts = []
        for code in codes.tolist():
            number, unit_ns = code // units, UNIT_NS[points.units[code % units]]
            if kind:
                cuts.append(_exponential_cut(number, unit_ns, threshold_ns))
            else:
                cuts.append(_explicit_cut(points.bounds_sets[number], unit_ns, threshold_ns))
        both = np.array(cuts, np.int64)[which]
        offset = steps.bucket_offset[chosen].astype(np.int64) * kind
        sure[chosen], possible[chosen] = both[:, 0] - offset, both[:, 1] - offset
    return sure, possible


@lru_cache(maxsize=4096)
def _explicit_cut(bounds: tuple[float, ...], unit_ns: int, threshold_ns: int) -> tuple[int, int]:
    """The bounds are taken as written in decimal: 0.1 s is 100,000,000 ns."""
    finite = [Decimal(repr(bound)) * unit_ns for bound in bounds if math.isfinite(bound)]
    below = 1 if bounds and bounds[0] == -math.inf else 0
    threshold = Decimal(threshold_ns)
    sure, possible = bisect_right(finite, threshold), bisect_left(finite, threshold) + 1
    return below + sure, below + max(sure, possible)


@lru_cache(maxsize=4096)
def _exponential_cut(scale: int, unit_ns: int, threshold_ns: int) -> tuple[int, int]:
    """Returns the first index that is not surely within, and the first that is surely beyond."""
    if threshold_ns == 0:
        return -(1 << 62), -(1 << 62)
    # (2 ** 2 ** -scale) ** x = threshold; a power of two is exact.
    threshold = Fraction(threshold_ns, unit_ns)
    x = math.ldexp(math.log2(threshold), scale)
    if threshold.numerator.bit_count() == threshold.denominator.bit_count() == 1:
        return math.floor(x), math.ceil(x)
    return math.floor(x - _INDEX_ERROR), math.ceil(x + _INDEX_ERROR)
