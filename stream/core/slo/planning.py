"""What an objective means before it is deployed: its budget, its alerts in time, and what its traffic can show.

Budgets and alerts are exact. An incident here is a constant burn rate at constant traffic that begins after a window
without errors; times count from its begin, or from its end. They are limits: at the named time both sides are equal,
and a rule burns only above its factor.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial
from statistics import NormalDist

import numpy as np

from stream.core.slo.burn_rate import DEFAULT_RULES, BurnRule, RuleKind, rules_for
from stream.core.statistics.intervals import wilson
from stream.core.statistics.sequential import (
    BAD_RATIO_MIN,
    TOTAL_MAX,
    events_until_decidable,
    log_e_value,
    log_threshold,
)
from stream.core.units import DAY_MINUTES, HOUR_MINUTES

TOTAL_OUTAGE = "total_outage"
INCIDENT_BURNS = (10, 5, 2)

ERROR_RATIOS = {"half_budget": Fraction(1, 2), "fifth_budget": Fraction(1, 5)}
"""Versions to be certified fail this share of what their objective allows."""
PROBABILITIES = (0.5, 0.9)
"""Of being certified by the time that is named."""

COMPARISON_ALPHA, COMPARISON_POWER = 0.05, 0.8
"""Of a comparison of two versions: how often it errs where they are alike (two-sided), and sees where they are not."""

_PROBABILITY_MIN = 1e-18
_SIGNIFICANT = 900  # numbers of three significant digits per power of ten
_DECADES = round(-math.log10(BAD_RATIO_MIN))


def incident_burns(bad_ratio_max: Fraction) -> dict[str, Fraction | None]:
    """Returns the burn rates of a total outage and of 10, 5 and 2 times; None where a total outage burns less."""
    worst = 1 / bad_ratio_max
    return {TOTAL_OUTAGE: worst} | {f"x{burn}": Fraction(burn) if burn <= worst else None for burn in INCIDENT_BURNS}


def spent_ratio(burn: Fraction, minutes: Fraction | int, window_minutes: int) -> Fraction:
    """Returns the share of a window's budget that `minutes` at a burn rate cost, at constant traffic."""
    return burn * minutes / window_minutes


def exhausts_minutes(burn: Fraction, window_minutes: int, remaining_ratio: Fraction | int = 1) -> Fraction:
    """Returns how long what is left of the budget lasts at a burn rate."""
    return remaining_ratio * window_minutes / burn


def detect_minutes(rule: BurnRule, factor: Fraction, burn: Fraction) -> Fraction | None:
    """Returns how long an incident lasts before the rule fires; None where it never does.

    After t minutes a window of w minutes burns burn·min(t, w)/w. The short window is above the factor whenever the
    long one is.
    """
    return factor * rule.long_minutes / burn + rule.for_minutes if burn > factor else None


def reset_minutes(rule: BurnRule, factor: Fraction, burn: Fraction) -> Fraction | None:
    """Returns how long after the last error of an incident the rule still burns; None where it never did.

    However long the incident was, the short window ends it: t minutes afterwards it burns burn·(s − t)/s at most.
    """
    return rule.short_minutes * (1 - factor / burn) if burn > factor else None


def exhaustion_detect_minutes(rule: BurnRule, window_minutes: int, burn: Fraction) -> Fraction | None:
    """Returns how long an incident lasts, from a full budget, before the rest would be gone within `budget_hours`.

    None where that never is so. While the incident goes on the long window fills and the budget shrinks; the rule
    burns from where burn·min(t, long)/long exceeds both (window − burn·t)/horizon and 1.
    """
    assert rule.budget_hours is not None, "only an exhaustion rule has a horizon"
    if burn <= 1:
        return None
    long, horizon = rule.long_minutes, rule.budget_hours * HOUR_MINUTES
    exhausted = exhausts_minutes(burn, window_minutes)
    if burn * (long + horizon) >= window_minutes:
        short_enough = exhausted * long / (long + horizon)
    else:
        short_enough = exhausted - horizon
    detected = max(short_enough, long / burn) + rule.for_minutes
    return detected if detected < exhausted else None  # nothing left: nothing to save


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPlan:
    """A burn-rate rule under one objective.

    Args:
        rule: The rule.
        factor: The burn rate above which it burns.
        nominal_factor: That burn rate by its share of the budget alone; below 1 it is sustainable.
        budget_share: What burning at the factor for the long window costs of the budget.
        reachable: A total outage burns faster than the factor.
        detect: Minutes until an incident fires it, by incident; None: never.
        reset: Minutes until it no longer burns after the incident's last error.
    """

    rule: BurnRule
    factor: Fraction
    nominal_factor: Fraction
    budget_share: Fraction
    reachable: bool
    detect: dict[str, Fraction | None]
    reset: dict[str, Fraction | None]

    @property
    def sustainable(self) -> bool:
        """Its share of the budget alone would make it fire on burning that the budget allows for ever."""
        return self.nominal_factor < 1


