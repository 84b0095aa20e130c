"""The allow-listed attributes of a row, as one canonical text: equal sets have equal texts."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

Value = str | int | float | bool
"""An attribute value that is kept. Lists, maps and bytes count as absent; so does a number that is not finite."""


def canonical(attributes: Mapping[str, Value]) -> str:
    """Returns the attributes as JSON with sorted keys; the empty string for none."""
    if not attributes:
        return ""
    return orjson.dumps(dict(attributes), option=orjson.OPT_SORT_KEYS).decode()


def parse(text: str) -> dict[str, Value]:
    """Returns the attributes that `canonical` wrote."""
    values: dict[str, Value] = orjson.loads(text) if text else {}
    return values
