"""Half-open stretches of minutes [first, last), sorted and apart: gaps, and what is left out of budgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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


def stretches_without(first: int, last: int, holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns what is left of the minutes [first, last) without the holes [start, end), in order."""
    if not holes:  # nearly always
        return [(first, last)] if first < last else []
    stretches: list[tuple[int, int]] = []
    for start, end in sorted([*holes, (last, last)]):
        if first < min(start, last):
            stretches.append((first, min(start, last)))
        first = max(first, end)
    return stretches


def without(spans: Iterable[tuple[int, int]], minute: int) -> Spans:
    """Returns stretches less one minute."""
    hole = [(minute, minute + 1)]
    return tuple(left for start, end in spans for left in stretches_without(start, end, hole))


def minutes_within(spans: Iterable[tuple[int, int]], first: int, last: int) -> int:
    """Returns how many of the minutes [first, last) lie in stretches."""
    return sum(max(0, min(last, end) - max(first, start)) for start, end in spans)
