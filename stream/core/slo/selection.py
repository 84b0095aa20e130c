"""Attribute filters. Values are compared as text, because exporters turn numbers and booleans into text at will."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream.core.columns import Array
from stream.core.otlp.attributes import Value, parse
from stream.core.slo.spec import Wanted


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


def _has(found: dict[str, Value], allowed: list[tuple[str, frozenset[str]]]) -> bool:
    return all(key in found and as_text(found[key]) in values for key, values in allowed)
