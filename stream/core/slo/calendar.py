"""Calendar windows: periods whose boundaries were computed once and travel with the configuration as integers.

So a replay needs no time zone database, and gives the same periods whatever governments have decided since.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise, repeat
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Minutes [start_minute, end_minute) that share one error budget.

    Args:
        start_minute: First minute, since 1970. It is what identifies the period.
        end_minute: First minute of the next period.
    """

    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """Consecutive periods of an error budget.

    Args:
        name: What it was computed from, for example `1M@2026-01-01T00:00:00 Europe/Berlin`. It identifies the
            calendar: one that is computed anew, for further years, has the same name.
        boundaries: Minutes since 1970 at which a period begins, strictly increasing; the last one ends the last.
    """

    name: str
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        """Asserts what `period_at` relies on."""
        assert self.boundaries, f"{self.name}: no boundaries"
        assert all(a < b for a, b in pairwise(self.boundaries)), f"{self.name}: boundaries do not increase"

    def period_at(self, minute: int) -> Period | None:
        """Returns the period that holds a minute; None before the first boundary, and from the last one on."""
        index = bisect_right(self.boundaries, minute) - 1
        if not 0 <= index < len(self.boundaries) - 1:
            return None
        return Period(start_minute=self.boundaries[index], end_minute=self.boundaries[index + 1])

    def dump(self) -> dict[str, Any]:
        """Returns plain values; `load` gives back an equal one.

        Lengths are written with how often they follow one another: six years of days are some thirty numbers.
        """
        lengths = groupby(b - a for a, b in pairwise(self.boundaries))
        return {
            "name": self.name,
            "first_minute": self.boundaries[0],
            "lengths": [[length, sum(1 for _ in run)] for length, run in lengths],
        }

    @classmethod
    def load(cls, body: Mapping[str, Any]) -> Self:
        """Returns what `dump` wrote."""
        lengths = chain.from_iterable(repeat(length, count) for length, count in body["lengths"])
        return cls(name=body["name"], boundaries=tuple(accumulate(lengths, initial=body["first_minute"])))