def alert_plans(rules: Iterable[BurnRule], bad_ratio_max: Fraction, window_minutes: int) -> tuple[AlertPlan, ...]:
    """Returns the plan of every burn-rate rule whose long window fits into the objective's window.

    Source: The Site Reliability Workbook, chapter 5: with burn rate b, factor f and long window w an incident is
    detected after f·w/b.
    """
    return tuple(
        _alert_plan(rule, bad_ratio_max, window_minutes)
        for rule in rules_for(window_minutes, rules)
        if rule.kind is RuleKind.BURN_RATE
    )


def _alert_plan(rule: BurnRule, bad_ratio_max: Fraction, window_minutes: int) -> AlertPlan:
    factor = rule.factor(window_minutes)
    assert factor is not None, "only exhaustion rules depend on what is left"
    burns = incident_burns(bad_ratio_max)
    return AlertPlan(
        rule=rule,
        factor=factor,
        nominal_factor=rule.nominal_factor(window_minutes),
        budget_share=spent_ratio(factor, rule.long_minutes, window_minutes),
        reachable=factor * bad_ratio_max < 1,
        detect={name: burn and detect_minutes(rule, factor, burn) for name, burn in burns.items()},
        reset={name: burn and reset_minutes(rule, factor, burn) for name, burn in burns.items()},
    )


def one_failure_burn(minutes: int, events_per_hour: Fraction, bad_ratio_max: Fraction) -> Fraction:
    """Returns the burn rate of a window with one failure among as many events as it holds, at least that one."""
    return 1 / (_events_in(minutes, events_per_hour) * bad_ratio_max)


def one_failure_exceeds(rule: BurnRule, factor: Fraction, events_per_hour: Fraction, bad_ratio_max: Fraction) -> bool:
    """Returns whether one failure lifts both windows of a rule above a factor."""
    lengths = (rule.long_minutes, rule.short_minutes)
    return all(one_failure_burn(minutes, events_per_hour, bad_ratio_max) > factor for minutes in lengths)


def one_failure_fires(rule: BurnRule, factor: Fraction, events_per_hour: Fraction, bad_ratio_max: Fraction) -> bool:
    """Returns whether one failure fires a rule that asks for evidence where traffic is low.

    The lower 95 % bound of the long window's burn rate has to exceed 1, and the failure to stay in the short window
    for as long as the rule waits.
    """
    lower, _ = wilson(1, float(_events_in(rule.long_minutes, events_per_hour)))
    convinces = lower > bad_ratio_max and rule.for_minutes < rule.short_minutes
    return convinces and one_failure_exceeds(rule, factor, events_per_hour, bad_ratio_max)


def _events_in(minutes: int, events_per_hour: Fraction) -> Fraction:
    return max(Fraction(1), events_per_hour * minutes / HOUR_MINUTES)


def fixed_zero_failure_events(bad_ratio_max: Fraction, alpha: float) -> int:
    """Returns the smallest n at which the one-sided Clopper-Pearson bound of 0 failures is at most `bad_ratio_max`.

    It holds for one look at an n that was fixed beforehand, never for a certificate that is looked at all the time.

    Source: the bound p solves (1 − p)ⁿ = alpha (Clopper and Pearson 1934).
    """
    target = 1 - bad_ratio_max
    log_target = math.log(target) if target < bad_ratio_max else math.log1p(-float(bad_ratio_max))
    return math.ceil(math.log(alpha) / log_target)


