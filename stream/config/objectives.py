"""The `spec` of an SLO: window, budgeting method and targets, all exact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from stream.config.goodness import Good, exact_duration_ns, read_duration_ns
from stream.config.metadata import slug
from stream.config.problems import Position, quoted
from stream.config.sections import Section
from stream.config.selection import read_attribute
from stream.config.selector import Indicator
from stream.config.yaml_positions import Scalar
from stream.core.service_key import service_key
from stream.core.slo.spec import Objective
from stream.core.units import DAY_MINUTES, HOUR_MINUTES, SECOND_NS

SPEC_FIELDS = (
    "description",
    "service",
    "indicator",
    "indicatorRef",
    "timeWindow",
    "budgetingMethod",
    "objectives",
    "alertPolicies",
)

WINDOW_MINUTES_MIN = HOUR_MINUTES
WINDOW_MINUTES_MAX = 90 * DAY_MINUTES
"""The rings of the state keep 100 days."""

TARGET_DIGITS_MAX = 30

_OBJECTIVE_FIELDS = (
    "displayName",
    "op",
    "value",
    "target",
    "targetPercent",
    "timeSliceTarget",
    "timeSliceWindow",
)
_WINDOW = re.compile(r"([1-9][0-9]{0,8})([mhdw])", re.ASCII)
_WINDOW_UNITS_MINUTES = {"m": 1, "h": HOUR_MINUTES, "d": DAY_MINUTES, "w": 7 * DAY_MINUTES}
_CALENDAR_UNITS = {"M": "month", "Q": "quarter", "Y": "year"}
_VALUE_MISSING = "add `value: 0.2`, the longest good duration in seconds"
_WINDOW_EXAMPLE = "[{duration: 30d, isRolling: true}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """An SLO document before its objectives are read.

    Args:
        name: The SLO's name; None when it was refused.
        sampling_none: The SLO declares that its producers do not sample.
        indicator: What is measured; None when it was refused.
        spec: The section `spec`.
    """

    name: str | None
    sampling_none: bool
    indicator: Indicator | None
    spec: Section


def read_objectives(slo: Slo) -> list[Objective]:
    """Returns the objectives of an SLO; fewer than the file has after reporting what is wrong."""
    spec = slo.spec
    missing = "add `service: checkout` with the service.name that the service reports"
    service = read_attribute(spec, "service", missing)
    window_minutes = _window_minutes(spec)
    _check_method(spec)
    _check_alert_policies(spec)
    sections = _objective_sections(spec, slo.indicator)
    names = _names(slo.name or "", sections)
    objectives = []
    for name, section in zip(names, sections, strict=True):
        target = _target(section)
        good = _good(section, slo.indicator)
        if slo.indicator is None or service is None or target is None or window_minutes is None:
            continue
        selection = slo.indicator.selection
        objectives.append(
            Objective(
                service=service_key(selection.environment, selection.namespace, selection.service or service),
                name=name,
                target=target,
                window_minutes=window_minutes,
                kinds=selection.kinds,
                duration_lte_ns=good.duration_lte_ns,
                sampling_none=slo.sampling_none,
                signal=selection.signal,
                metric=selection.metric,
                event=selection.event,
                attributes=selection.attributes,
                good_attributes=good.attributes,
                severity_lt=good.severity_lt,
            )
        )
    return objectives


def _window_minutes(spec: Section) -> int | None:
    """Returns the length of the one rolling window, or None after a report."""
    items = spec.items("timeWindow", example=_WINDOW_EXAMPLE, missing=f"add `timeWindow: {_WINDOW_EXAMPLE}`")
    if items is None:
        return None
    if len(items) != 1:
        spec.refuse("timeWindow", f"has {len(items)} windows; write exactly one, for example `{_WINDOW_EXAMPLE}`")
        return None
    path = f"{spec.path_of('timeWindow')}[0]"
    window = spec.section_of(items[0], path, ("duration", "isRolling", "calendar"), items[0].position)
    if window is None:
        return None
    if "calendar" in window.entries:
        fix = "remove it and write `isRolling: true` with a duration such as `30d`"
        window.refuse("calendar", f"calendar windows are not supported in this version; {fix}")
        return None
    if window.boolean("isRolling", missing="add `isRolling: true`") is False:
        window.refuse("isRolling", "only rolling windows are supported in this version; write `isRolling: true`")
    text = window.text("duration", missing="add `duration: 30d`")
    minutes = None if text is None else _read_window(text)
    if isinstance(minutes, str):
        window.refuse("duration", minutes)
        return None
    return minutes


def _read_window(text: str) -> int | str:
    """Returns the length of a window in minutes, or a message that says what is wrong.

    Source: OpenSLO v1, duration-shorthand: a positive integer and one of m, h, d, w, M, Q, Y.
    """
    match = _WINDOW.fullmatch(text)
    if match is None and text[-1:] in _CALENDAR_UNITS and text[:-1].isdecimal():
        unit = _CALENDAR_UNITS[text[-1]]
        return f"{quoted(text)}: a {unit} has no fixed length, a rolling window has; write days, as `30d`"
    if match is None:
        return f"{quoted(text)} is not a window; write a whole number and one of m, h, d, w, for example `30d`"
    minutes = int(match[1]) * _WINDOW_UNITS_MINUTES[match[2]]
    if minutes < WINDOW_MINUTES_MIN:
        return f"{quoted(text)} is shorter than 1 hour; write `1h` or more"
    if minutes > WINDOW_MINUTES_MAX:
        return f"{quoted(text)} is longer than 90 days, more than is kept; write `90d` or less"
    return minutes


def _check_method(spec: Section) -> None:
    method = spec.text("budgetingMethod", missing="add `budgetingMethod: Occurrences`")
    if method not in (None, "Occurrences"):
        fix = "not supported in this version; write `Occurrences`"
        spec.refuse("budgetingMethod", f"{quoted(str(method))} is {fix}")


def _check_alert_policies(spec: Section) -> None:
    if spec.has("alertPolicies") and spec.items("alertPolicies", example="[]"):
        fix = "remove it: page and ticket burn-rate alerts are derived from each objective"
        spec.refuse("alertPolicies", f"is not supported in this version; {fix}")


def _objective_sections(spec: Section, indicator: Indicator | None) -> list[Section]:
    """Returns the entries of `objectives` that are mappings."""
    items = spec.items("objectives", example="[{target: 0.999}]", missing="add `objectives: [{target: 0.999}]`")
    if items is None:
        return []
    path = spec.path_of("objectives")
    if not items:
        spec.refuse("objectives", "is empty; write `objectives: [{target: 0.999}]`")
    if len(items) > 1 and indicator is not None and indicator.is_threshold:
        fix = "write one SLO for each threshold, as OpenSLO v1 asks"
        spec.refuse_at(items[1].position, f"{path}[1]", f"a thresholdMetric takes one objective; {fix}")
    sections = []
    for i, item in enumerate(items):
        section = spec.section_of(item, f"{path}[{i}]", _OBJECTIVE_FIELDS, item.position)
        if section is not None:
            sections.append(section)
            for name in ("timeSliceTarget", "timeSliceWindow"):
                if name in section.entries:
                    section.refuse(name, "belongs to time slices, which are not supported in this version; remove it")
    return sections


def _names(slo_name: str, sections: list[Section]) -> list[str]:
    """Returns the name of each objective: the SLO's, or SLO/objective where there are several."""
    display_names = [section.text("displayName") for section in sections]
    if len(sections) <= 1:
        return [slo_name] * len(sections)
    first_at: dict[str, Position] = {}
    names = []
    for i, (section, display_name) in enumerate(zip(sections, display_names, strict=True)):
        part = slug(display_name or "") or str(i)
        names.append(f"{slo_name}/{part}")
        first = first_at.setdefault(part, section.position)
        if first is not section.position:
            message = f"becomes the name {quoted(part)}, which line {first.line} has already; give each its own"
            section.refuse("displayName", message)
    return names


