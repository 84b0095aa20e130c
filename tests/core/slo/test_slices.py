"""How a slice is judged: exactly, and never from too few events."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.cells import COLUMNS, Column
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.slices import judge_slice
from stream.core.slo.spec import EmptySlice, Slices
from tests.core.slo.test_burn_rate import cell

counts = st.integers(0, 10**6)


@given(counts, counts, st.sampled_from(("0.5", "0.9", "0.999", "0.99999")))
def test_a_slice_is_good_where_its_exact_ratio_reaches_the_target(good, bad, target):
    judged = judge_slice(cell(good + bad, bad), Slices(target=target))
    if good + bad == 0:
        assert judged is None
        return
    assert judged is not None
    is_bad = Fraction(good, good + bad) < Fraction(target)
    assert (judged[Column.N], judged[Column.N_BAD]) == (1, is_bad)
    assert (judged[Column.WEIGHT], judged[Column.WEIGHT_BAD]) == (SLICE_ONE, is_bad * SLICE_ONE)


def test_exactly_the_target_is_good_although_no_float_is_it():
    """7 of 10 against 0.7: the float 0.7 lies below seven tenths, 0.1 + 0.6 above."""
    judged = [judge_slice(cell(n, bad), Slices(target="0.7")) for n, bad in ((10, 3), (10**6, 300_001))]
    assert [found and found[Column.N_BAD] for found in judged] == [0, 1]


@given(counts, counts)
def test_a_ratio_slice_is_rounded_by_less_than_a_unit_and_against_the_service(good, bad):
    judged = judge_slice(cell(good + bad, bad), Slices())
    if judged is not None:
        exact = Fraction(bad, good + bad) * SLICE_ONE
        assert exact <= judged[Column.WEIGHT_BAD] < exact + 1
        assert judged[Column.N_BAD] == (bad > 0)


@given(st.integers(0, 20), st.integers(1, 20), st.sampled_from(EmptySlice), st.sampled_from(("", "0.9")))
def test_too_few_events_count_as_declared(n, events_min, empty, target):
    judged = judge_slice(cell(n, n), Slices(target=target, events_min=events_min, empty=empty))
    if n >= events_min:
        assert judged is not None
        assert judged[Column.WEIGHT_BAD] == SLICE_ONE
    elif empty is EmptySlice.IGNORE:
        assert judged is None
    else:
        assert judged is not None
        assert judged[Column.WEIGHT_BAD] == (SLICE_ONE if empty is EmptySlice.BAD else 0)


@pytest.mark.parametrize("empty", list(EmptySlice))
def test_no_event_is_never_divided_by(empty):
    judged = judge_slice([0] * COLUMNS, Slices(events_min=0, target="0.9", empty=empty))
    assert (judged is None) == (empty is EmptySlice.IGNORE)


def test_ninety_days_of_ratios_fit_into_an_integer():
    """A thousand points a second, all bad, for ninety days."""
    assert 1000 * 86_400 * 90 * SLICE_ONE < 2**63
