"""Lengths of time in OpenSLO's shorthand: a whole number and a unit, as `30d`. They are whole minutes here."""

from __future__ import annotations

import re

from stream.config.problems import quoted
from stream.config.sections import Section
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

# Source: OpenSLO v1, duration-shorthand. Months, quarters and years have no fixed length.
_SHORTHAND = re.compile(r"([1-9][0-9]{0,8})([mhdw])", re.ASCII)
_UNITS_MINUTES = {"m": 1, "h": HOUR_MINUTES, "d": DAY_MINUTES, "w": 7 * DAY_MINUTES}


def shorthand_minutes(text: str) -> int | None:
    """Returns a length such as `5m`, `6h`, `30d` or `4w` in minutes; None where the text is none."""
    match = _SHORTHAND.fullmatch(text)
    return None if match is None else int(match[1]) * _UNITS_MINUTES[match[2]]


def read_minutes(section: Section, name: str, *, example: str, missing: str | None = None) -> int | None:
    """Returns the length of time in a field in minutes, or None after a report.

    Args:
        section: The mapping that holds the field.
        name: The field.
        example: A value to show in a message.
        missing: How to fix the absence of a required field.
    """
    text = section.text(name, missing=missing)
    minutes = None if text is None else shorthand_minutes(text)
    if text is not None and minutes is None:
        fix = f"write a whole number and one of m, h, d, w, for example `{example}`"
        section.refuse(name, f"{quoted(text)} is not a length of time; {fix}")
    return minutes
