"""The part of a selector that says which of the selected items are good, or bad."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from stream.config.problems import either, quoted, shown
from stream.config.sections import Section, not_among
from stream.config.selection import signal_of
from stream.config.wanted import read_wanted
from stream.config.yaml_positions import Map, Scalar, ScalarKind
from stream.core.slo.spec import RawRatio, SliSignal, Threshold, Wanted
from stream.core.units import HOUR_NS, MINUTE_NS, SECOND_NS

DURATION_NS_MAX = 7 * 24 * HOUR_NS

# Source: opentelemetry-proto, logs.proto, SeverityNumber: the first of the four numbers of each. None is below trace.
_SEVERITIES = {"debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
_UNITS_NS = {"ns": 1, "us": 1000, "ms": 1_000_000, "s": SECOND_NS, "m": MINUTE_NS, "h": HOUR_NS}
_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ns|us|ms|s|m|h)", re.ASCII)
_RULES = ("duration_lte", "severity_below", "attributes")
_ATTRIBUTES_EXAMPLE = "{feature_flag.result.reason: [static, targeting_match]}"
_BAD_EXAMPLE = "{http.response.status_code: [500, 503]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Good:
    """What is good: the fields of an objective of these names; none of them: what did not fail."""

    duration_lte_ns: int | None = None
    good_attributes: Wanted = ()
    severity_lt: int | None = None
    bad_attributes: Wanted = ()
    threshold: Threshold | None = None
    good_metric: str | None = None
    bad_metric: str | None = None
    raw: RawRatio | None = None

    def fields(self) -> dict[str, Any]:
        """Returns the fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def read_good(selector: Section) -> Good:
    """Returns the rule in the field `good`; that for `status_ok` also after a report."""
    signal = signal_of(selector)
    other = "{severity_below: error}" if signal is SliSignal.LOGS else "{duration_lte: 200ms}"
    rules = f"`good: status_ok` or `good: {other}`"
    entry = selector.entries.get("good")
    if entry is None or not isinstance(entry.value, Map):
        text = selector.text("good", missing=f"add {rules}")
        if text not in (None, "status_ok"):
            selector.refuse("good", f"{quoted(str(text))} is not a rule for good events; write {rules}")
        return Good()
    rule = selector.section("good", _RULES)
    if rule is None:
        return Good()
    present = [name for name in _RULES if name in (*rule.entries, *rule.misspelt)]
    if len(present) > 1:
        rule.refuse(present[1], f"stands beside {present[0]}; good has one meaning, remove one of the two")
        return Good()
    default = "severity_below" if signal is SliSignal.LOGS else "duration_lte"
    match present[0] if present else default:
        case "attributes":
            return Good(good_attributes=read_wanted(rule, "attributes", example=_ATTRIBUTES_EXAMPLE) or ())
        case "severity_below":
            return Good(severity_lt=_severity(rule, signal))
        case _:
            return Good(duration_lte_ns=_duration(rule, signal))


def read_bad(selector: Section) -> Good:
    """Returns the rule in the field `bad`; that for `status_error` also after a report."""
    rules = f"`bad: status_error` or `bad: {{attributes: {_BAD_EXAMPLE}}}`"
    entry = selector.entries.get("bad")
    if entry is None or not isinstance(entry.value, Map):
        text = selector.text("bad", missing=f"add {rules}")
        if text not in (None, "status_error"):
            selector.refuse("bad", f"{quoted(str(text))} is not a rule for bad events; write {rules}")
        return Good()
    rule = selector.section("bad", ("attributes",))
    if rule is None:
        return Good()
    return Good(bad_attributes=read_wanted(rule, "attributes", example=_BAD_EXAMPLE) or ())


def read_duration_ns(text: str) -> int | str:
    """Returns a duration such as `200ms`, `1.5s` or `2m` in ns, exactly, or what is wrong with it."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return f"{quoted(text)} is not a duration; write a number and ns, us, ms, s, m or h, for example `200ms`"
    return exact_duration_ns(Fraction(match[1]) * _UNITS_NS[match[2]], text)


def exact_duration_ns(duration: Fraction, text: str) -> int | str:
    """Returns a duration as whole ns, or a message that says what is wrong.

    Args:
        duration: The duration in ns.
        text: The duration as written.
    """
    if duration <= 0:
        return f"{quoted(text)} is not longer than 0; no event could be good, write a positive duration"
    if duration > DURATION_NS_MAX:
        return f"{quoted(text)} is longer than 7 days; check the unit"
    if duration.denominator != 1:
        return f"{quoted(text)} is finer than a nanosecond; round it"
    return duration.numerator


def _severity(rule: Section, signal: SliSignal | None) -> int | None:
    """Returns the severity number that is the first that is not good."""
    if signal in (SliSignal.SPANS, SliSignal.METRICS):
        fix = "write `signal: logs` beside `good`, or `duration_lte` or `attributes` here"
        rule.refuse("severity_below", f"is about log records, and this selects {signal}; {fix}")
        return None
    entry = rule.entries.get("severity_below")
    if entry and isinstance(entry.value, Scalar) and entry.value.kind is ScalarKind.NUMBER:
        rule.refuse("severity_below", f"{quoted(entry.value.text)} is a number; write {either(_SEVERITIES)}")
        return None
    text = rule.text("severity_below", missing="write `good: {severity_below: error}`")
    if text is not None and text not in _SEVERITIES:
        rule.refuse("severity_below", not_among(text, tuple(_SEVERITIES)))
        return None
    return None if text is None else _SEVERITIES[text]


def _duration(rule: Section, signal: SliSignal | None) -> int | None:
    """Returns the longest good duration in ns."""
    if signal is SliSignal.LOGS:
        rule.refuse("duration_lte", "is about durations, and log records have none; write `severity_below: error`")
        return None
    entry = rule.entries.get("duration_lte")
    if entry and isinstance(entry.value, Scalar) and entry.value.kind is ScalarKind.NUMBER:
        number = shown(entry.value.text)
        rule.refuse("duration_lte", f"`{number}` has no unit; write for example `{number}ms` or `{number}s`")
        return None
    longest = rule.text("duration_lte", missing="write `good: {duration_lte: 200ms}`")
    if longest is None:
        return None
    duration = read_duration_ns(longest)
    if isinstance(duration, str):
        rule.refuse("duration_lte", duration)
        return None
    return duration
