"""What an SLO's error budget is made of: events, or slices of time and when a slice is good."""

from __future__ import annotations

from fractions import Fraction

from stream.config.annotations import EMPTY_SLICE, SLICE_EVENTS_MIN, Annotations
from stream.config.durations import shorthand_minutes
from stream.config.numbers import canonical
from stream.config.problems import quoted
from stream.config.sections import Section, not_among
from stream.config.time_windows import TimeWindow
from stream.config.yaml_positions import Scalar, ScalarKind
from stream.core.slo.spec import BudgetingMethod, EmptySlice, Slices
from stream.core.units import HOUR_MINUTES

SLICE_FIELDS = ("timeSliceTarget", "timeSliceWindow")
SLICE_MINUTES = tuple(minutes for minutes in range(1, HOUR_MINUTES + 1) if HOUR_MINUTES % minutes == 0)
"""Lengths that a slice may have: so it never straddles an hour, whose cells are summed."""

TARGET_DIGITS_MAX = 12
"""Finer targets leave a share of failures that no test can be computed for, nor any traffic show."""

_METHODS = {
    "Occurrences": BudgetingMethod.OCCURRENCES,
    "Timeslices": BudgetingMethod.TIMESLICES,
    "RatioTimeslices": BudgetingMethod.RATIO_TIMESLICES,
}
_WINDOW_MISSING = "add `timeSliceWindow: 1m`"
_REMOVE = "remove it, or write `budgetingMethod: Timeslices`"


def read_method(spec: Section) -> BudgetingMethod | None:
    """Returns what the budget is made of, or None after a report."""
    text = spec.text("budgetingMethod", missing="add `budgetingMethod: Occurrences`")
    if text is not None and text not in _METHODS:
        spec.refuse("budgetingMethod", not_among(text, tuple(_METHODS)))
    return _METHODS.get(text or "")


def check_annotations(spec: Section, method: BudgetingMethod | None, annotations: Annotations) -> None:
    """Reports annotations about slices where there are none."""
    if method is not BudgetingMethod.OCCURRENCES:
        return
    for key, value in ((EMPTY_SLICE, annotations.empty_slice), (SLICE_EVENTS_MIN, annotations.slice_events_min)):
        if value is not None:
            message = f"counts events, so the annotation `{key}` has no effect; {_REMOVE}"
            spec.refuse("budgetingMethod", message)


def read_slices(
    objective: Section, method: BudgetingMethod | None, annotations: Annotations, window: TimeWindow | None
) -> Slices | None:
    """Returns how time is sliced for an objective; None where it is not, or after a report.

    Args:
        objective: The section of the objective.
        method: What the budget is made of; None where that was refused.
        annotations: Those of the SLO.
        window: Of the budget; None where that was refused.
    """
    if method is BudgetingMethod.OCCURRENCES:
        for name in SLICE_FIELDS:
            if name in objective.entries:
                objective.refuse(name, f"belongs to time slices, and the budget counts occurrences; {_REMOVE}")
    if method in (None, BudgetingMethod.OCCURRENCES):
        return None
    minutes = _minutes(objective)
    if minutes is not None and window is not None and window.calendar is None and window.minutes % minutes:
        fix = "write a length that divides it"
        objective.refuse("timeSliceWindow", f"{minutes} minutes do not divide the window of the budget; {fix}")
    target: str | None = ""
    if method is BudgetingMethod.TIMESLICES:
        target = _target(objective)
    elif "timeSliceTarget" in objective.entries:
        message = "belongs to Timeslices, and with RatioTimeslices a slice is as good as its ratio; remove it"
        objective.refuse("timeSliceTarget", message)
    if minutes is None or target is None:
        return None
    return Slices(
        minutes=minutes,
        target=target,
        empty=annotations.empty_slice or EmptySlice.IGNORE,
        events_min=annotations.slice_events_min or 1,
    )


def _minutes(objective: Section) -> int | None:
    """Returns the length of a slice. A bare number is in minutes. Source: OpenSLO v1, `timeSliceWindow`."""
    entry = objective.entries.get("timeSliceWindow")
    if entry and isinstance(entry.value, Scalar) and entry.value.kind is ScalarKind.NUMBER:
        text = entry.value.text
        minutes = int(text) if text.isdecimal() and len(text) < 6 else None
    else:
        written = objective.text("timeSliceWindow", missing=_WINDOW_MISSING)
        if written is None:
            return None
        text, minutes = written, shorthand_minutes(written)
    if minutes is None:
        fix = "write minutes, for example `timeSliceWindow: 5m`"
        objective.refuse("timeSliceWindow", f"{quoted(text)} is not a length of time; {fix}")
    elif minutes not in SLICE_MINUTES:
        fix = f"write one of {', '.join(map(str, SLICE_MINUTES))}"
        objective.refuse("timeSliceWindow", f"{quoted(text)} does not divide an hour; {fix}")
        return None
    return minutes


def _target(objective: Section) -> str | None:
    """Returns the least exact ratio of a good slice."""
    missing = "add `timeSliceTarget: 0.95`, the least ratio of good events of a good slice"
    text = objective.number("timeSliceTarget", example="0.95", missing=missing)
    if text is None:
        return None
    if not 0 < Fraction(text) <= 1:
        message = f"{quoted(text)} is not above 0 and at most 1; write for example `timeSliceTarget: 0.95`"
        objective.refuse("timeSliceTarget", message)
        return None
    target = canonical(text)
    if len(target) - len("0.") > TARGET_DIGITS_MAX:
        message = f"{quoted(text)} has more than {TARGET_DIGITS_MAX} digits after the point; write fewer"
        objective.refuse("timeSliceTarget", message)
        return None
    return target
