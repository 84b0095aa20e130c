"""Burn rates as floats: as near to the exact ones as they say."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.core.cells import COLUMNS, Column
from stream.core.slo.burn_rates import ROUNDING, burn_rates

weights = st.integers(1, 1 << 62).flatmap(lambda weight: st.tuples(st.just(weight), st.integers(0, weight)))


@given(st.lists(weights, min_size=1), st.decimals("0.0001", "0.9999", places=7))
def test_rates_are_within_their_rounding_of_the_fractions(cells, target):
    sums = np.zeros((COLUMNS, len(cells)), np.int64)
    sums[Column.WEIGHT], sums[Column.WEIGHT_BAD] = zip(*cells, strict=True)
    allowed = 1 - Fraction(target)
    for rate, (weight, bad) in zip(burn_rates(sums, np.float64(allowed)).tolist(), cells, strict=True):
        exact = Fraction(bad, weight) / allowed
        assert abs(Fraction(rate) - exact) <= exact * Fraction(ROUNDING)


def test_without_data_there_is_no_rate():
    sums = np.zeros((COLUMNS, 2), np.int64)
    sums[Column.WEIGHT, 1] = 1
    assert np.isnan(burn_rates(sums, np.array([0.1, 0.1]))).tolist() == [True, False]
