"""When an error budget runs out: a known past that rolls off and futures that do not."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from stream.core.columns import Array
from stream.core.statistics.forecast.draws import PATHS
from stream.core.statistics.forecast.futures import Futures, futures

SOON_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What was counted up to now, hour by hour, oldest first; as much of it as there is, the window at least.

    Args:
        total: int64[hours], events.
        bad: int64[hours], bad events.
        covered: bool[hours], whether the hour was observed; counts of other hours are not read.
        counts_per_event: What one independent event adds to the counts: the fixed-point weight of one times the
            mean weight (Σw² ÷ Σw) of sampled events. Only the noise of counting depends on it.
        to_date: Calendar periods: events, and bad ones, of the period up to the last hour. None: those of the hours.
            A period may begin within an hour, or before the first.
    """

    total: Array
    bad: Array
    covered: Array
    counts_per_event: float = 1.0
    to_date: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The hours that share a budget.

    Args:
        hours: Length of the rolling window or of the calendar period.
        hours_left: Calendar periods: hours until the end, in [1, hours]; None: the window rolls.
    """

    hours: int
    hours_left: int | None = None

    @property
    def elapsed_hours(self) -> int:
        """How many hours up to now count."""
        return self.hours - (self.hours_left or 0)

    @property
    def horizon_hours(self) -> int:
        """How far the forecast looks: one whole window, or to the end of the calendar period."""
        return self.hours if self.hours_left is None else self.hours_left


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarBudget:
    """What is left of the budget of a calendar period, as a ratio of the whole; negative: overspent.

    Args:
        forecast_total_ratio: Now, of the budget that the traffic expected by the period's end allows.
        at_end_ratio: At the period's end: lower end of the 80 % interval (what a freeze goes by), median, upper end.
    """

    forecast_total_ratio: float
    at_end_ratio: tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When the budget runs out. Times are hours from now; None: not within the horizon ("never").

    Args:
        exhausted: It has run out already; then all times are 0.
        p_exhaust_24h: Probability that it runs out within 24 hours.
        median_hours: Half of the futures run out before.
        interval_80_hours: The middle 80 % of the futures; where more than 10 % never run out, those from the 20 %
            quantile on: 80 % of the futures either way.
        p_never: Probability that it does not run out within the horizon.
        calendar: Of a calendar period.
    """

    exhausted: bool
    p_exhaust_24h: float
    median_hours: float | None
    interval_80_hours: tuple[float | None, float | None]
    p_never: float
    calendar: CalendarBudget | None = None


def forecast(history: History, period: Period, target: Fraction) -> Forecast | None:
    """Returns when the budget of `period` runs out; None where there is no event. Equal input, equal output.

    The budget is (1 − target) of the events of the whole window or period. Hours of it that were not observed
    count as free of errors, with the mean traffic: a budget of thirty days is not gone with the first bad event of
    a service's first hour.
    """
    assert history.total.shape == history.bad.shape == history.covered.shape
    assert period.hours_left is None or 1 <= period.hours_left <= period.hours
    total, bad, covered = _since_first(history)
    if not total.any():
        return None
    to_come = futures(total, bad, covered, period.horizon_hours, history.counts_per_event)
    past = _past(total, bad, covered, period.elapsed_hours)
    if period.hours_left is None:
        return _rolling(*past, to_come, 1 - target)
    to_date = history.to_date or (int(past[0].sum()), int(past[1].sum()))
    return _calendar(*to_date, to_come, 1 - target)


def hours_to_exhaustion(remaining_ratio: Fraction, burn_rate: Fraction, hours: int) -> Fraction | None:
    """Returns when a budget runs out that goes on burning at one rate, with nothing rolling off; None: never.

    Args:
        remaining_ratio: What is left, as a ratio of the whole budget.
        burn_rate: Error ratio ÷ (1 − target): 1 uses the whole budget in `hours`.
        hours: Length of the window.
    """
    if remaining_ratio <= 0:
        return Fraction(0)
    return remaining_ratio * hours / burn_rate if burn_rate > 0 else None


