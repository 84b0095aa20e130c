"""Cohorts: parts of an objective's events by the value of an attribute, declared or found as values arrive."""

from __future__ import annotations

from dataclasses import replace

from stream.core.slo.selection import can_be_compared, merged
from stream.core.slo.spec import ANY_VALUE, NO_VALUE, OTHER_COHORT, Objective, Wanted

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def cohorts_of(objective: Objective, cohorts: Wanted) -> list[Objective]:
    """Returns the objectives of the parts of an objective's events: one for each value, and one for all the rest.

    Where any value is wanted, the rest alone, which finds the others.
    """
    parts: list[Objective] = []
    for key, values in cohorts:
        rest = _cohort(objective, key, OTHER_COHORT)
        if values == (ANY_VALUE,):
            parts.append(replace(rest, finds=key, alerting=replace(objective.alerting, rules=())))
        else:
            parts += [_of_value(_cohort(objective, key, value), key, value) for value in values]
            parts.append(replace(rest, without=merged([objective.without, ((key, values),)])))
    return parts


def found_cohort(rest: Objective, value: str) -> Objective:
    """Returns the cohort of a value that came to the one that finds cohorts."""
    name = f"{rest.cohort_of}@{quoted(value)}"
    return _of_value(replace(rest, name=name, cohort=f"{rest.finds}={value}"), rest.finds, value)


def quoted(value: str) -> str:
    """Returns a value as names have it. Source: RFC 3986, sections 2.1 and 2.3."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in value.encode())


def can_be_cohort(value: str) -> bool:
    """Returns whether a value that came can have a cohort: one that a file could name as well."""
    return can_be_compared(value) and value not in (OTHER_COHORT, ANY_VALUE, NO_VALUE)


def _of_value(cohort: Objective, key: str, value: str) -> Objective:
    return replace(cohort, attributes=merged([cohort.attributes, ((key, (value,)),)]))


def _cohort(objective: Objective, key: str, value: str) -> Objective:
    return replace(
        objective,
        name=f"{objective.name}@{quoted(value)}",
        cohort=f"{key}={value}",
        cohort_of=objective.name,
        certified=False,
        floor_per_hour=None,
        expected_from=None,
        expected_tolerance="",
        lost_by=(),
    )
