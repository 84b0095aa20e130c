"""Multi-window multi-burn-rate alerts: a rule burns while both of its windows burn faster than its factor.

Source: The Site Reliability Workbook, chapter 5, table 5-8 and the ticket at 3 times (24 h and 2 h) of its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache

from stream.core.cells import Column
from stream.core.units import DAY_MINUTES, HOUR_MINUTES


class Severity(StrEnum):
    """Who is called."""

    PAGE = "page"
    TICKET = "ticket"


class RuleKind(StrEnum):
    """What a rule looks at."""

    BURN_RATE = "burn-rate"
    """Both windows burn faster than a factor that its share of the budget, or the rule itself, gives."""
    EXHAUSTION = "exhaustion"
    """Both windows burn fast enough to use up what is left of the budget within `budget_hours`."""
    NO_DATA = "no-data"
    """Nothing was counted for as long as the long window, of an objective that had data before."""
    EVIDENCE_GAP = "evidence-gap"
    """Some minute of the long window was not read whole, or a large part of its events never came."""
    COHORT_GAP = "cohort-gap"
    """Both windows of a cohort are worse than everyone's by more than `gap_max`, the long one not by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurnRule:
    """A pair of windows and what has to burn in both of them.

    Args:
        name: Unique among the rules of an objective.
        severity: Who is called.
        long_minutes: The window that says that it matters.
        short_minutes: The window that says that it still goes on.
        budget_share: Share of the budget that may burn within the long window; None where `fixed_factor` says it.
        fixed_factor: The burn rate itself, the same for every period.
        kind: What the rule looks at.
        budget_hours: Exhaustion: the time within which the rest of the budget would be gone.
        for_minutes: It fires only when it has burned this long without a break.
        availability_only: Only for objectives that count failures, not slow requests.
        never_muted: Neither a maintenance window nor a deploy holds its notification back.
        inhibited_by: Rules that, while they fire, hold back this one's notification: they say the same, and more.
        gap_max: Cohort gap: how much larger the share of bad events may be than everyone's.
    """

    name: str
    severity: Severity
    long_minutes: int
    short_minutes: int
    budget_share: Fraction | None = None
    fixed_factor: Fraction | None = None
    kind: RuleKind = RuleKind.BURN_RATE
    budget_hours: int | None = None
    for_minutes: int = 0
    availability_only: bool = False
    never_muted: bool = False
    inhibited_by: tuple[str, ...] = ()
    gap_max: Fraction | None = None

    def nominal_factor(self, window_minutes: int) -> Fraction:
        """Returns the burn rate at which `budget_share` of the budget is gone within the long window.

        Source: Sloth: budget share × period ÷ long window. It may lie below 1, where burning is sustainable.
        """
        if self.fixed_factor is not None:
            return self.fixed_factor
        if self.budget_share is None:
            return Fraction(1)
        return self.budget_share * window_minutes / self.long_minutes

    def factor(
        self, window_minutes: int, remaining_ratio: Fraction | None = None, renewed_in_minutes: int | None = None
    ) -> Fraction | None:
        """Returns the burn rate above which the rule burns; never below 1, which the budget allows for ever.

        Args:
            window_minutes: Length of the objective's window.
            remaining_ratio: What is left of the budget. Exhaustion: None, or none left, gives None.
            renewed_in_minutes: When the budget is full again; None: it rolls. Exhaustion: it has to be gone before.
        """
        if self.kind is not RuleKind.EXHAUSTION:
            return max(self.nominal_factor(window_minutes), Fraction(1))
        assert self.budget_hours is not None
        if remaining_ratio is None or remaining_ratio <= 0:
            return None
        within = self.budget_hours * HOUR_MINUTES
        if renewed_in_minutes is not None:
            within = min(within, max(1, renewed_in_minutes))
        return max(remaining_ratio * window_minutes / within, Fraction(1))


RULES = (
    BurnRule(
        name="page-1h-5m",
        severity=Severity.PAGE,
        long_minutes=HOUR_MINUTES,
        short_minutes=5,
        budget_share=Fraction(2, 100),
        never_muted=True,
    ),
    BurnRule(
        name="page-6h-30m",
        severity=Severity.PAGE,
        long_minutes=6 * HOUR_MINUTES,
        short_minutes=30,
        budget_share=Fraction(5, 100),
        inhibited_by=("page-1h-5m",),
    ),
    BurnRule(
        name="ticket-1d-2h",
        severity=Severity.TICKET,
        long_minutes=DAY_MINUTES,
        short_minutes=2 * HOUR_MINUTES,
        budget_share=Fraction(10, 100),
        inhibited_by=("page-1h-5m", "page-6h-30m"),
    ),
    BurnRule(
        name="ticket-3d-6h",
        severity=Severity.TICKET,
        long_minutes=3 * DAY_MINUTES,
        short_minutes=6 * HOUR_MINUTES,
        budget_share=Fraction(10, 100),
        inhibited_by=("page-1h-5m", "page-6h-30m", "ticket-1d-2h"),
    ),
)
"""The workbook's. At 30 days the factors are 14.4, 6, 3 and 1."""

