"""Calendar windows: every minute between the boundaries is in one period, and the boundaries travel as few numbers."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.slo.calendar import Calendar, Period

boundary_sets = st.sets(st.integers(-(10**6), 10**8), min_size=1, max_size=30)


def calendar(*boundaries: int) -> Calendar:
    return Calendar(name="test", boundaries=boundaries)


def test_a_period_has_its_first_minute_and_not_that_of_the_next():
    weeks = calendar(100, 107, 115)
    first = Period(start_minute=100, end_minute=107)
    second = Period(start_minute=107, end_minute=115)
    assert [weeks.period_at(minute) for minute in (99, 100, 106, 107, 114, 115)] == [
        None,
        first,
        first,
        second,
        second,
        None,
    ]


@given(boundary_sets, st.lists(st.integers(-(10**6) - 5, 10**8 + 5), max_size=20))
def test_every_minute_is_in_the_period_that_a_search_of_all_finds(boundaries, minutes):
    ordered = sorted(boundaries)
    periods = calendar(*ordered)
    for minute in [*minutes, *ordered, *(b - 1 for b in ordered)]:
        found = [Period(start_minute=a, end_minute=b) for a, b in pairwise(ordered) if a <= minute < b]
        assert periods.period_at(minute) == (found[0] if found else None)


@given(boundary_sets)
def test_what_was_dumped_and_travelled_as_json_is_the_same_calendar(boundaries):
    periods = calendar(*sorted(boundaries))
    assert Calendar.load(orjson.loads(orjson.dumps(periods.dump()))) == periods


def test_a_year_of_days_travels_as_a_few_numbers():
    days = calendar(*range(0, 365 * 1440, 1440))
    assert days.dump() == {"name": "test", "first_minute": 0, "lengths": [[1440, 364]]}


@pytest.mark.parametrize("boundaries", [(), (1, 1), (2, 1)])
def test_boundaries_that_do_not_increase_are_nobodys_calendar(boundaries):
    with pytest.raises(AssertionError, match="test: "):
        calendar(*boundaries)
