"""Attribute filters. Values are compared as text, because exporters turn numbers and booleans into text at will."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from stream.core.columns import Array
from stream.core.otlp.attributes import Value, parse
from stream.core.slo.spec import Comparison, Threshold, Wanted

_NUMBER = re.compile(r"[-+]?[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
"""Numbers that exporters turned into text; nothing else that `float` reads, such as `nan`."""


def as_text(value: Value) -> str:
    """Returns an attribute value as it is compared: `true`, `200`, `0.5`; an integral number has no point."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def having(attribute_sets: Sequence[str], wanted: Wanted) -> Array:
    """Returns bool[sets]: whether a set has, of each wanted attribute, one of the wanted values.

    Args:
        attribute_sets: Canonical texts, as in `Rows.attribute_sets`.
        wanted: Attributes and values; () lets everything pass.
    """
    allowed = [(key, frozenset(values)) for key, values in wanted]
    return np.array([_has(parse(text), allowed) for text in attribute_sets], bool)


def having_any(attribute_sets: Sequence[str], wanted: Wanted) -> Array:
    """Returns bool[sets]: whether a set has, of any of the attributes, one of the values.

    Args:
        attribute_sets: Canonical texts, as in `Rows.attribute_sets`.
        wanted: Attributes and values; () lets nothing pass.
    """
    listed = [(key, frozenset(values)) for key, values in wanted]
    return np.array([_has_any(parse(text), listed) for text in attribute_sets], bool)


def within_threshold(attribute_sets: Sequence[str], threshold: Threshold) -> Array:
    """Returns bool[sets]: whether the attribute that a threshold names is a number on its good side.

    A set without it, or with something else than a number or a text that is one, is not within: what cannot be read
    is not good.
    """
    assert threshold.attribute is not None
    numbers = [_number(parse(text).get(threshold.attribute)) for text in attribute_sets]
    values = np.array([np.nan if number is None else number for number in numbers], np.float64)
    return compare(values, threshold)


def compare(values: Array, threshold: Threshold) -> Array:
    """Returns bool[n]: whether float64[n] numbers are on the good side of a threshold; what is not a number is not.

    The threshold is rounded to the nearest float as the producer's numbers were, so 0.7 is not below 0.7.
    """
    limit = float(threshold.value)
    compared = {
        Comparison.LTE: np.less_equal,
        Comparison.LT: np.less,
        Comparison.GTE: np.greater_equal,
        Comparison.GT: np.greater,
    }[threshold.op](values, limit)
    return np.asarray(compared)


def _number(value: Value | None) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    return None if value is None or isinstance(value, bool) else float(value)


def _has_any(found: dict[str, Value], listed: list[tuple[str, frozenset[str]]]) -> bool:
    return any(key in found and as_text(found[key]) in values for key, values in listed)


def _has(found: dict[str, Value], allowed: list[tuple[str, frozenset[str]]]) -> bool:
    return all(key in found and as_text(found[key]) in values for key, values in allowed)
