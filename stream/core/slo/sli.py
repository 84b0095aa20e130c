"""Service level indicators of a minute or a window, and the error budget that is left.

Every decision is made on integers and fractions; the floats here are for readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from stream.core.cells import Column
from stream.core.slo.spec import Objective
from stream.core.statistics.intervals import effective_count, wilson
from stream.core.units import SECOND_NS, WEIGHT_ONE

SLICE_ONE = 1 << 30
"""The weight of one slice, or of one point that is a ratio itself. Either may be good in part; the part is rounded to
this, against the service. 8 thousand million of them fit into a window: a thousand points a second for ninety days."""

SQUARE_ONE = 1 << 8
"""The square of the weight of one event, as cells hold it."""

_MILLISECOND_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sli:
    """The indicator over some stretch of time.

    Args:
        n: Events received (raw, unweighted).
        n_unknown: Of these, events whose sampling is unknown.
        good: Weighted good events.
        total: Weighted events.
        ratio: good / total; None where there is no data. No data is not good data.
        interval: 95 % Wilson interval of the ratio at the effective number of events (Kish); None without data.
        n_unsure: Of n, events of which a histogram does not tell whether they were good. They are not in `good`.
        ratio_upper: The ratio if all of these were good; None without data.
        n_excluded: Events beside n that the objective leaves out, such as health checks.
        n_missing: Events that must have been there, by what the objective expects, and never came, or may have been
            lost.
        ratio_lower: The ratio if all of these were bad; None without data. `ratio_upper` takes them for good.
    """

    n: int
    n_unknown: int
    good: float
    total: float
    ratio: float | None
    interval: tuple[float, float] | None
    n_unsure: int = 0
    ratio_upper: float | None = None
    n_excluded: int = 0
    n_missing: int = 0
    ratio_lower: float | None = None


def event_unit(objective: Objective) -> int:
    """Returns the weight of one event: that of a point, or of a composite's minute, which are ratios, is finer."""
    return WEIGHT_ONE if objective.raw is None and objective.composite is None else SLICE_ONE


def budget_unit(objective: Objective) -> int:
    """Returns the weight of one of what the budget is made of: of an event, or a slice."""
    return event_unit(objective) if objective.slices is None else SLICE_ONE


def sli(cell: Sequence[int], unit: int = WEIGHT_ONE, missing: int = 0) -> Sli:
    """Returns the indicator of a summed cell.

    Args:
        cell: Counters, by `Column`.
        unit: The weight of one: `WEIGHT_ONE` for events, `SLICE_ONE` for slices, which all weigh the same.
        missing: Weight of the events that must have been there and never came.

    Source: effective sample size (Σw)²/Σw², L. Kish, "Survey Sampling", 1965; at weight 1 it is the number of events.
    """
    weight, weight_bad = cell[Column.WEIGHT], cell[Column.WEIGHT_BAD]
    total, n_missing = weight / unit, -(-missing // unit)
    if weight == 0:
        return Sli(
            n=0,
            n_unknown=0,
            good=0.0,
            total=0.0,
            ratio=None,
            interval=None,
            n_excluded=cell[Column.N_EXCLUDED],
            n_missing=n_missing,
        )
    weighted = unit == WEIGHT_ONE
    n_effective = effective_count(total, cell[Column.WEIGHT_SQUARE] / SQUARE_ONE) if weighted else total
    low, high = wilson(n_effective * (weight_bad / weight), n_effective)
    n_unsure, whole = cell[Column.N_UNSURE], weight + missing
    return Sli(
        n=cell[Column.N],
        n_unknown=cell[Column.N_UNKNOWN],
        good=(weight - weight_bad) / unit,
        total=total,
        ratio=(weight - weight_bad) / weight,
        interval=(1 - high, 1 - low),
        n_unsure=n_unsure,
        ratio_upper=(whole - weight_bad + n_unsure * unit) / whole,
        n_excluded=cell[Column.N_EXCLUDED],
        n_missing=n_missing,
        ratio_lower=(weight - weight_bad) / whole,
    )


def bound_to_add(objective: Objective) -> str:
    """Returns what to do where a histogram does not tell which events were good: one plain sentence."""
    assert objective.duration_lte_ns is not None, "only durations lie in buckets"
    seconds = f"{objective.duration_lte_ns / SECOND_NS:g}"
    milliseconds = f"{objective.duration_lte_ns / _MILLISECOND_NS:g}"
    return (
        f"{objective.name}: make {seconds} ({milliseconds} where the unit is ms) a bucket bound of {objective.metric}, "
        "or choose a threshold that is one; exponential histograms only come closer, with a higher scale."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The error budget of a window: bounds, equal once the window is covered and no event is missing.

    Args:
        consumed_ratio: Bad events ÷ events the budget allows at the traffic seen so far; None without data.
        remaining_min_ratio: What is left if missing events and every minute not covered were all bad, at mean traffic.
        remaining_max_ratio: What is left if they were all good.
    """

    consumed_ratio: float | None
    remaining_min_ratio: float | None
    remaining_max_ratio: float | None


def remaining(
    cell: Sequence[int], bad_ratio_max: Fraction, coverage: Fraction, missing: int = 0
) -> tuple[Fraction, Fraction] | None:
    """Returns the least and the most that can be left of a budget whose window was observed for `coverage` (0 to 1).

    With mean traffic, the whole window holds total ÷ coverage events and allows (1 − target) of them to be bad. At
    least: if every minute not observed was, or will be, all bad, and so were events of the weight `missing` that never
    came; at most: if all good. None without data.
    """
    if cell[Column.WEIGHT] == 0 or coverage == 0:
        return None
    whole = cell[Column.WEIGHT] + missing
    (seen, minutes), (allowed, of) = coverage.as_integer_ratio(), bad_ratio_max.as_integer_ratio()
    # All of it in the same unit: fractions that are reduced at each step take five times as long.
    budgeted = minutes * whole * allowed
    bad = seen * cell[Column.WEIGHT_BAD] * of
    unknown = ((minutes - seen) * whole + seen * missing) * of
    return Fraction(budgeted - bad - unknown, budgeted), Fraction(budgeted - bad, budgeted)


def budget(cell: Sequence[int], bad_ratio_max: Fraction, coverage: Fraction, missing: int = 0) -> Budget:
    """Returns the budget of a window of which `coverage` (0 to 1) was observed, for readers."""
    if cell[Column.WEIGHT] == 0:
        return Budget(consumed_ratio=None, remaining_min_ratio=None, remaining_max_ratio=None)
    left = remaining(cell, bad_ratio_max, coverage, missing)
    return Budget(
        consumed_ratio=float(Fraction(cell[Column.WEIGHT_BAD], cell[Column.WEIGHT]) / bad_ratio_max),
        remaining_min_ratio=None if left is None else float(left[0]),
        remaining_max_ratio=None if left is None else float(left[1]),
    )
