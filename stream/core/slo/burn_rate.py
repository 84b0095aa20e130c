"""Multi-window multi-burn-rate alerts: a rule fires while both of its windows burn faster than its factor.

Source: The Site Reliability Workbook, chapter 5, table 5-8 and the ticket at 3 times (24 h and 2 h) of its rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from stream.core.cells import Column
from stream.core.units import DAY_MINUTES, HOUR_MINUTES


class Severity(StrEnum):
    """Who is called."""

    PAGE = "page"
    TICKET = "ticket"


class AlertState(StrEnum):
    """States of an alert. `resolved` is the name of the change back to inactive."""

    INACTIVE = "inactive"
    FIRING = "firing"


TRANSITIONS: dict[AlertState, dict[bool, AlertState]] = {
    AlertState.INACTIVE: {True: AlertState.FIRING},
    AlertState.FIRING: {False: AlertState.INACTIVE},
}
"""Next state by whether the rule burns. No entry: nothing changes. A window without data decides nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRule:
    """A pair of windows and the share of the budget that may burn within the long one."""

    name: str
    severity: Severity
    long_minutes: int
    short_minutes: int
    budget_share: Fraction

    def factor(self, window_minutes: int) -> Fraction:
        """Returns the burn rate at which `budget_share` of the budget is gone within the long window.

        Never below 1: burning exactly as fast as the budget allows is sustainable.
        """
        return max(self.budget_share * window_minutes / self.long_minutes, Fraction(1))


RULES = (
    BurnRule(
        name="page-1h-5m",
        severity=Severity.PAGE,
        long_minutes=HOUR_MINUTES,
        short_minutes=5,
        budget_share=Fraction(2, 100),
    ),
    BurnRule(
        name="page-6h-30m",
        severity=Severity.PAGE,
        long_minutes=6 * HOUR_MINUTES,
        short_minutes=30,
        budget_share=Fraction(5, 100),
    ),
    BurnRule(
        name="ticket-1d-2h",
        severity=Severity.TICKET,
        long_minutes=DAY_MINUTES,
        short_minutes=2 * HOUR_MINUTES,
        budget_share=Fraction(10, 100),
    ),
    BurnRule(
        name="ticket-3d-6h",
        severity=Severity.TICKET,
        long_minutes=3 * DAY_MINUTES,
        short_minutes=6 * HOUR_MINUTES,
        budget_share=Fraction(10, 100),
    ),
)
"""At 30 days the factors are 14.4, 6, 3 and 1."""


def rules_for(window_minutes: int) -> tuple[BurnRule, ...]:
    """Returns the rules whose long window fits into an objective's window."""
    return tuple(rule for rule in RULES if rule.long_minutes <= window_minutes)


def burn_rate(cell: Sequence[int], bad_ratio_max: Fraction) -> Fraction | None:
    """Returns the error ratio ÷ (1 − target) of a summed cell, exactly; None without data."""
    if cell[Column.WEIGHT] == 0:
        return None
    return Fraction(cell[Column.WEIGHT_BAD], cell[Column.WEIGHT]) / bad_ratio_max


def burns(long: Fraction | None, short: Fraction | None, factor: Fraction) -> bool | None:
    """Returns whether both windows burn faster than `factor`; None where either has no data."""
    if long is None or short is None:
        return None
    return long > factor and short > factor


def explain(rule: BurnRule, factor: Fraction, long: Fraction, short: Fraction, firing: bool) -> str:
    """Returns one plain sentence that says what the numbers mean."""
    pair = f"{duration(rule.long_minutes)} and {duration(rule.short_minutes)}"
    rates = f"{float(long):.2f} and {float(short):.2f}"
    if firing:
        share = f"{float(rule.budget_share):.0%} of the error budget within {duration(rule.long_minutes)}"
        return (
            f"Over the last {pair} the error budget burned {rates} times as fast as the objective allows; "
            f"above {float(factor):g} it loses at least {share}."
        )
    return (
        f"Over the last {pair} the error budget burned {rates} times as fast as the objective allows; "
        f"no longer both above {float(factor):g}."
    )


def duration(minutes: int) -> str:
    """Returns a length of time as people write it: `5m`, `6h`, `30d`."""
    for unit, size in (("d", DAY_MINUTES), ("h", HOUR_MINUTES)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def window_lengths(window_minutes: int) -> tuple[int, ...]:
    """Returns the lengths of every window that an objective's alerts look at, shortest first."""
    rules = rules_for(window_minutes)
    return tuple(sorted({length for rule in rules for length in (rule.long_minutes, rule.short_minutes)}))