def events_to_compare(before: Fraction, after: Fraction) -> int:
    """Returns the events of each of two versions after which one comparison tells their error ratios apart.

    Source: sample size for two proportions with pooled variance: J. L. Fleiss, "Statistical Methods for Rates and
    Proportions", 2nd edition, 1981, formula 3.14.
    """
    p, q = float(before), float(after)
    mean = (p + q) / 2
    alike = NormalDist().inv_cdf(1 - COMPARISON_ALPHA / 2) * math.sqrt(2 * mean * (1 - mean))
    apart = NormalDist().inv_cdf(COMPARISON_POWER) * math.sqrt(p * (1 - p) + q * (1 - q))
    return math.ceil(((alike + apart) / (q - p)) ** 2)


def events_until_certified(
    bad_ratio_max: Fraction, alpha: float, error_ratio: Fraction, probabilities: Sequence[float]
) -> list[int]:
    """Returns after how many events a version is certified with each of the probabilities, by the e-process.

    Args:
        bad_ratio_max: 1 − target.
        alpha: Probability of a false certificate.
        error_ratio: The version's true ratio of bad events, independent of each other; below `bad_ratio_max`.
        probabilities: Ascending, each below 1.
    """
    assert error_ratio < bad_ratio_max, "a version that misses its objective need not ever be certified"
    times = certification_times(bad_ratio_max, alpha, error_ratio)
    found = []
    total, certified = next(times)
    for probability in probabilities:
        while certified < probability:
            total, certified = next(times)
        found.append(total)
    return found


def certification_times(bad_ratio_max: Fraction, alpha: float, error_ratio: Fraction) -> Iterator[tuple[int, float]]:
    """Yields the totals at which a certificate can be issued, and the exact probability that it is by then.

    Failures only lower the e-process and good events raise it, so with k failures it can cross only at the one total
    nₖ where k failures are just few enough, and crosses there if and only if it has not before and exactly k happened.
    """
    total = failures = 0
    certified = 0.0
    waiting = np.ones(1)  # probability of `failures`, `failures` + 1, … failures without a certificate
    while True:
        step = events_until_decidable(failures, total, bad_ratio_max, alpha)
        total += step
        waiting = np.convolve(waiting, _binomial(step, float(error_ratio)))
        certified += float(waiting[0])
        yield total, certified
        last = int(np.flatnonzero(waiting >= _PROBABILITY_MIN)[-1])
        waiting = waiting[1 : max(last + 1, 2)]
        failures += 1


