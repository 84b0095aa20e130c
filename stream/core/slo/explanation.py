"""What an alert says: the numbers, what they mean, and whether chance could have made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from stream.core.slo.alerts import AlertState
from stream.core.slo.burn_rate import BurnRule, RuleKind, duration
from stream.core.slo.cohort_gap import CohortGap
from stream.core.slo.shared_cause import Cause, told
from stream.core.slo.sli import Budget, Sli
from stream.core.slo.spec import Objective
from stream.core.statistics.forecast import Forecast
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

_PLACES_MAX = 14
"""Of a percentage below 100 as a float: from here on none is written as 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReading:
    """The figures behind an alert; rates are None without data.

    Args:
        long_burn_rate: Of the rule's long window.
        short_burn_rate: Of its short window.
        long_sli: The indicator of the long window.
        short_sli: That of the short one.
        long_coverage: Share of the long window that was observed.
        budget: Where the budget stands.
        coverage: Share of the objective's window that was observed.
        window_minutes: Length of the objective's window.
        renewed_in_minutes: When the budget is full again; None: it rolls.
        cohort_gap: Of the long window, where the rule is about it.
        forecast: When the budget will be used up, while it burns; None before there was a whole hour.
        compared_minutes: Length of what that is of.
    """

    long_burn_rate: float | None
    short_burn_rate: float | None
    long_sli: Sli
    short_sli: Sli
    long_coverage: float
    budget: Budget
    coverage: float
    window_minutes: int
    renewed_in_minutes: int | None = None
    cohort_gap: CohortGap | None = None
    forecast: Forecast | None = None
    compared_minutes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A version, or a component, of which more failed than of all the others together.

    Args:
        version: Its name.
        bad_share: Its share of the bad events of the short window, from 0 to 1.
        first_seen_minute: When it appeared; None for the first version that the service ever had.
    """

    version: str
    bad_share: float
    first_seen_minute: int | None
    is_component: bool = False


def explain(
    objective: Objective,
    rule: BurnRule,
    state: AlertState,
    reading: AlertReading,
    factor: Fraction | None,
    suspect: Suspect | None,
    causes: Sequence[Cause] = (),
) -> str:
    """Returns a few plain sentences; the first says what happened."""
    if rule.kind in (RuleKind.NO_DATA, RuleKind.EVIDENCE_GAP):
        return _about_evidence(objective, rule, state, reading.long_sli)
    if rule.kind is RuleKind.COHORT_GAP:
        return _about_cohort(objective, rule, state, reading)
    sentences = [_rates(rule, state, reading, factor)]
    if state is not AlertState.INACTIVE:
        sentences += [_chance(objective, reading), _suspicion(suspect), told(causes)]
    sentences += [_inexactness(objective, reading), _observed(rule, reading), _left(reading)]
    if state is AlertState.FIRING:
        sentences += [_exhaustion(reading), _forecast(reading)]
    return " ".join(sentence for sentence in sentences if sentence)


def _about_evidence(objective: Objective, rule: BurnRule, state: AlertState, long: Sli) -> str:
    length, is_composite = duration(rule.long_minutes), objective.composite is not None
    if rule.kind is RuleKind.NO_DATA:
        if state is AlertState.INACTIVE:
            return "Events arrive again."
        why = "every component was heard of" if is_composite else "every source was read"
        return f"Not one event was counted in the last {length}, though {why}: no data is not good data."
    whole = "heard of whole from every component" if is_composite else "read whole"
    if state is AlertState.INACTIVE:
        expects = objective.expected_from is not None or objective.floor_per_hour is not None or objective.lost_by
        nearly_all = ", and few events or none never came" if expects else ""
        return f"Every minute of the last {length} was {whole}{nearly_all}."
    if long.n_missing:
        never = "never did, or may have been lost" if objective.lost_by else "that must have been there never did"
        found = f"Of the last {length} {long.n:,} events came, and {long.n_missing:,} {never}"
        return f"{found}: an outage could hide among them."
    return f"Not every minute of the last {length} was {whole}, so nothing in them passes a check."


def _about_cohort(objective: Objective, rule: BurnRule, state: AlertState, reading: AlertReading) -> str:
    assert rule.gap_max is not None
    gap = reading.cohort_gap
    most, who = f"{float(rule.gap_max):.4%}".rstrip("0%").rstrip(".") + "%", objective.cohort
    if state is AlertState.INACTIVE or gap is None:
        return f"{who} is no longer more than {most} worse than everyone."
    own, every = gap.own_bad_ratio, gap.own_bad_ratio - gap.ratio
    return (
        f"Over the last {duration(reading.compared_minutes)} {float(own):.3%} of {who} were bad and {float(every):.3%} "
        f"of everyone's, {float(gap.ratio):.3%} apart where {most} may be; the 95 % interval of that begins at "
        f"{gap.low:.3%}."
    )


def _rates(rule: BurnRule, state: AlertState, reading: AlertReading, factor: Fraction | None) -> str:
    pair = f"{duration(rule.long_minutes)} and {duration(rule.short_minutes)}"
    rates = f"{_rate(reading.long_burn_rate)} and {_rate(reading.short_burn_rate)}"
    said = f"Over the last {pair} the error budget burned {rates} times as fast as the objective allows;"
    if factor is None:
        return said.removesuffix(";") + ", and none of it is left."
    if state is AlertState.INACTIVE:
        return f"{said} no longer both above {float(factor):g}."
    if state is AlertState.PENDING:
        return f"{said} if both stay above {float(factor):g} for {duration(rule.for_minutes)}, it fires."
    if rule.kind is RuleKind.EXHAUSTION:
        assert rule.budget_hours is not None
        soon = f"within {rule.budget_hours} h"
        if reading.renewed_in_minutes is not None and reading.renewed_in_minutes < rule.budget_hours * HOUR_MINUTES:
            soon = "before its period ends"
        return f"{said} above {float(factor):.3g} what is left of it is gone {soon}."
    share = float(factor * rule.long_minutes / reading.window_minutes)
    return (
        f"{said} above {float(factor):g} it loses at least {share:.0%} of the error budget "
        f"within {duration(rule.long_minutes)}."
    )


def _rate(rate: float | None) -> str:
    return "no data" if rate is None else f"{rate:.2f}"


def share_text(ratio: float, places: int = 1) -> str:
    """Returns a ratio in percent with so many decimals, or as many more as it takes: only 1 is 100 %."""
    while ratio < 1 and float(f"{ratio * 100:.{places}f}") == 100 and places < _PLACES_MAX:
        places += 1
    return f"{ratio * 100:.{places}f}%"


def beyond_chance(objective: Objective, rule: BurnRule, reading: AlertReading) -> bool | None:
    """Returns whether chance does not explain the failures of the long window: its 95 % interval lies above what the
    objective allows. None without data, and for rules that are not about failures."""
    if rule.kind not in (RuleKind.BURN_RATE, RuleKind.EXHAUSTION) or reading.long_sli.interval is None:
        return None
    return 1 - reading.long_sli.interval[1] > objective.bad_ratio_max


def _chance(objective: Objective, reading: AlertReading) -> str:
    interval = reading.long_sli.interval
    if interval is None:
        return ""
    low, high = 1 - interval[1], 1 - interval[0]
    span = f"95 % interval of the error ratio, {low:.3%} to {high:.3%}"
    allowed = f"the {float(objective.bad_ratio_max):.3%} that the objective allows"
    if low > objective.bad_ratio_max:
        return f"The {span}, lies above {allowed}: not chance."
    return f"The {span}, includes {allowed}: {reading.long_sli.n} {objective.unit} are too few to rule chance out."


def _suspicion(suspect: Suspect | None) -> str:
    if suspect is None:
        return ""
    if suspect.is_component:
        return f"{share_text(suspect.bad_share, 0)} of what is bad is of the component {suspect.version}."
    said = f"{share_text(suspect.bad_share, 0)} of the failures are of version {suspect.version or '(none given)'}"
    return f"{said}, which came with a deploy." if suspect.first_seen_minute is not None else f"{said}."


def _inexactness(objective: Objective, reading: AlertReading) -> str:
    """Returns how far the truth may be from the rates that were named; nothing where they are exact."""
    long = reading.long_sli
    if not long.n_unsure or long.ratio_upper is None:
        return ""
    least = (1 - long.ratio_upper) / float(objective.bad_ratio_max)
    return (
        f"{long.n_unsure} of the {long.n} events lie in a bucket that holds the threshold and count as bad; if all of "
        f"them were good, the first rate is {least:.2f}."
    )


def _observed(rule: BurnRule, reading: AlertReading) -> str:
    if reading.long_coverage >= 1:
        return ""
    minutes = reading.long_coverage * rule.long_minutes
    return f"Of the last {duration(rule.long_minutes)}, {minutes:g} min were observed."


def _left(reading: AlertReading) -> str:
    left = reading.budget
    if left.remaining_min_ratio is None or left.remaining_max_ratio is None:
        return ""
    if left.remaining_min_ratio == left.remaining_max_ratio:
        return f"{share_text(left.remaining_max_ratio)} of the budget is left."
    why = "its window is not covered yet" if reading.coverage < 1 else "events never came, or may have been lost"
    return f"At most {share_text(left.remaining_max_ratio)} of the budget is left: {why}."


def _exhaustion(reading: AlertReading) -> str:
    """Returns when the most that can be left is gone at the long window's rate."""
    left, rate = reading.budget.remaining_max_ratio, reading.long_burn_rate
    if left is None or not rate:
        return ""
    if left <= 0:
        return "The budget is used up."
    minutes = left * reading.window_minutes / rate
    if reading.renewed_in_minutes is not None and minutes >= reading.renewed_in_minutes:
        return "At this rate it lasts until its period ends."
    return f"At this rate it is gone in {_length(minutes)}."


def _forecast(reading: AlertReading) -> str:
    """Returns when it is gone by the forecast, which knows that an incident may end, with its 80 % interval."""
    coming = reading.forecast
    if coming is None or coming.exhausted:
        return ""
    low, high = (None if hours is None else _length(hours * HOUR_MINUTES) for hours in coming.interval_80_hours)
    if low is None:
        return "By the forecast it lasts."
    when = f"in {low} to {high}" if high is not None else f"in {low} or later, or not at all"
    return f"By the forecast it is gone {when} (80 % interval); within 24 h with {coming.p_exhaust_24h:.0%}."


def _length(minutes: float) -> str:
    if minutes < HOUR_MINUTES:
        return f"{minutes:.0f} min"
    if minutes < 3 * DAY_MINUTES:
        return f"{minutes / HOUR_MINUTES:.1f} h"
    return f"{minutes / DAY_MINUTES:.1f} d"
