"""Threshold metrics: what number is compared, by the selector, and with what, by the objective's `op` and `value`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from stream.config.goodness import Good, exact_duration_ns, read_duration_ns
from stream.config.numbers import canonical
from stream.config.problems import either, quoted
from stream.config.sections import Section, not_among
from stream.config.selection import read_attribute
from stream.config.yaml_positions import Scalar
from stream.core.slo.spec import Comparison, SliSignal, Threshold
from stream.core.units import SECOND_NS

VALUE_FIELDS = ("value_of", "attribute")
THRESHOLD_DIGITS_MAX = 40

_VALUE_MISSING = "add `value: 0.2`, the longest good duration in seconds"
_OPS = {"<=": Comparison.LTE, "<": Comparison.LT, ">=": Comparison.GTE, ">": Comparison.GT}


class ValueOf(StrEnum):
    """What a threshold is compared with."""

    DURATION = "duration"
    """How long it took: of spans, or as a histogram counts it. `value` is in seconds."""
    POINT = "point"
    """The value of a gauge or sum, each of whose points counts once."""
    ATTRIBUTE = "attribute"
    """A number in an attribute."""


_BY_SIGNAL = {
    SliSignal.SPANS: (ValueOf.DURATION, ValueOf.ATTRIBUTE),
    SliSignal.LOGS: (ValueOf.ATTRIBUTE,),
    SliSignal.METRICS: (ValueOf.DURATION, ValueOf.POINT),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The number that an objective compares.

    Args:
        value_of: What it is.
        signal: What it is taken from.
        attribute: Name of the attribute that holds it.
    """

    value_of: ValueOf
    signal: SliSignal
    attribute: str | None = None


def read_measured(selector: Section, signal: SliSignal) -> Measured | None:
    """Returns what number counts, from the fields `value_of` and `attribute`, or None after a report."""
    known = _BY_SIGNAL[signal]
    if "value_of" not in selector.entries and signal is SliSignal.LOGS:
        fix = (
            "write `value_of: attribute` and `attribute:` with its name, or a ratioMetric with "
            "`good: {severity_below: error}`"
        )
        selector.refuse("signal", f"log records have no duration that a threshold could be compared with; {fix}")
        return None
    text = selector.text("value_of") if "value_of" in selector.entries else ValueOf.DURATION
    if text is None:
        return None
    if text not in known:
        message = not_among(text, tuple(ValueOf))
        if text in tuple(ValueOf):
            message = f"{signal} have no {text} that a threshold could be compared with; write {either(known)}"
        selector.refuse("value_of", message)
        return None
    value_of = ValueOf(text)
    if value_of is not ValueOf.ATTRIBUTE:
        if "attribute" in selector.entries:
            selector.refuse("attribute", "names a number to compare; write `value_of: attribute` as well, or remove it")
            return None
        return Measured(value_of=value_of, signal=signal)
    missing = "add `attribute: freshness_s` with the name of the attribute that holds the number"
    attribute = read_attribute(selector, "attribute", missing, "the name of an attribute")
    return None if attribute is None else Measured(value_of=value_of, signal=signal, attribute=attribute)


def read_threshold(objective: Section, measured: Measured) -> Good:
    """Returns what the objective's `op` and `value` call good. Anything after a report."""
    op = _op(objective)
    if measured.value_of is ValueOf.DURATION:
        return _duration(objective, op, measured.signal)
    text = objective.number("value", example="0.7", missing="add `value: 0.7`, the number to compare with")
    if text is None or op is None:
        return Good()
    value = canonical(text)
    if len(value) > THRESHOLD_DIGITS_MAX:
        message = f"{quoted(text)} has more than {THRESHOLD_DIGITS_MAX} digits; write fewer"
        objective.refuse("value", message)
    return Good(threshold=Threshold(op=op, value=value, attribute=measured.attribute))


def _op(objective: Section) -> Comparison | None:
    text = objective.text("op", missing="add `op: lte` (good means at most `value`)")
    if text is None:
        return None
    if text in _OPS:
        objective.refuse("op", f"{quoted(text)} is not known; write `{_OPS[text]}`")
        return None
    if text not in tuple(Comparison):
        objective.refuse("op", not_among(text, tuple(Comparison)))
        return None
    return Comparison(text)


def _duration(objective: Section, op: Comparison | None, signal: SliSignal) -> Good:
    """Returns the longest good duration. Those of spans are whole nanoseconds, so `lt` is `lte` of one less."""
    if op in (Comparison.GTE, Comparison.GT):
        objective.refuse("op", f"`{op}` would call slow good; write `lte`, the longest good duration is `value`")
    if op is Comparison.LT and signal is SliSignal.METRICS:
        objective.refuse("op", "`lt` is not supported: a histogram's buckets include their bound; write `lte`")
    text = objective.number("value", example=_value_example(objective), missing=_VALUE_MISSING)
    if text is None:
        return Good()
    duration = exact_duration_ns(Fraction(text) * SECOND_NS, text)
    if isinstance(duration, str):
        objective.refuse("value", f"{duration} (values are seconds: 200 ms is `0.2`)")
        return Good()
    return Good(duration_lte_ns=duration - (op is Comparison.LT))


def _value_example(section: Section) -> str:
    """Returns what to write as the value: `0.2` where somebody wrote `200ms`."""
    entry = section.entries.get("value")
    duration = read_duration_ns(entry.value.text) if entry and isinstance(entry.value, Scalar) else ""
    return "0.2" if isinstance(duration, str) else canonical(str(duration), -9)
