"""Attribute filters. Values are compared as text, because exporters turn numbers and booleans into text at will."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from stream.core.columns import Array
from stream.core.otlp.attributes import Value, parse
from stream.core.slo.spec import ANY_VALUE, NO_VALUE, Comparison, Threshold, Wanted

CHARACTERS_MAX = 255
"""Of a text that a file names."""

_NUMBER = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
"""Numbers that exporters turned into text; nothing else that `float` reads, such as `nan`."""


_COMPARED: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    Comparison.LTE: operator.le,
    Comparison.LT: operator.lt,
    Comparison.GTE: operator.ge,
    Comparison.GT: operator.gt,
}


def as_text(value: Value) -> str:
    """Returns an attribute value as it is compared: `true`, `200`, `0.5`; an integral number has no point."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def text_of(attributes: Mapping[str, Value], key: str) -> str:
    """Returns the value of an attribute as it is compared; '' where there is none."""
    return as_text(attributes[key]) if key in attributes else ""


def can_be_compared(text: str) -> bool:
    """Returns whether a text can be the name or the value of an attribute in a file."""
    return 0 < len(text) <= CHARACTERS_MAX and text.isprintable() and text == text.strip()


def merged(parts: Iterable[Wanted]) -> Wanted:
    """Returns all attributes with all of their values, sorted."""
    values: dict[str, set[str]] = {}
    for part in parts:
        for key, some in part:
            values.setdefault(key, set()).update(some)
    return tuple((key, tuple(sorted(values[key]))) for key in sorted(values))


def having(attribute_sets: Sequence[str], wanted: Wanted) -> Array:
    """Returns bool[sets]: whether a set has, of each wanted attribute, one of the wanted values.

    Args:
        attribute_sets: Canonical texts, as in `Rows.attribute_sets`.
        wanted: Attributes and values, or `ANY_VALUE`, or `NO_VALUE`; () lets everything pass.
    """
    return _having(attribute_sets, wanted, all)


def having_any(attribute_sets: Sequence[str], wanted: Wanted) -> Array:
    """Returns bool[sets]: whether a set has, of any of the attributes, one of the values.

    Args:
        attribute_sets: Canonical texts, as in `Rows.attribute_sets`.
        wanted: Attributes and values, or `ANY_VALUE`, or `NO_VALUE`; () lets nothing pass.
    """
    return _having(attribute_sets, wanted, any)


def within_threshold(attribute_sets: Sequence[str], threshold: Threshold) -> Array:
    """Returns bool[sets]: whether the attribute that a threshold names is a number on its good side.

    A set without it, or with something else than a number or a text that is one, is not within: what cannot be read
    is not good.
    """
    assert threshold.attribute is not None
    return np.array([_is_within(parse(text).get(threshold.attribute), threshold) for text in attribute_sets], bool)


def compare(values: Array, threshold: Threshold) -> Array:
    """Returns bool[n]: whether numbers are on the good side of a threshold; what is not a finite number is not.

    Args:
        values: int64[n], which are compared exactly, or float64[n]: for these the threshold is rounded to the nearest
            float as the producer's numbers were, so 0.7 is not below 0.7.
        threshold: The threshold.
    """
    if values.dtype == np.int64:
        return _compare_integers(values, threshold)
    return np.asarray(_COMPARED[threshold.op](values, float(threshold.value)) & np.isfinite(values))


def _compare_integers(values: Array, threshold: Threshold) -> Array:
    """Compares with the nearest integer below: integers between that and the threshold there are none."""
    limit = Fraction(threshold.value)
    low, high = math.floor(limit), math.ceil(limit)
    within = values <= (high - 1 if threshold.op in (Comparison.LT, Comparison.GTE) else low)
    return np.asarray(~within if threshold.op in (Comparison.GTE, Comparison.GT) else within)


def _is_within(value: Value | None, threshold: Threshold) -> bool:
    """Integers, and texts that are numbers, are compared exactly."""
    if isinstance(value, float):
        return bool(compare(np.array([value]), threshold)[0])
    if value is None or isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return False
    return bool(_COMPARED[threshold.op](Fraction(value), Fraction(threshold.value)))


def _having(attribute_sets: Sequence[str], wanted: Wanted, enough: Callable[[Iterable[bool]], bool]) -> Array:
    """Returns bool[sets]: whether `enough` (all or any) of the attributes have one of their values."""
    listed = [(key, frozenset(values)) for key, values in wanted]
    found = map(parse, attribute_sets)
    return np.array([enough(_is_among(text_of(a, key), values) for key, values in listed) for a in found], bool)


def _is_among(text: str, values: frozenset[str]) -> bool:
    """Returns whether a value, '' for none, is one of those named."""
    if not text:
        return NO_VALUE in values
    return (text in values and text != NO_VALUE) or ANY_VALUE in values
