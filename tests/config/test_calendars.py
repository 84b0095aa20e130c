"""Calendar windows begin when the wall clock says so, wherever it hangs; what is wrong in a file is told in place."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config.calendars import (
    BOUNDARIES_MAX,
    Length,
    calendar_of,
    read_calendar,
    read_length,
    read_start,
    read_zone,
)
from stream.config.problems import Problem
from stream.config.sections import open_section
from stream.config.yaml_positions import read_documents
from stream.core.slo.calendar import Calendar
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, SECOND_NS

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",  # midnight occurs twice
    "America/Santiago",  # no midnight once a year, and the summer is in January
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Antarctica/Troll",  # two hours of summer time
    "Africa/Casablanca",  # summer time but for Ramadan
    "Europe/Dublin",  # negative summer time
)


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


def made(length: str, start: str, zone: str, now: str) -> Calendar:
    duration, begin, place = read_length(length), read_start(start), read_zone(zone)
    assert not isinstance(duration, str)
    assert not isinstance(begin, str)
    assert not isinstance(place, str)
    calendar = calendar_of(duration, begin, place, ns(now))
    assert not isinstance(calendar, str)
    return calendar


def utc(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%d %H:%M")


def begins(calendar: Calendar, first: str, last: str) -> list[str]:
    """Returns the boundaries within [first, last), in UTC."""
    return [text for text in map(utc, calendar.boundaries) if first <= text < last]


def test_months_begin_on_the_day_of_the_start_or_the_last_of_the_month():
    calendar = made("1M", "2026-01-31 00:00:00", "UTC", "2027-06-01")
    assert begins(calendar, "2027", "2027-06") == [
        "2027-01-31 00:00",
        "2027-02-28 00:00",
        "2027-03-31 00:00",
        "2027-04-30 00:00",
        "2027-05-31 00:00",
    ]
    assert "2028-02-29 00:00" in map(utc, calendar.boundaries)


def test_half_hours_are_three_months_and_years_of_a_leap_day_end_with_february():
    assert begins(made("1Q", "2025-11-30 00:00:00", "UTC", "2026-06-01"), "2026", "2027") == [
        "2026-02-28 00:00",
        "2026-05-30 00:00",
        "2026-08-30 00:00",
        "2026-11-30 00:00",
    ]
    assert begins(made("1Y", "2024-02-29 00:00:00", "UTC", "2026-06-01"), "2024", "2029") == [
        "2024-02-29 00:00",
        "2025-02-28 00:00",
        "2026-02-28 00:00",
        "2027-02-28 00:00",
        "2028-02-29 00:00",
    ]


# Source: the IANA time zone database. Berlin: clocks change on the last Sundays of March and October. Sydney: on the
# first of April (back) and October (forward). Lord Howe: as Sydney, by half an hour. Kathmandu: +05:45 all year.
@pytest.mark.parametrize(
    ("zone", "day", "begin", "hours"),
    [
        ("Europe/Berlin", "2026-03-28", "2026-03-27 23:00", 24),
        ("Europe/Berlin", "2026-03-29", "2026-03-28 23:00", 23),
        ("Europe/Berlin", "2026-10-25", "2026-10-24 22:00", 25),
        ("Australia/Sydney", "2026-04-05", "2026-04-04 13:00", 25),
        ("Australia/Sydney", "2026-10-04", "2026-10-03 14:00", 23),
        ("Australia/Lord_Howe", "2026-04-05", "2026-04-04 13:00", 24.5),
        ("Asia/Kathmandu", "2026-03-29", "2026-03-28 18:15", 24),
        ("Asia/Kolkata", "2026-03-29", "2026-03-28 18:30", 24),
    ],
)
def test_days_are_as_long_as_they_are_there(zone: str, day: str, begin: str, hours: float):
    calendar = made("1d", "2020-01-01 00:00:00", zone, "2026-06-01")
    local_noon = datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo(zone))
    period = calendar.period_at(int(local_noon.timestamp()) // 60)
    assert period is not None
    assert utc(period.start_minute) == begin
    assert period.end_minute - period.start_minute == hours * 60


def test_a_begin_that_the_clocks_leap_over_is_the_instant_of_the_leap():
    # Source: the IANA time zone database: in Santiago 2026-09-06 begins at 01:00, which is 04:00 UTC.
    days = made("1d", "2026-01-01 00:00:00", "America/Santiago", "2026-06-01")
    assert begins(days, "2026-09-05", "2026-09-08") == ["2026-09-05 04:00", "2026-09-06 04:00", "2026-09-07 03:00"]
    # In Berlin there is no 02:30 on 2026-03-29: 03:00 is 01:00 UTC, not the 01:30 UTC of RFC 5545.
    nights = made("1d", "2026-01-01 02:30:00", "Europe/Berlin", "2026-06-01")
    assert begins(nights, "2026-03-28", "2026-03-31") == ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]


def test_a_begin_that_occurs_twice_is_its_first_occurrence():
    # Source: RFC 5545, section 3.3.5: TZID=America/New_York:20071104T013000 is 1:30 A.M. EDT (UTC-04:00).
    calendar = made("1d", "2007-01-01 01:30:00", "America/New_York", "2007-06-01")
    assert begins(calendar, "2007-11-04", "2007-11-06") == ["2007-11-04 05:30", "2007-11-05 06:30"]


def test_a_day_that_does_not_exist_is_no_period():
    # Source: the IANA time zone database: Samoa went from 2011-12-29 to 2011-12-31, at 10:00 UTC.
    calendar = made("1d", "2011-01-01 00:00:00", "Pacific/Apia", "2011-06-01")
    assert begins(calendar, "2011-12-28 11", "2012-01-01") == [
        "2011-12-29 10:00",
        "2011-12-30 10:00",
        "2011-12-31 10:00",
    ]


def test_a_boundary_within_a_minute_is_that_minute():
    # Source: the IANA time zone database: Monrovia was 44 min 30 s behind UTC until 1972-01-07.
    calendar = made("1M", "1971-01-01 00:00:00", "Africa/Monrovia", "1971-06-01")
    assert begins(calendar, "1971-02", "1971-03") == ["1971-02-01 00:44"]


def test_shifts_of_eight_hours_begin_at_the_same_times_of_the_day_all_year():
    calendar = made("8h", "2026-01-01 06:00:00", "Europe/Berlin", "2026-06-01")
    berlin = ZoneInfo("Europe/Berlin")
    times = {datetime.fromtimestamp(minute * 60, berlin).strftime("%H:%M") for minute in calendar.boundaries}
    assert times == {"06:00", "14:00", "22:00"}


@settings(max_examples=60)
@given(
    zone=st.sampled_from(ZONES),
    wall=st.datetimes(datetime.fromisoformat("1975-01-01"), datetime.fromisoformat("2036-01-01")),
    near_a_change=st.none() | st.integers(0, 3),
    minutes=st.integers(-120, 120),
)
def test_a_begin_is_the_first_minute_in_which_the_clock_shows_it_or_later(zone, wall, near_a_change, minutes):
    place = ZoneInfo(zone)
    if near_a_change is not None:
        wall = changes(place)[near_a_change % len(changes(place))] + timedelta(minutes=minutes)
    wall = wall.replace(second=0, microsecond=0)
    calendar = calendar_of(Length(text="10Y", months=120), wall, place, int((wall - EPOCH).total_seconds()) * SECOND_NS)
    assert isinstance(calendar, Calendar)
    first = int((wall - EPOCH).total_seconds()) // 60 - 15 * HOUR_MINUTES
    shown = (minute for minute in range(first, first + 60 * HOUR_MINUTES) if clock(minute, place) >= wall)
    assert calendar.boundaries[0] == next(shown)


EPOCH = datetime.fromisoformat("1970-01-01")


def clock(minute: int, place: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC).astimezone(place).replace(tzinfo=None)


@cache
def changes(place: ZoneInfo) -> list[datetime]:
    """Returns the times of the wall clock at which it was changed in 2010 and 2011, and one where it never was."""
    half_hours = range(ns("2010-01-01") // SECOND_NS // 60, ns("2012-01-01") // SECOND_NS // 60, 30)
    shown = [clock(minute, place) for minute in half_hours]
    return [b for a, b in pairwise(shown) if b - a != timedelta(minutes=30)] or shown[:1]


@settings(max_examples=60)
@given(
    length=st.sampled_from(("8h", "12h", "1000m", "1d", "3d", "1w", "1M", "5M", "1Q", "1Y", "10Y")),
    start=st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("2029-01-01")),
    zone=st.sampled_from(ZONES),
    now=st.datetimes(datetime.fromisoformat("2024-01-01"), datetime.fromisoformat("2029-01-01")),
)
def test_the_present_has_a_period_and_neighbours_within_the_bounds(length, start, zone, now):
    calendar = made(length, start.strftime("%Y-%m-%d %H:%M:00"), zone, now.isoformat())
    assert len(calendar.boundaries) <= BOUNDARIES_MAX
    minute = int((now - EPOCH).total_seconds()) // 60
    if start < now - timedelta(days=1):
        for days in (0, 365, 2 * 365 + 30):
            assert calendar.period_at(minute + days * DAY_MINUTES) is not None
    if start < now - timedelta(days=11 * 366):
        for days in (0, 99):
            period = calendar.period_at(minute - days * DAY_MINUTES)
            assert period is not None
            assert calendar.period_at(period.start_minute - 1) is not None
    assert Calendar.load(calendar.dump()) == calendar
    assert len(str(calendar.dump())) < 4_000


def test_one_year_gives_one_calendar_and_the_next_agrees_where_both_know():
    args = ("1d", "2020-01-01 00:00:00", "Europe/Berlin")
    first, same, later = (made(*args, now) for now in ("2026-01-01T00:00", "2026-12-31T23:59", "2027-01-01T00:00"))
    assert first == same
    assert later.boundaries != first.boundaries
    common = set(range(later.boundaries[0], first.boundaries[-1]))
    assert common & set(first.boundaries) == common & set(later.boundaries)


def test_nothing_begins_before_the_start():
    calendar = made("1M", "2028-05-01 00:00:00", "UTC", "2026-06-01")
    assert utc(calendar.boundaries[0]) == "2028-05-01 00:00"
    assert calendar.period_at(ns("2026-06-01") // SECOND_NS // 60) is None


@pytest.mark.parametrize(
    ("text", "days"),
    [("1M", 30), ("1Q", 90), ("3M", 90), ("1Y", 365), ("12M", 365), ("4Q", 365), ("2w", 14), ("1d", 1), ("36h", 1.5)],
)
def test_lengths_that_alerts_are_scaled_to(text: str, days: float):
    length = read_length(text)
    assert isinstance(length, Length)
    assert length.nominal_minutes == days * DAY_MINUTES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1h",
            "is shorter than 8 hours, too short for events that come 6 hours late; write `8h` or more, or a rolling",
        ),
        ("1m", "write `1M` for months"),
        ("60m", "write `8h` or more"),
        ("11Y", "is longer than 10 years; write `10Y` or less"),
        ("999999999w", "is longer than 10 years"),
        *(
            (text, "is not a duration; write a whole number and one of m,")
            for text in ("", "0d", "01M", "1S", "1 M", "M")
        ),
    ],
)
def test_durations_that_are_refused(text: str, message: str):
    refusal = read_length(text)
    assert isinstance(refusal, str)
    assert message in refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-01-01", "is not a date and a time; write for example `2026-01-01 00:00:00`"),
        ("2026-02-29 00:00:00", "is no day or no time of the day"),
        ("2026-01-01 24:00:00", "is no day or no time of the day"),
        ("2026-01-01T00:00:00Z", "has an offset, and `timeZone` says where it is; write `2026-01-01 00:00:00`"),
        ("2026-01-01 00:00:00+02:00", "has an offset, and `timeZone` says where it is; write `2026-01-01 00:00:00`"),
        ("2026-01-01 06:00:30", "does not lie on a full minute; write `2026-01-01 06:00:00`"),
        ("2026-01-01 06:00:00.5", "does not lie on a full minute; write `2026-01-01 06:00:00`"),
        ("1.1.2026", "is not a date and a time"),
    ],
)
def test_starts_that_are_refused(text: str, message: str):
    refusal = read_start(text)
    assert isinstance(refusal, str)
    assert message in refusal


@pytest.mark.parametrize(
    "name", [*ZONES, "CET", "EST", "EST5EDT", "Etc/GMT-2", "Asia/Calcutta", "America/Argentina/Salta"]
)
def test_every_name_of_the_database_is_a_zone(name: str):
    zone = read_zone(name)
    assert isinstance(zone, ZoneInfo)
    assert zone.key == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("europe/berlin", "did you mean `Europe/Berlin`?"),
        ("Europe/Berlni", "did you mean `Europe/Berlin`?"),
        ("America/New York", "did you mean `America/New_York`?"),
        ("Kathmandu", "did you mean `Asia/Kathmandu`?"),
        ("CEST", "is an abbreviation, and no zone has it as its name; write a name of the IANA database"),
        ("PST", "is an abbreviation"),
        ("UTC+2", "is an offset; write the name of a place, for example `Europe/Berlin`, or `Etc/GMT-2` (signs are"),
        ("+05:30", "is an offset; write the name of a place, for example `Europe/Berlin`"),
        ("-08:00", "or `Etc/GMT+8`"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "is a POSIX rule"),
        ("Factory", "is not the name of a time zone; write a name"),
        ("localtime", "is not the name of a time zone; write a name"),
        ("America", "is not the name of a time zone"),
        ("../../../etc/localtime", "is not the name of a time zone"),
        ("/etc/localtime", "is not the name of a time zone"),
        ("x" * 100_000, "is not the name of a time zone"),
    ],
)
def test_zones_that_are_refused(text: str, message: str):
    refusal = read_zone(text)
    assert isinstance(refusal, str)
    assert message in refusal


def test_a_machine_without_a_zone_database_knows_the_zones_all_the_same():
    there = made("1d", "2026-01-01 00:00:00", "Europe/Berlin", "2026-06-01")
    zoneinfo.reset_tzpath(to=())
    try:
        assert made("1d", "2026-01-01 00:00:00", "Europe/Berlin", "2026-06-01") == there
    finally:
        zoneinfo.reset_tzpath()


def read(text: str) -> tuple[tuple[Calendar, Length] | None, list[str]]:
    problems: list[Problem] = []
    (node,) = read_documents("slo.yaml", text.encode()).nodes
    window = open_section(node, "slo.yaml", "", ("duration", "isRolling", "calendar"), problems)
    assert window is not None
    found = read_calendar(window, ns("2026-06-01"))
    return found, [str(problem) for problem in problems]


def test_a_window_of_a_file_becomes_a_calendar_with_a_name_that_says_what_it_is():
    found, problems = read(
        "duration: 1M\nisRolling: false\ncalendar:\n  startTime: 2026-01-01 00:00:00\n  timeZone: Europe/Berlin\n"
    )
    assert problems == []
    assert found is not None
    calendar, length = found
    assert calendar.name == "1M@2026-01-01T00:00:00 Europe/Berlin"
    assert calendar == made("1M", "2026-01-01T00:00:00", "Europe/Berlin", "2026-06-01")
    assert length.nominal_minutes == 30 * DAY_MINUTES


def test_all_that_is_wrong_in_a_window_is_told_at_once_each_with_its_place():
    found, problems = read("duration: 1h\ncalendar:\n  startTime: 2026-01-01\n  timeZone: Europe/Berlni\n  zone: x\n")
    assert found is None
    assert sorted(problem.split(" ")[0] + problem.split(" ")[1] for problem in problems) == [
        "slo.yaml:1:11:duration:",
        "slo.yaml:3:14:calendar.startTime:",
        "slo.yaml:4:13:calendar.timeZone:",
        "slo.yaml:5:3:calendar.zone:",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("duration: 1M", "slo.yaml:1:1: calendar: is missing; add `calendar: {startTime: 2026-01-01 00:00:00,"),
        ("duration: 1M\ncalendar: {startTime: 2026-01-01 00:00:00}", "2:1: calendar.timeZone: is missing; add"),
        ("duration: 1M\ncalendar: {timeZone: UTC}", "2:1: calendar.startTime: is missing; add"),
        ("calendar: {startTime: 2026-01-01 00:00:00, timeZone: UTC}", "1:1: duration: is missing; add"),
        (
            "duration: 1M\ncalendar: {startTime: 2126-01-01 00:00:00, timeZone: UTC}",
            "2:23: calendar.startTime: `2126-01-01 00:00:00` is more than 5 years away",
        ),
    ],
)
def test_what_is_missing_or_too_far_away(text: str, expected: str):
    found, problems = read(text)
    assert found is None
    assert len(problems) == 1
    assert expected in problems[0]
