"""Thresholds on histograms: exact at a bound, else an interval that holds the truth."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.points import MetricType, Temporality
from stream.core.streams import MetricStreams, within
from tests.core.streams.rules import Sample, points

HTTP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
MS = 1_000_000
values_ms = st.lists(st.integers(1, 20_000), min_size=1, max_size=50)


def interval(sample: Sample, threshold_ns: int) -> tuple[bool, int, int]:
    """Returns (whether it can be told, low, high) of one delta point."""
    batch = points([sample])
    steps = MetricStreams().apply(batch, watched_from_ns=np.zeros(1, np.int64), streams_max=10)
    found = within(batch, steps, threshold_ns)
    return bool(found.known[0]), int(found.low[0]), int(found.high[0])


def explicit(values: list[float], bounds: tuple[float, ...] = HTTP_BOUNDS, unit: str = "s") -> Sample:
    """Returns the histogram of some values: buckets include their upper bound."""
    buckets = [0] * (len(bounds) + 1)
    for value in values:
        buckets[bisect_left(bounds, value)] += 1
    return Sample(
        type=MetricType.HISTOGRAM, temporality=Temporality.DELTA, bounds=bounds, buckets=tuple(buckets), unit=unit
    )


def exponential(values: list[float], scale: int, unit: str = "s", **rest: float) -> Sample:
    """Returns the exponential histogram of some positive values."""
    cells = Counter(math.ceil(math.log2(value) * 2.0**scale) - 1 for value in values)
    low, high = min(cells, default=0), max(cells, default=-1)
    return Sample(
        type=MetricType.EXPONENTIAL_HISTOGRAM,
        temporality=Temporality.DELTA,
        scale=scale,
        offset=low,
        buckets=tuple(cells[i] for i in range(low, high + 1)),
        unit=unit,
        **rest,  # type: ignore[arg-type]
    )


@given(values_ms, st.sampled_from(HTTP_BOUNDS))
def test_a_threshold_that_is_a_bound_is_exact(values: list[int], bound: float):
    exact = sum(value <= round(bound * 1000) for value in values)
    sample = explicit([value / 1000 for value in values])
    assert interval(sample, round(bound * 1000) * MS) == (True, exact, exact)


@given(values_ms, st.integers(0, 20_000))
def test_any_other_threshold_gives_an_interval_that_holds_the_truth(values: list[int], threshold_ms: int):
    known, low, high = interval(explicit([value / 1000 for value in values]), threshold_ms * MS)
    assert known
    assert low <= sum(value <= threshold_ms for value in values) <= high
    if threshold_ms / 1000 not in HTTP_BOUNDS:
        upper = bisect_left(HTTP_BOUNDS, threshold_ms / 1000)
        inside = explicit([value / 1000 for value in values]).buckets[upper]
        assert high - low == inside  # no wider than the one bucket that holds the threshold


@given(values_ms, st.integers(1, 20_000), st.integers(-3, 8))
def test_exponential_thresholds_give_an_interval_that_holds_the_truth(values: list[int], threshold_ms: int, scale: int):
    sample = exponential([value / 1000 for value in values], scale)
    known, low, high = interval(sample, threshold_ms * MS)
    assert known
    assert low <= sum(value <= threshold_ms for value in values) <= high
    assert high - low <= max(sample.buckets)


@pytest.mark.parametrize(("threshold_ms", "expected"), [(250, 2), (500, 3), (1000, 4), (2000, 5)])
@pytest.mark.parametrize("scale", [0, 3])
def test_a_power_of_two_is_a_bound_of_every_exponential_histogram_of_scale_0_or_more(
    threshold_ms: int, expected: int, scale: int
):
    sample = exponential([0.2, 0.25, 0.5, 1.0, 2.0, 2.1], scale)
    assert interval(sample, threshold_ms * MS) == (True, expected, expected)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_units_of_duration(unit: str, factor: float):
    bounds = tuple(bound * factor for bound in (0.1, 0.3, 0.7))
    sample = explicit([value * factor for value in (0.05, 0.2, 0.4, 1.0)], bounds, unit)
    for threshold_ms, expected in ((100, 1), (300, 2), (700, 3)):
        assert interval(sample, threshold_ms * MS) == (True, expected, expected)


@pytest.mark.parametrize("unit", ["", "1", "By", "min", "S"])
def test_no_unit_of_duration_tells_nothing(unit: str):
    assert interval(explicit([0.1, 0.2], unit=unit), 500 * MS) == (False, 0, 0)


def test_a_sum_tells_nothing():
    sample = Sample(type=MetricType.SUM, temporality=Temporality.DELTA, value=5)
    assert interval(sample, 500 * MS) == (False, 0, 0)


def test_zero_and_negative_values_are_within():
    sample = exponential([4.0], 0, zero=3, negative=2)
    assert interval(sample, 0) == (True, 5, 5)
    assert interval(sample, 1000 * MS) == (True, 5, 5)
    assert interval(sample, 4000 * MS) == (True, 6, 6)


def test_a_zero_bucket_that_reaches_beyond_the_threshold_is_unsure():
    sample = exponential([4.0], 0, zero=3, zero_threshold=0.5)
    assert interval(sample, 100 * MS) == (True, 0, 3)
    assert interval(sample, 500 * MS) == (True, 3, 3)


def test_a_histogram_without_buckets_is_all_unsure():
    batch = points([Sample(type=MetricType.HISTOGRAM, temporality=Temporality.DELTA)])
    batch.count[:] = 9
    steps = MetricStreams().apply(batch, watched_from_ns=np.zeros(1, np.int64), streams_max=10)
    found = within(batch, steps, 500 * MS)
    assert (found.known.tolist(), found.low.tolist(), found.high.tolist()) == ([True], [0], [9])


def test_one_bucket_without_bounds_is_all_unsure():
    assert interval(explicit([0.1, 0.2], ()), 500 * MS) == (True, 0, 2)


def test_infinite_bounds():
    assert interval(explicit([0.1, 0.2, 9.0], (-math.inf, 0.5, math.inf)), 500 * MS) == (True, 2, 2)
    assert interval(explicit([0.1, 0.2, 9.0], (-math.inf, 0.5, math.inf)), 600 * MS) == (True, 2, 3)


@pytest.mark.parametrize("scale", [-30, -10, 20, 30])
def test_extreme_scales(scale: int):
    sample = Sample(
        type=MetricType.EXPONENTIAL_HISTOGRAM,
        temporality=Temporality.DELTA,
        scale=scale,
        offset=(1 << 31) - 2,
        buckets=(1, 1),
    )
    _, low, high = interval(sample, 3_600_000 * MS)
    assert 0 <= low <= high <= 2
