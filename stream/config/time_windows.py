"""The window of an SLO's error budget: rolling, or periods of a calendar."""

from __future__ import annotations

from dataclasses import dataclass

from stream.config.calendars import read_calendar
from stream.config.durations import shorthand_minutes
from stream.config.problems import quoted
from stream.config.sections import Section
from stream.core.slo.calendar import Calendar
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

WINDOW_MINUTES_MIN = HOUR_MINUTES
WINDOW_MINUTES_MAX = 90 * DAY_MINUTES
"""The rings of the state keep 100 days."""

_EXAMPLE = "[{duration: 30d, isRolling: true}]"
_CALENDAR_UNITS = {"M": "month", "Q": "quarter", "Y": "year"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """The window of an error budget.

    Args:
        minutes: Its length; nominal where it is a calendar's.
        calendar: Its periods; None: it rolls.
    """

    minutes: int
    calendar: Calendar | None = None


def read_time_window(spec: Section, now_ns: int) -> TimeWindow | None:
    """Returns the one window in `timeWindow`, or None after a report.

    Args:
        spec: The section that holds the field.
        now_ns: Present time: a calendar's periods are computed for some years around it.
    """
    items = spec.items("timeWindow", example=_EXAMPLE, missing=f"add `timeWindow: {_EXAMPLE}`")
    if items is None:
        return None
    if len(items) != 1:
        spec.refuse("timeWindow", f"has {len(items)} windows; write exactly one, for example `{_EXAMPLE}`")
        return None
    path = f"{spec.path_of('timeWindow')}[0]"
    window = spec.section_of(items[0], path, ("duration", "isRolling", "calendar"), items[0].position)
    if window is None:
        return None
    if "calendar" not in window.entries:
        return _rolling(window)
    before = len(window.problems)
    if window.boolean("isRolling"):
        window.refuse("isRolling", "a calendar window does not roll; write `isRolling: false`, or remove `calendar`")
    found = read_calendar(window, now_ns)
    if found is None or len(window.problems) > before:
        return None
    calendar, length = found
    return TimeWindow(minutes=length.nominal_minutes, calendar=calendar)


def _rolling(window: Section) -> TimeWindow | None:
    if window.boolean("isRolling", missing="add `isRolling: true`") is False:
        fix = "write `isRolling: true`, or add `calendar: {startTime: 2026-01-01 00:00:00, timeZone: UTC}`"
        window.refuse("isRolling", f"a window that does not roll needs a calendar; {fix}")
    text = window.text("duration", missing="add `duration: 30d`")
    minutes = None if text is None else _read_length(text)
    if isinstance(minutes, str):
        window.refuse("duration", minutes)
        return None
    return None if minutes is None else TimeWindow(minutes=minutes)


def _read_length(text: str) -> int | str:
    """Returns the length of a rolling window in minutes, or a message that says what is wrong."""
    minutes = shorthand_minutes(text)
    if minutes is None and text[-1:] in _CALENDAR_UNITS and text[:-1].isdecimal():
        unit = _CALENDAR_UNITS[text[-1]]
        return f"{quoted(text)}: a {unit} has no fixed length, a rolling window has; write days, as `30d`"
    if minutes is None:
        return f"{quoted(text)} is not a window; write a whole number and one of m, h, d, w, for example `30d`"
    if minutes < WINDOW_MINUTES_MIN:
        return f"{quoted(text)} is shorter than 1 hour; write `1h` or more"
    if minutes > WINDOW_MINUTES_MAX:
        return f"{quoted(text)} is longer than 90 days, more than is kept; write `90d` or less"
    return minutes
