"""How commands write what an event says: labelled lines, times, shares and stretches of time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from stream.core.units import MINUTE_NS, SECOND_NS

Data = Mapping[str, Any]
"""What an event, or a part of it, says."""

_LABEL = 14
_DATE = len("2026-01-01")


def labelled(label: str, text: str) -> str:
    """Returns a labelled line."""
    return f"  {label:<{_LABEL}} {text}"


def block(label: str, texts: Iterable[str]) -> Iterator[str]:
    """Yields lines of which the first is labelled."""
    for position, text in enumerate(texts):
        yield labelled(label if position == 0 else "", text)


def ratio_text(stretch: Data, unit: str) -> str:
    """Returns the indicator of a stretch of time, in words; `unit` is what it counts one of."""
    if stretch["ratio"] is None:
        return "no data"
    bad = stretch["total"] - stretch["good"]
    weighed = "" if stretch["total"] == stretch["n"] else f" ({stretch['n']:,} were received and stand for so many)"
    low, high = stretch["interval_95"]
    return (
        f"{percent(stretch['ratio'])} of {amount(stretch['total'], unit)} good, {bad:,g} bad{weighed}; 95 % interval "
        f"{percent(low)} to {percent(high)}"
    )


def span(stretch: Data) -> str:
    """Returns from when to when a stretch of time reaches; the date once, where it is the same."""
    start, end = moment(stretch["start"]), moment(stretch["end"])
    same_date = start[:_DATE] == end[:_DATE]
    return f"{start} to {end[_DATE + 1 :] if same_date else end}"


def moment(text: str) -> str:
    """Returns a time without milliseconds and seconds that are zero."""
    return text.replace(".000Z", "Z").replace(":00Z", "Z")


def moment_of(minute: int) -> str:
    """Returns the time of a minute."""
    found = datetime.fromtimestamp(minute * MINUTE_NS // SECOND_NS, UTC)
    return f"{found:%Y-%m-%dT%H:%MZ}"


def percent(ratio: Fraction | float) -> str:
    """Returns a share in percent."""
    return f"{float(ratio) * 100:.6g} %"


def amount(total: float, unit: str) -> str:
    """Returns so many of something, which need not be a whole number."""
    return f"{total:,g} {unit}{'s' * (total != 1)}"


def figure(value: float | None) -> str:
    """Returns a number of three digits; None is no data."""
    return "no data" if value is None else f"{value:.3g}"
