"""Calendar windows of OpenSLO files: from a duration, a start and a time zone to the minutes at which periods begin.

Everything is counted on the local wall clock. Period k begins at the start plus k durations, each computed from the
start and not from the one before:

* Months, quarters and years keep the day of the month, or take the month's last day where it has no such day: from
  31 January, months begin on 28 or 29 February and on 31 March. Source: RFC 7529, section 4.1, `SKIP=BACKWARD`.
* Minutes, hours, days and weeks are those of the wall clock, too: `1d` begins at the same time every day, and has
  23 or 25 hours where the clocks change.
* A period begins at the first instant at which the local clock shows its begin, or later. So a time that occurs
  twice is its first occurrence (RFC 5545, section 3.3.5; PEP 495, `fold=0`), and a time that the clocks leap over is
  the instant of the leap (ICU, `WALLTIME_NEXT_VALID`; RFC 5545 would go on as far behind the leap as the time lies
  within it, and leave a day without its first minutes). A period whose days do not exist at all is left out.
* A boundary within a minute (local times differed from UTC by odd seconds, the last one until 1972) is that minute.

The zones are those of the package `tzdata`, never of the machine: the same lock file gives the same minutes anywhere.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import TypeVar
from zoneinfo import ZoneInfo

from stream.config.problems import nearest, quoted
from stream.config.sections import Section
from stream.core.slo.calendar import Calendar
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, SECOND_NS

CALENDAR_FIELDS = ("startTime", "timeZone")

YEARS_AHEAD = 5
"""Whole years after the current one for which boundaries are computed; then the files have to be applied again."""

DAYS_BACK = 100
"""Boundaries go back this far from the begin of the current year, and one period further: as far as cells are kept."""

BOUNDARIES_MAX = 4096
"""Of the shortest periods, fewer years fit: of 8 h, the rest of the current one and two more."""

LENGTH_MINUTES_MIN = 8 * HOUR_MINUTES
"""Events may come 6 h late. Where a night loses an hour or two, they still belong to this period or the one before."""

LENGTH_YEARS_MAX = 10

Value = TypeVar("Value")

_MINUTES = {"m": 1, "h": HOUR_MINUTES, "d": DAY_MINUTES, "w": 7 * DAY_MINUTES}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_NOMINAL_MINUTES = {1: 30 * DAY_MINUTES, 3: 90 * DAY_MINUTES, 12: 365 * DAY_MINUTES}
_LENGTH = re.compile(r"([1-9][0-9]{0,8})([mhdwMQY])", re.ASCII)
_START = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})", re.ASCII)
_OFFSET = re.compile(r"\s*(Z|z|UTC|[+-][0-9]{2}:?[0-9]{2})", re.ASCII)
_FIXED = re.compile(r"(UTC|GMT)?([+-])0?([0-9]{1,2})(:?[0-9]{2})?", re.ASCII)
_ABBREVIATION = re.compile(r"[A-Z]{2,5}", re.ASCII)
_POSIX = re.compile(r"[A-Za-z]{3,}[+-]?[0-9]{1,2}([A-Za-z,:].*)?", re.ASCII)
_SIMILARITY_MIN = 0.8
_NO_ZONE = "Factory"
"""A name in the database for clocks that were never set."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock has no zone until it is placed in one
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A calendar duration: whole months, or minutes of the wall clock. One of the two is 0."""

    text: str
    months: int = 0
    minutes: int = 0

    @property
    def nominal_minutes(self) -> int:
        """The length that alerts are scaled to: a month has 30 days, a quarter 90, a year 365.

        Source: The Site Reliability Workbook, chapter 5, states its factors for 30 days.
        """
        for months, minutes in sorted(_NOMINAL_MINUTES.items(), reverse=True):
            if self.months and self.months % months == 0:
                return self.months // months * minutes
        return self.minutes


def read_calendar(window: Section, now_ns: int) -> tuple[Calendar, Length] | None:
    """Returns the calendar of an entry of `timeWindow` and how long its periods are, or None after reports.

    Args:
        window: The entry, with `duration` and `calendar`.
        now_ns: Present time. All of a year give the same boundaries.
    """
    example = "`calendar: {startTime: 2026-01-01 00:00:00, timeZone: Europe/Berlin}`"
    length = _read(window, "duration", read_length, "add `duration: 1M`")
    section = window.section("calendar", CALENDAR_FIELDS, missing=f"add {example}")
    if section is None:
        return None
    start = _read(section, "startTime", read_start, "add `startTime: 2026-01-01 00:00:00`")
    zone = _read(section, "timeZone", read_zone, "add `timeZone: Europe/Berlin`, or `UTC`")
    if length is None or start is None or zone is None:
        return None
    calendar = calendar_of(length, start, zone, now_ns)
    if isinstance(calendar, str):
        section.refuse("startTime", calendar)
        return None
    return calendar, length


def _read(section: Section, name: str, read: Callable[[str], Value | str], missing: str) -> Value | None:
    text = section.text(name, missing=missing)
    value = None if text is None else read(text)
    if isinstance(value, str):
        section.refuse(name, value)
        return None
    return value


def read_length(text: str) -> Length | str:
    """Returns the length of a calendar window, or a message that says what is wrong.

    Source: OpenSLO v1, duration-shorthand: a positive integer and one of m, h, d, w, M, Q, Y.
    """
    match = _LENGTH.fullmatch(text)
    if match is None:
        units = ", ".join((*_MINUTES, *_MONTHS))
        return f"{quoted(text)} is not a duration; write a whole number and one of {units}, for example `1M`"
    count, unit = int(match[1]), match[2]
    if unit in _MONTHS:
        length = Length(text=text, months=count * _MONTHS[unit])
    else:
        length = Length(text=text, minutes=count * _MINUTES[unit])
    if unit in _MINUTES and length.minutes < LENGTH_MINUTES_MIN:
        fix = (
            f"write `{count}M` for months" if unit == "m" and count <= 12 else "write `8h` or more, or a rolling window"
        )
        return f"{quoted(text)} is shorter than 8 hours, too short for events that come 6 hours late; {fix}"
    if length.nominal_minutes > LENGTH_YEARS_MAX * _NOMINAL_MINUTES[12]:
        return f"{quoted(text)} is longer than {LENGTH_YEARS_MAX} years; write `{LENGTH_YEARS_MAX}Y` or less"
    return length


def read_start(text: str) -> datetime | str:
    """Returns the wall clock's time at which the first period begins, or a message that says what is wrong.

    Source: OpenSLO v1, `startTime`: date and time, 24 h, without a zone.
    """
    match = _START.match(text)
    if match is None:
        return f"{quoted(text)} is not a date and a time; write for example `2026-01-01 00:00:00`"
    rest = text[match.end() :]
    if _OFFSET.fullmatch(rest):
        return f"{quoted(text)} has an offset, and `timeZone` says where it is; write `{match[1]} {match[2]}`"
    try:
        start = datetime.fromisoformat(f"{match[1]}T{match[2]}")
    except ValueError:
        return f"{quoted(text)} is no day or no time of the day; write for example `2026-01-01 00:00:00`"
    if rest or start.second:
        return f"{quoted(text)} does not lie on a full minute; write `{match[1]} {match[2][:-2]}00`"
    return start


def read_zone(text: str) -> ZoneInfo | str:
    """Returns a time zone by its IANA name, of which `UTC`, `CET` and `EST` are some, or what is wrong with it."""
    if text in _zone_names():
        with files("tzdata").joinpath(f"zoneinfo/{text}").open("rb") as data:
            return ZoneInfo.from_file(data, key=text)
    fixed = _FIXED.fullmatch(text)
    if fixed:
        same = _same_offset(fixed)
        also = f", or {same} (signs are reversed there)" if same else ""
        return f"{quoted(text)} is an offset; write the name of a place, for example `Europe/Berlin`{also}"
    fix = "write a name of the IANA database, for example `Europe/Berlin` or `UTC`"
    if _ABBREVIATION.fullmatch(text):  # nothing is suggested: CEST is one letter from EST, and half a world
        return f"{quoted(text)} is an abbreviation, and no zone has it as its name; {fix}"
    if _POSIX.fullmatch(text):
        return f"{quoted(text)} is a POSIX rule; {fix}"
    guess = _meant(text)
    return f"{quoted(text)} is not the name of a time zone; {f'did you mean `{guess}`?' if guess else fix}"


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(files("tzdata").joinpath("zones").read_text("ascii").split()) - {_NO_ZONE}


def _same_offset(fixed: re.Match[str]) -> str | None:
    """Returns the quoted name of the zone without summer time that has an offset of whole hours; None without one."""
    minutes = (fixed[4] or "00").removeprefix(":")
    name = f"Etc/GMT{'-' if fixed[2] == '+' else '+'}{int(fixed[3])}"
    return f"`{name}`" if minutes == "00" and name in _zone_names() else None


def _meant(text: str) -> str | None:
    """Returns the zone whose name, or whose city, is close to a text."""
    by_city = {name.rpartition("/")[2]: name for name in sorted(_zone_names())}
    city = nearest(text, by_city, ratio_min=_SIMILARITY_MIN)
    return nearest(text, _zone_names(), ratio_min=_SIMILARITY_MIN) or (by_city[city] if city else None)


def calendar_of(length: Length, start: datetime, zone: ZoneInfo, now_ns: int) -> Calendar | str:
    """Returns the calendar of periods of a length, or a message that says what is wrong with its start.

    It reaches from before the begin of the current year (UTC; see `DAYS_BACK`) to the end of the fifth year after
    it, and depends on the present time by the year alone: applied twice in a year, a file gives the same bundle. It
    has the begin of no period before `start`.

    Args:
        length: Of a period.
        start: Begin of period 0 on the wall clock.
        zone: Where that clock hangs.
        now_ns: Present time.
    """
    year = (_EPOCH + now_ns // SECOND_NS * _SECOND).year
    since = _EPOCH.replace(year=year) - timedelta(days=DAYS_BACK)
    until = _EPOCH.replace(year=year + YEARS_AHEAD + 1)
    if start >= until:
        return (
            f"`{start}` is more than {YEARS_AHEAD} years away; write the begin of the first period, or an earlier one"
        )
    first = max(0, _number(length, start, since) - 1)
    last = min(_number(length, start, until) + 1, first + BOUNDARIES_MAX - 1)
    minutes = (_instant_s(_begin(length, start, k), zone) // 60 for k in range(first, last + 1))
    return Calendar(name=f"{length.text}@{start.isoformat()} {zone.key}", boundaries=tuple(dict.fromkeys(minutes)))


def _begin(length: Length, start: datetime, k: int) -> datetime:
    """Returns the wall clock's time at which period k begins."""
    if not length.months:
        return start + k * timedelta(minutes=length.minutes)
    years, month = divmod(start.month - 1 + k * length.months, 12)
    year = start.year + years
    return start.replace(year=year, month=month + 1, day=min(start.day, monthrange(year, month + 1)[1]))


