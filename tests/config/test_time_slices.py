"""Budgeting methods, slices and windows."""

from __future__ import annotations

import pytest

from stream.core.slo.calendar import Calendar
from stream.core.slo.spec import BudgetingMethod, EmptySlice, Slices
from stream.core.units import DAY_MINUTES
from tests.config.reading import loaded, only, read, slo

MONTH = "{duration: 1M, calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Berlin}}"


def test_occurrences_have_no_slices() -> None:
    objective = only(slo())
    assert (objective.method, objective.slices) == (BudgetingMethod.OCCURRENCES, None)


@pytest.mark.parametrize(
    ("written", "minutes"),
    [("1", 1), ("5", 5), ("60", 60), ("1m", 1), ("15m", 15), ("1h", 60), *((str(n), n) for n in (2, 3, 4, 6, 10, 12))],
)
def test_slices_divide_an_hour(written: str, minutes: int) -> None:
    objective = only(slo(None, f"{{target: 0.99, timeSliceWindow: {written}}}", method="RatioTimeslices"))
    assert objective.method is BudgetingMethod.RATIO_TIMESLICES
    assert objective.slices == Slices(minutes=minutes, target="")


@pytest.mark.parametrize("written", ["7", "8", "9", "45", "61", "90", "2h", "1d", "0", "-5", "1.0", "5s", "'5'"])
def test_lengths_that_slices_cannot_have(written: str) -> None:
    _, problems = read(slo(None, f"{{target: 0.99, timeSliceWindow: {written}}}", method="RatioTimeslices"))
    assert [problem.path for problem in problems] == ["spec.objectives[0].timeSliceWindow"]


@pytest.mark.parametrize(("written", "target"), [("0.950", "0.95"), ("1", "1"), ("1.0", "1"), ("1e-3", "0.001")])
def test_a_slice_is_good_from_an_exact_ratio_on(written: str, target: str) -> None:
    objectives = f"{{target: 0.99, timeSliceTarget: {written}, timeSliceWindow: 5m}}"
    objective = only(slo(None, objectives, method="Timeslices"))
    assert objective.method is BudgetingMethod.TIMESLICES
    assert objective.slices == Slices(minutes=5, target=target)


@pytest.mark.parametrize("empty", list(EmptySlice))
def test_what_an_empty_slice_is(empty: EmptySlice) -> None:
    annotations = f'qma/empty-slice: {empty}, qma/slice-events-min: "20"'
    objectives = "{target: 0.99, timeSliceTarget: 0.9, timeSliceWindow: 1}"
    objective = only(slo(None, objectives, method="Timeslices", annotations=annotations))
    assert objective.slices == Slices(minutes=1, target="0.9", empty=empty, events_min=20)


def test_objectives_of_one_slo_may_be_sliced_differently() -> None:
    minutely = "{target: 0.99, timeSliceTarget: 0.9, timeSliceWindow: 1}"
    hourly = "{target: 0.9, timeSliceTarget: 1, timeSliceWindow: 1h}"
    configuration = loaded(slo(None, f"{minutely}, {hourly}", method="Timeslices"))
    slices = [objective.slices for objective in configuration.objectives]
    assert slices == [Slices(minutes=1, target="0.9"), Slices(minutes=60, target="1")]


@pytest.mark.parametrize(
    ("duration", "minutes"),
    [("1d", DAY_MINUTES), ("1w", 7 * DAY_MINUTES), ("1M", 30 * DAY_MINUTES), ("1Q", 90 * DAY_MINUTES)],
)
@pytest.mark.parametrize("rolls", ["", ", isRolling: false"])
def test_calendar_windows_name_their_calendar_and_have_a_nominal_length(
    duration: str, minutes: int, rolls: str
) -> None:
    configuration = loaded(slo(window=MONTH.replace("1M", duration).replace("}}", f"}}{rolls}}}")))
    (objective,), (calendar,) = configuration.objectives, configuration.calendars
    assert objective.calendar == calendar.name == f"{duration}@2026-01-01T00:00:00 Europe/Berlin"
    assert objective.window_minutes == minutes
    assert isinstance(calendar, Calendar)


def test_the_months_of_a_calendar_begin_at_midnight_of_its_zone() -> None:
    (calendar,) = loaded(slo(window=MONTH)).calendars
    # Source: GNU date, `date -d 'TZ="Europe/Berlin" 2026-03-01 00:00' +%s`, and the same for April.
    assert {29538660, 29583240} <= set(calendar.boundaries)


def test_objectives_of_one_calendar_share_it() -> None:
    configuration = loaded(slo(window=MONTH, name="a"), slo(window=MONTH, name="b"), slo(name="c"))
    assert [objective.calendar is None for objective in configuration.objectives] == [False, False, True]
    assert len(configuration.calendars) == 1


def test_a_slice_need_not_divide_a_calendar_window() -> None:
    objective = only(slo(None, "{target: 0.9, timeSliceWindow: 1h}", method="RatioTimeslices", window=MONTH))
    assert objective.slices == Slices(minutes=60, target="")