SUPPLEMENTS = (
    BurnRule(
        name="page-5x-6h-30m",
        severity=Severity.PAGE,
        long_minutes=6 * HOUR_MINUTES,
        short_minutes=30,
        fixed_factor=Fraction(5),
        for_minutes=15,
        availability_only=True,
        inhibited_by=("page-1h-5m", "page-6h-30m"),
    ),
    BurnRule(
        name="page-exhaustion-24h",
        severity=Severity.PAGE,
        long_minutes=HOUR_MINUTES,
        short_minutes=5,
        kind=RuleKind.EXHAUSTION,
        budget_hours=24,
        inhibited_by=("page-1h-5m", "page-6h-30m"),
    ),
    BurnRule(
        name="ticket-2x-1d-2h",
        severity=Severity.TICKET,
        long_minutes=DAY_MINUTES,
        short_minutes=2 * HOUR_MINUTES,
        fixed_factor=Fraction(2),
        inhibited_by=("page-1h-5m", "page-6h-30m", "page-5x-6h-30m", "page-exhaustion-24h", "ticket-1d-2h"),
    ),
    BurnRule(
        name="ticket-no-data",
        severity=Severity.TICKET,
        long_minutes=HOUR_MINUTES,
        short_minutes=HOUR_MINUTES,
        kind=RuleKind.NO_DATA,
    ),
    BurnRule(
        name="ticket-evidence-gap",
        severity=Severity.TICKET,
        long_minutes=HOUR_MINUTES,
        short_minutes=HOUR_MINUTES,
        kind=RuleKind.EVIDENCE_GAP,
    ),
)
"""They add to the workbook's and replace none of them."""

DEFAULT_RULES = (*RULES, *SUPPLEMENTS)


def cohort_gap_rule(gap_max: Fraction) -> BurnRule:
    """Returns the ticket of a cohort that is worse than everyone by more than `gap_max`."""
    return BurnRule(
        name="ticket-cohort-gap",
        severity=Severity.TICKET,
        long_minutes=HOUR_MINUTES,
        short_minutes=5,
        kind=RuleKind.COHORT_GAP,
        gap_max=gap_max,
    )


def rules_for(window_minutes: int, rules: Iterable[BurnRule] = RULES) -> tuple[BurnRule, ...]:
    """Returns the rules whose long window fits into an objective's window."""
    return tuple(rule for rule in rules if rule.long_minutes <= window_minutes)


def burn_rate(cell: Sequence[int], bad_ratio_max: Fraction) -> Fraction | None:
    """Returns the error ratio ÷ (1 − target) of a summed cell, exactly; None without data."""
    if cell[Column.WEIGHT] == 0:
        return None
    return Fraction(cell[Column.WEIGHT_BAD], cell[Column.WEIGHT]) / bad_ratio_max


def burns(
    long: Fraction | None, short: Fraction | None, factor: Fraction | None, at_least: bool = False
) -> bool | None:
    """Returns whether both windows burn faster than `factor`; None where either has no data or there is no factor.

    Args:
        long: Burn rate of the long window.
        short: Burn rate of the short window.
        factor: What both are compared with.
        at_least: Compare with >= as Grafana does, instead of > as the workbook does.
    """
    if long is None or short is None or factor is None:
        return None
    return (long >= factor and short >= factor) if at_least else (long > factor and short > factor)


@lru_cache(maxsize=1000)
def duration(minutes: int) -> str:
    """Returns a length of time as people write it: `5m`, `6h`, `30d`."""
    for unit, size in (("d", DAY_MINUTES), ("h", HOUR_MINUTES)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def window_lengths(window_minutes: int, rules: Iterable[BurnRule] = RULES) -> tuple[int, ...]:
    """Returns the lengths of every window that an objective's alerts look at, shortest first."""
    fitting = rules_for(window_minutes, rules)
    return tuple(sorted({length for rule in fitting for length in (rule.long_minutes, rule.short_minutes)}))
