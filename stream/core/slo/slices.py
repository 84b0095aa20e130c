"""Time slices: a closed stretch of time becomes one good or bad unit of the error budget."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from stream.core.cells import COLUMNS, Column
from stream.core.slo.sli import SLICE_ONE
from stream.core.slo.spec import EmptySlice, Slices


def judge_slice(events: Sequence[int], slices: Slices) -> list[int] | None:
    """Returns the cell of a slice: one unit of `SLICE_ONE`, as bad as the slice was; None where it does not count.

    Args:
        events: Summed cell of the events in the slice.
        slices: How slices are judged. Without a target each is as bad as the ratio of its events, rounded up to a
            unit of 1 / `SLICE_ONE`.
    """
    weight, weight_bad = events[Column.WEIGHT], events[Column.WEIGHT_BAD]
    if events[Column.N] < slices.events_min or weight == 0:
        if slices.empty is EmptySlice.IGNORE:
            return None
        return _cell(SLICE_ONE if slices.empty is EmptySlice.BAD else 0)
    if not slices.target:
        return _cell(-(-weight_bad * SLICE_ONE // weight))
    is_good = Fraction(weight - weight_bad, weight) >= Fraction(slices.target)
    return _cell(0 if is_good else SLICE_ONE)


def _cell(weight_bad: int) -> list[int]:
    cell = [0] * COLUMNS
    cell[Column.N], cell[Column.N_BAD] = 1, int(weight_bad > 0)
    cell[Column.WEIGHT], cell[Column.WEIGHT_BAD] = SLICE_ONE, weight_bad
    return cell