def _since_first(history: History) -> tuple[Array, Array, Array]:
    start = int(np.argmax(history.covered)) if history.covered.any() else history.covered.size
    covered = history.covered[start:]
    return np.where(covered, history.total[start:], 0), np.where(covered, history.bad[start:], 0), covered


def _past(total: Array, bad: Array, covered: Array, hours: int) -> tuple[Array, Array]:
    """Returns int64[hours] each: the events of the hours that count, oldest first, unobserved hours filled in."""
    mean = round(int(total.sum()) / int(covered.sum()))
    filled = np.full(hours, mean), np.zeros(hours, np.int64)
    known = min(hours, total.size)
    if known:
        filled[0][hours - known :] = np.where(covered, total, mean)[-known:]
        filled[1][hours - known :] = bad[-known:]
    return filled


def _rolling(total: Array, bad: Array, to_come: Futures, bad_ratio_max: Fraction) -> Forecast:
    total_left, bad_left = (_left(hourly, to_come.edges) for hourly in (total, bad))
    over = bad_left + to_come.bad - float(bad_ratio_max) * (total_left + to_come.total)
    return _summary(_exhausted(int(bad.sum()), bad_ratio_max * int(total.sum())), over, to_come.edges)


def _left(hourly: Array, edges: Array) -> Array:
    """Returns what of the past is still in the window at each edge."""
    result: Array = hourly.sum() - np.concatenate(([0], np.cumsum(hourly)))[edges]
    return result


def _calendar(total_now: int, bad_now: int, to_come: Futures, bad_ratio_max: Fraction) -> Forecast | None:
    allowed = float(bad_ratio_max) * (total_now + to_come.total[:, -1:])
    expected = float(np.median(allowed))
    if expected == 0:
        return None
    at_end = np.sort(1 - (bad_now + to_come.bad[:, -1]) / allowed[:, 0])
    budget = CalendarBudget(
        forecast_total_ratio=1 - bad_now / expected,
        at_end_ratio=(_quantile(at_end, 0.1), _quantile(at_end, 0.5), _quantile(at_end, 0.9)),
    )
    return _summary(_exhausted(bad_now, expected), bad_now + to_come.bad - allowed, to_come.edges, budget)


def _exhausted(bad: int, allowed: Fraction | float) -> bool:
    return bad > 0 and bad >= allowed


def _summary(exhausted: bool, over: Array, edges: Array, calendar: CalendarBudget | None = None) -> Forecast:
    hours = np.zeros(PATHS) if exhausted else np.sort(_crossings(over, edges))
    never = _finite(_quantile(hours, 0.9)) is None
    low, high = _quantile(hours, 0.2 if never else 0.1), _quantile(hours, 0.9)
    return Forecast(
        exhausted=exhausted,
        p_exhaust_24h=int(np.count_nonzero(hours <= SOON_HOURS)) / PATHS,
        median_hours=_finite(_quantile(hours, 0.5)),
        interval_80_hours=(_finite(low), _finite(high)),
        p_never=int(np.count_nonzero(np.isinf(hours))) / PATHS,
        calendar=calendar,
    )


def _crossings(over: Array, edges: Array) -> Array:
    """Returns when each future first spends all its budget, between edges by proportion; infinity: never."""
    spent = over[:, 1:] >= 0
    first = np.argmax(spent, axis=1)
    paths = np.arange(PATHS)
    before, after = over[paths, first], over[paths, first + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(before < 0, before / (before - after), 0.0)
    reached = edges[first] + part * (edges[first + 1] - edges[first])
    return np.where(spent[paths, first], reached, np.inf)


def _quantile(values: Array, q: float) -> float:
    return float(values[int(q * PATHS)])


def _finite(hours: float) -> float | None:
    return None if np.isinf(hours) else hours