def _target(section: Section) -> str | None:
    """Returns the target as a canonical decimal such as `0.999`, exactly, or None after a report."""
    is_percent = "targetPercent" in section.entries
    if is_percent and "target" in section.entries:
        section.refuse("targetPercent", "stands beside target; remove one of the two")
        return None
    if is_percent:
        name, example, most = "targetPercent", "99.9", 100
    else:
        name, example, most = "target", "0.999", 1
    text = section.number(name, example=example, missing="add `target: 0.999`")
    if text is None:
        return None
    value = Fraction(text)
    if not 0 < value < most:
        section.refuse(name, _target_message(name, text, value))
        return None
    canonical = _canonical(text, -2 if is_percent else 0)
    if len(canonical) - len("0.") > TARGET_DIGITS_MAX:
        message = f"{quoted(text)} has more than {TARGET_DIGITS_MAX} digits after the point; write fewer"
        section.refuse(name, message)
        return None
    return canonical


def _target_message(name: str, text: str, value: Fraction) -> str:
    most, example, close = (1, "0.999", "0.9999") if name == "target" else (100, "99.9", "99.99")
    if name == "target" and 1 < value < 100:
        as_ratio = _canonical(text, -2)
        return f"{quoted(text)} is not between 0 and 1; write `target: {as_ratio}` or `targetPercent: {text}`"
    if value == most:
        return f"{quoted(text)} leaves no error budget; write less, for example `{name}: {close}`"
    if value == 0:
        return f"{quoted(text)} is met whatever happens; write more than 0, for example `{name}: {example}`"
    return f"{quoted(text)} is not between 0 and {most}; write for example `{name}: {example}`"


def _canonical(text: str, exponent: int) -> str:
    """Returns text times 10 to the exponent as plain digits, exactly; `Decimal` arithmetic would round."""
    sign, digits, of_text = Decimal(text).as_tuple()
    assert isinstance(of_text, int), "numbers are finite"
    plain = format(Decimal((sign, digits, of_text + exponent)), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _good(section: Section, indicator: Indicator | None) -> Good:
    """Returns what is good: by the indicator, or at most `value` of a threshold. Anything after a report."""
    if indicator is None:
        return Good()
    if not indicator.is_threshold:
        for name in ("op", "value"):
            if name in section.entries:
                section.refuse(name, "belongs to a thresholdMetric, this SLI has a ratioMetric; remove it")
        return indicator.good
    op = section.text("op", missing="add `op: lte` (good means at most `value`)")
    if op not in (None, "lte"):
        reason = "only durations up to `value`, itself included, can be good"
        section.refuse("op", f"{quoted(str(op))} is not supported: {reason}; write `lte`")
    text = section.number("value", example=_value_example(section), missing=_VALUE_MISSING)
    if text is None:
        return Good()
    duration = exact_duration_ns(Fraction(text) * SECOND_NS, text)
    if isinstance(duration, str):
        section.refuse("value", f"{duration} (values are seconds: 200 ms is `0.2`)")
        return Good()
    return Good(duration_lte_ns=duration)


def _value_example(section: Section) -> str:
    """Returns what to write as the value: `0.2` where somebody wrote `200ms`."""
    entry = section.entries.get("value")
    duration = read_duration_ns(entry.value.text) if entry and isinstance(entry.value, Scalar) else ""
    return "0.2" if isinstance(duration, str) else _canonical(str(duration), -9)
