"""The gap between a cohort and everyone: exact, and not by chance only where the two kinds of events differ."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.slo.cohort_gap import cohort_gap
from stream.core.units import WEIGHT_ONE
from tests.core.slo.test_sli import weighed


def test_a_cohort_is_compared_with_everyone_and_tested_against_the_others():
    """14 of 70 bad in the cohort, 32 of the 80 others: 20 % less 46 in 150."""
    gap = cohort_gap(weighed(70, 14), weighed(150, 46), WEIGHT_ONE)
    assert gap is not None
    assert (gap.ratio, gap.own_bad_ratio) == (Fraction(14, 70) - Fraction(46, 150), Fraction(14, 70))
    worse = cohort_gap(weighed(80, 32), weighed(150, 46), WEIGHT_ONE)
    assert worse is not None
    assert abs(worse.low - 0.0524 * 70 / 150) < 5e-5


def test_without_data_or_without_others_there_is_no_gap():
    assert cohort_gap(weighed(0, 0), weighed(10, 1), WEIGHT_ONE) is None
    assert cohort_gap(weighed(10, 1), weighed(10, 1), WEIGHT_ONE) is None


@given(*(st.integers(0, 1000) for _ in range(4)))
def test_the_bound_lies_below_the_gap(good, bad, others_good, others_bad):
    n, others = good + bad, others_good + others_bad
    gap = cohort_gap(weighed(n, bad), weighed(n + others, bad + others_bad), WEIGHT_ONE)
    assert (gap is None) == (n == 0 or others == 0)
    if gap is not None:
        assert gap.low <= float(gap.ratio) + 1e-12
        assert gap.ratio == Fraction(bad, n) - Fraction(bad + others_bad, n + others)


@pytest.mark.parametrize(("cohort", "every"), [((20, 1), (10, 1)), ((5, 4), (10, 3)), ((5, 0), (6, 2))])
def test_a_cohort_that_is_no_part_of_everyone_has_no_gap(cohort, every):
    """One of two was counted from another minute on, or by two counters that are not read at one instant."""
    assert cohort_gap(weighed(*cohort), weighed(*every), WEIGHT_ONE) is None
