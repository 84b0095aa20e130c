"""Half-open stretches of minutes [first, last), sorted and apart: gaps, and what is left out of budgets."""

from __future__ import annotations

from collections.abc import Iterable

Spans = tuple[tuple[int, int], ...]


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """Returns stretches in order, with those joined that touch or overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return tuple(joined)


def without(spans: Iterable[tuple[int, int]], minute: int) -> Spans:
    """Returns stretches less one minute."""
    left: list[tuple[int, int]] = []
    for start, end in spans:
        if start <= minute < end:
            left += [part for part in ((start, minute), (minute + 1, end)) if part[0] < part[1]]
        else:
            left.append((start, end))
    return tuple(left)


def minutes_within(spans: Iterable[tuple[int, int]], first: int, last: int) -> int:
    """Returns how many of the minutes [first, last) lie in stretches."""
    return sum(max(0, min(last, end) - max(first, start)) for start, end in spans)