def _number(length: Length, start: datetime, time: datetime) -> int:
    """Returns the number of the period that holds a time of the wall clock; below 0 before the start."""
    if not length.months:
        return (time - start) // timedelta(minutes=length.minutes)
    k = ((time.year - start.year) * 12 + time.month - start.month) // length.months
    return k if _begin(length, start, k) <= time else k - 1


def _instant_s(time: datetime, zone: ZoneInfo) -> int:
    """Returns the first second since 1970 in which the wall clock shows `time` or later."""
    early, late = _seconds(time, zone, fold=0), _seconds(time, zone, fold=1)
    if early <= late:
        return early
    # The clocks leap over it. PEP 495: `fold=0` is then read by the offset before the leap and lies behind it.
    leapt = range(late, early)
    return late + bisect_left(leapt, True, key=lambda second: _wall_clock(second, zone) >= time)


def _seconds(time: datetime, zone: ZoneInfo, fold: int) -> int:
    offset = time.replace(tzinfo=zone, fold=fold).utcoffset()
    assert offset is not None
    return (time - _EPOCH - offset) // _SECOND


def _wall_clock(second: int, zone: ZoneInfo) -> datetime:
    return (_EPOCH.replace(tzinfo=UTC) + second * _SECOND).astimezone(zone).replace(tzinfo=None)
