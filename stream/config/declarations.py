"""What operators declare about stretches of time: budget adjustments, and maintenance that mutes notifications.

A BudgetAdjustment has the fields of OpenSLO's v2alpha; here `indicatorRef` may be left out. Maintenance is ours.

Source: OpenSLO go-sdk, `pkg/openslo/v2alpha/budget_adjustment.go`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from stream.config.durations import read_minutes
from stream.config.objectives import Declared
from stream.config.problems import nearest, quoted
from stream.config.sections import Section
from stream.config.wanted import read_texts
from stream.config.yaml_positions import Scalar
from stream.core.slo.burn_rate import duration
from stream.core.slo.declared import Adjustment, Mute
from stream.core.units import DAY_MINUTES

API_VERSION = "qma/v1"
TIME_FIELDS = ("startTime", "endTime", "duration")
ADJUSTMENT_FIELDS = ("description", "service", "indicatorRef", *TIME_FIELDS)
MAINTENANCE_FIELDS = ("description", "services", *TIME_FIELDS)

MAINTENANCE_MINUTES_MAX = 7 * DAY_MINUTES
"""Whoever mutes for longer has forgotten it."""

_ALL = "all"
_EXAMPLE = "2026-11-22T10:00:00Z"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Source: RFC 3339, section 5.6.
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.0+)?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)


def read_adjustment(spec: Section, name: str, declared: Sequence[Declared], *, complete: bool) -> Adjustment | None:
    """Returns the adjustment that a BudgetAdjustment declares, or None after a report.

    Args:
        spec: Its `spec`.
        name: Its name.
        declared: The objectives that there are.
        complete: No objective is missing because a document could not be read.
    """
    reason = spec.text("description", missing="add `description:` with the reason, which the ledger keeps")
    service = spec.text("service", missing="add `service:` with the `service` of the SLOs")
    indicator = spec.text("indicatorRef")
    span = _span(spec)
    chosen = [one for one in declared if one.service == service]
    if service is not None and not chosen and complete:
        spec.refuse(
            "service", _unknown("SLO in the given files has the service", service, [one.service for one in declared])
        )
    if indicator is not None and chosen:
        known = [one.indicator_name for one in chosen if one.indicator_name]
        chosen = [one for one in chosen if one.indicator_name == indicator]
        if not chosen and complete:
            spec.refuse("indicatorRef", _unknown(f"SLO of {quoted(str(service))} has the SLI", indicator, known))
    if reason is None or span is None or not chosen:
        return None
    objectives = tuple(one.objective.name for one in chosen)
    return Adjustment(name=name, objectives=objectives, start_minute=span[0], end_minute=span[1], reason=reason)


def read_maintenance(spec: Section, name: str, declared: Sequence[Declared], *, complete: bool) -> Mute | None:
    """Returns the mute that a Maintenance declares, or None after a report.

    Args:
        spec: Its `spec`.
        name: Its name.
        declared: The objectives that there are.
        complete: No objective is missing because a document could not be read.
    """
    reason = spec.text("description", missing="add `description:` with the reason, which held back alerts will name")
    services = _services(spec, declared, complete)
    span = _span(spec)
    if span is not None and span[1] - span[0] > MAINTENANCE_MINUTES_MAX:
        most = duration(MAINTENANCE_MINUTES_MAX)
        at = "duration" if "duration" in spec.entries else "endTime"
        spec.refuse(at, f"mutes for longer than {most}; write a shorter time, and another document if it takes longer")
        return None
    if reason is None or services is None or span is None:
        return None
    return Mute(name=name, services=services, start_minute=span[0], end_minute=span[1], reason=reason)


def _services(spec: Section, declared: Sequence[Declared], complete: bool) -> tuple[str, ...] | None:
    """Returns the keys of the services, () for all, or None after a report."""
    entry = spec.entries.get("services")
    example = "[checkout]"
    if entry is None or isinstance(entry.value, Scalar):
        missing = f"add `services: {example}`, or `services: {_ALL}`"
        text = spec.text("services", missing=missing)
        if text not in (None, _ALL):
            spec.refuse(
                "services", f"{quoted(str(text))} is no list; write `services: [{text}]`, or `services: {_ALL}`"
            )
        return () if text == _ALL else None
    named = read_texts(spec, "services", example=example, what="a service")
    if named is None:
        return None
    by_name: dict[str, set[str]] = {}
    for one in declared:
        for known in (one.service, one.objective.service):
            by_name.setdefault(known, set()).add(one.objective.service)
    for name in named:
        if name not in by_name and complete:
            spec.refuse("services", _unknown("SLO in the given files has the service", name, list(by_name)))
    return tuple(sorted({key for name in named for key in by_name.get(name, ())})) or None


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    guess = nearest(name, known)
    fix = f"did you mean `{guess}`?" if guess else "pass the file with its SLO as well"
    return f"no {what} {quoted(name)}; {fix}"


def _span(spec: Section) -> tuple[int, int] | None:
    """Returns the first minute and the one behind the last, or None after a report."""
    start = _minute(spec, "startTime", f"add `startTime: {_EXAMPLE}`")
    if "endTime" in spec.entries and "duration" in spec.entries:
        spec.refuse("duration", "stands beside endTime; remove one of the two")
        return None
    if "endTime" not in spec.entries:
        missing = "add `duration: 2h`, or `endTime:` with a time"
        minutes = read_minutes(spec, "duration", example="2h", missing=missing)
        return None if start is None or minutes is None else (start, start + minutes)
    end = _minute(spec, "endTime", "")
    if start is None or end is None:
        return None
    if end <= start:
        spec.refuse("endTime", "is not after startTime; write a later time")
        return None
    return start, end


def _minute(spec: Section, name: str, missing: str) -> int | None:
    """Returns a time as minutes since 1970, or None after a report."""
    text = spec.text(name, missing=missing)
    if text is None:
        return None
    if not _TIME.fullmatch(text):
        fix = f"write it with its offset from UTC, for example `{_EXAMPLE}` or `2026-11-22T11:00:00+01:00`"
        spec.refuse(name, f"{quoted(text)} is not a time as in RFC 3339; {fix}")
        return None
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        spec.refuse(name, f"{quoted(text)} is no day or no time of the day; write for example `{_EXAMPLE}`")
        return None
    minutes, rest = divmod((time - _EPOCH).total_seconds(), 60)
    if rest or minutes < 0:
        what = "is not a full minute, and budgets are kept by minutes" if rest else "lies before 1970"
        spec.refuse(name, f"{quoted(text)} {what}; write for example `{_EXAMPLE}`")
        return None
    return int(minutes)