def _binomial(trials: int, ratio: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns the probabilities of 0, 1, … successes, until they no longer matter."""
    probability = math.exp(trials * math.log1p(-ratio))
    assert probability > 0, "the totals at which a certificate can be issued lie close together"
    probabilities = [probability]
    for k in range(trials):
        probability *= (trials - k) / (k + 1) * ratio / (1 - ratio)
        if probability < _PROBABILITY_MIN and k > trials * ratio:
            break
        probabilities.append(probability)
    return np.array(probabilities)


def finest_bad_ratio(events: int, alpha: float) -> Fraction | None:
    """Returns the smallest `bad_ratio_max` that so many events without a failure certify, rounded up to three digits.

    None where even an objective that allows 99.9 % of the events to be bad takes more.
    """
    total = min(events, TOTAL_MAX)
    steps = range(_DECADES * _SIGNIFICANT)
    found = bisect_left(steps, True, key=partial(_decides, total, alpha))
    return _three_digits(found) if found in steps else None


def _decides(total: int, alpha: float, step: int) -> bool:
    return log_e_value(0, total, _three_digits(step)) >= log_threshold(alpha)


def _three_digits(step: int) -> Fraction:
    """Returns the numbers 1.00e-12, 1.01e-12, … 0.999 in order."""
    decade, mantissa = divmod(step, _SIGNIFICANT)
    return Fraction(100 + mantissa, 100 * 10 ** (_DECADES - decade))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One objective under one rate of traffic.

    Args:
        bad_ratio_max: 1 − target, exactly.
        window_minutes: Length of the rolling window.
        events_per_hour: Mean traffic.
        alpha: Probability of a false certificate.
        rules: What may fire.
        delta: Share by which a version's error ratio exceeds what the objective allows, if one asks when that shows.
    """

    bad_ratio_max: Fraction
    window_minutes: int
    events_per_hour: Fraction
    alpha: float
    rules: Sequence[BurnRule] = DEFAULT_RULES
    delta: Fraction | None = None

    @property
    def events(self) -> Fraction:
        """Events in the window."""
        return self.events_per_hour * self.window_minutes / HOUR_MINUTES

    @property
    def budget_minutes(self) -> Fraction:
        """Minutes of total outage that use up the budget."""
        return self.bad_ratio_max * self.window_minutes

    @property
    def budget_events(self) -> Fraction:
        """Bad events that use up the budget."""
        return self.bad_ratio_max * self.events

    @property
    def exhausts(self) -> dict[str, Fraction | None]:
        """Minutes until a full budget is used up, by incident; None where no incident burns so fast."""
        burns = incident_burns(self.bad_ratio_max)
        return {name: burn and exhausts_minutes(burn, self.window_minutes) for name, burn in burns.items()}

    @cached_property
    def alerts(self) -> tuple[AlertPlan, ...]:
        """The burn-rate rules that fit into the window."""
        return alert_plans(self.rules, self.bad_ratio_max, self.window_minutes)

    @property
    def exhaustion_rules(self) -> tuple[BurnRule, ...]:
        """The rules about what is left of the budget."""
        return tuple(r for r in rules_for(self.window_minutes, self.rules) if r.kind is RuleKind.EXHAUSTION)

    @property
    def one_failure_exceeds(self) -> list[str]:
        """Names of the rules whose factor one failure exceeds."""
        return [rule.name for rule, factor in self._factors() if one_failure_exceeds(rule, factor, *self._traffic)]

    @property
    def one_failure_fires(self) -> list[str]:
        """Names of the rules that one failure fires, although they ask for evidence where traffic is low."""
        return [rule.name for rule, factor in self._factors() if one_failure_fires(rule, factor, *self._traffic)]

    @property
    def _traffic(self) -> tuple[Fraction, Fraction]:
        return self.events_per_hour, self.bad_ratio_max

    def _factors(self) -> Iterator[tuple[BurnRule, Fraction]]:
        """Yields the rules with their factors after one failure of a full budget."""
        yield from ((alert.rule, alert.factor) for alert in self.alerts)
        for rule in self.exhaustion_rules:
            factor = rule.factor(self.window_minutes, 1 - 1 / self.budget_events)
            if factor is not None:
                yield rule, factor

    @property
    def one_failure_burn(self) -> Fraction:
        """The burn rate of an hour with one failure."""
        return one_failure_burn(HOUR_MINUTES, self.events_per_hour, self.bad_ratio_max)

    @property
    def finest_bad_ratio(self) -> Fraction | None:
        """The finest objective that one window without a failure certifies."""
        return finest_bad_ratio(int(self.events), self.alpha)

    @property
    def zero_failure_events(self) -> int:
        """Events without a failure after which a version is certified."""
        return events_until_decidable(0, 0, self.bad_ratio_max, self.alpha)

    @cached_property
    def certified_events(self) -> dict[str, list[int]]:
        """Events after which a version is certified with `PROBABILITIES`, by its true error ratio."""
        return {
            name: events_until_certified(self.bad_ratio_max, self.alpha, share * self.bad_ratio_max, PROBABILITIES)
            for name, share in ERROR_RATIOS.items()
        }

    @property
    def compared_events(self) -> int | None:
        """Events of each version that tell `delta` apart; None where none is given, or nothing can be so bad."""
        if self.delta is None or (1 + self.delta) * self.bad_ratio_max >= 1:
            return None
        return events_to_compare(self.bad_ratio_max, (1 + self.delta) * self.bad_ratio_max)

    def days(self, events: int) -> Fraction:
        """Returns how many days so many events take."""
        return Fraction(events * HOUR_MINUTES, DAY_MINUTES) / self.events_per_hour
